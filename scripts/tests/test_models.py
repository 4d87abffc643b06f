"""Tests of the model kit that need seconds: file formats, key names, graph rewriting, refusals. What needs a model's
arithmetic is proven by the commands ``verify``, ``check``, ``official`` and ``variants``.

    scripts/test-python.sh
"""
from __future__ import annotations

import copy
import importlib.util
import json
import re
import tempfile
import tomllib
import unittest
import unittest.mock
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from jetbench_models import clips
from jetbench_models.check import runtimes, verify
from jetbench_models.clips import heldout, prompts
from jetbench_models.command import Refused
from jetbench_models.pack import half, limits, loop, reference

torch = None
if importlib.util.find_spec("torch"):     # what only the exporter needs; a broken import of ours must not look like a missing package
    import torch

    from jetbench_models.export import command, fused, golden, manifest, presence
    from jetbench_models.export.graphs import geometry, signatures
    from jetbench_models.models import miniature, released, session


def graph(nodes: list, weights: dict[str, np.ndarray], opset: int = 20) -> onnx.ModelProto:
    """A model with float input x [2,2] and output y [2,2]."""
    port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2])
    model = helper.make_model(helper.make_graph(nodes, "g", [port("x")], [port("y")], [
        numpy_helper.from_array(value, name) for name, value in weights.items()]),
        opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    return model


SCRIPTS = Path(__file__).parents[1]
PACKS = Path(__file__).parents[2] / "assets" / "packs"
SQUARE = np.array([[1.0, 2.0], [3.0, 4.001]], np.float32)


class Precision(unittest.TestCase):
    def product(self) -> onnx.ModelProto:
        """y = x @ (w @ w): one product that depends on the input, one that does not."""
        return graph([helper.make_node("MatMul", ["w", "w"], ["c"]), helper.make_node("MatMul", ["x", "c"], ["y"])],
                     {"w": SQUARE})

    def test_only_products_that_depend_on_an_input_become_half(self):
        made = half.to_half(self.product(), "fp16")
        half.check(made)
        products = [n for n in made.graph.node if n.op_type == "MatMul"]
        self.assertEqual(list(products[0].input), ["w", "w"])
        self.assertTrue(all(name.endswith("_fp16") for name in products[1].input))
        self.assertEqual(made.graph.output[0].type.tensor_type.elem_type, TensorProto.FLOAT)

    def test_weights_are_stored_once(self):
        made = half.to_half(graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": SQUARE}), "bf16")
        self.assertEqual([t.data_type for t in made.graph.initializer], [TensorProto.BFLOAT16])

    def test_emulation_rounds_operands_and_result(self):
        made = half.to_half(graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": SQUARE}), "fp16")
        session = ort.InferenceSession(half.emulate(made).SerializeToString(), providers=["CPUExecutionProvider"])
        x = np.array([[0.1, 1.0], [2.0, 3.0]], np.float32)
        (found,) = session.run(None, {"x": x})
        wanted = (x.astype(np.float16).astype(np.float32) @ SQUARE.astype(np.float16).astype(np.float32)).astype(np.float16)
        np.testing.assert_array_equal(found, wanted.astype(np.float32))

    def test_products_without_an_input_stay_as_they_are(self):
        made = half.emulate(half.to_half(self.product(), "bf16"))
        half.check(made)
        self.assertEqual(list(made.graph.node[0].input), ["w", "w"])

    def test_the_shipped_graphs_load_in_every_type(self):
        for root in sorted(PACKS.iterdir()):
            if "memory" not in tomllib.loads((root / "pack.toml").read_text()):     # no tracker: test_detector, test_labels
                continue
            for dtype in half.IR_VERSION:
                pack = loop.Pack(root, dtype)
                self.assertEqual(sorted(pack.sessions), sorted(g["name"] for g in pack.about["graph"]))

    def test_bfloat16_rounds_ties_to_even(self):
        exact, tie_down, tie_up = 0x3F800000, 0x3F808000, 0x3F818000
        values = np.array([exact, tie_down, tie_up], np.uint32).view(np.float32)
        self.assertEqual(half.bf16_bits(values).tolist(), [0x3F80, 0x3F80, 0x3F82])

    def test_weights_beyond_half_are_refused(self):
        with self.assertRaisesRegex(ValueError, "65504"):
            half.half_tensor("w", np.array([7e4], np.float32), "fp16")


class Check(unittest.TestCase):
    def faults(self, node: onnx.NodeProto, opset: int = 20, ir: int = 9) -> list[str]:
        model = graph([node], {"w": SQUARE}, opset)
        model.ir_version = ir
        return runtimes.faults(model, "fp32")

    def test_a_plain_graph_has_none(self):
        self.assertEqual(self.faults(helper.make_node("MatMul", ["x", "w"], ["y"])), [])

    def test_each_fault_is_named(self):
        cases = {"custom operator com.x.Fast": helper.make_node("Fast", ["x"], ["y"], domain="com.x"),
                 "Unique is not in the list": helper.make_node("Unique", ["x"], ["y"]),
                 "Resize with mode": helper.make_node("Resize", ["x", "", "w"], ["y"], mode="cubic"),
                 "input 1 of Unsqueeze is not a constant": helper.make_node("Unsqueeze", ["w", "x"], ["y"])}
        for text, node in cases.items():
            self.assertIn(text, " ".join(self.faults(node)))

    def test_versions(self):
        plain = helper.make_node("MatMul", ["x", "w"], ["y"])
        self.assertIn("opset 21, at most 20", self.faults(plain, opset=21))
        self.assertIn("IR version 10, at most 9", self.faults(plain, ir=10))


class Limits(unittest.TestCase):
    @staticmethod
    def track(scores: list[float], value: float = 1.0) -> reference.Expected:
        count = len(scores)
        logits = np.full((count, 4, 4), value)
        return reference.Expected("c", 1, prompts.TrackPrompt("points"), logits, np.array(scores), np.ones((count, 3)),
                                  logits > 0, None)

    def test_they_are_those_of_the_program(self):
        """The runner has defaults for references that say nothing, and ceilings; both sides must know the same numbers."""
        text = (SCRIPTS.parent / "runners/src/study/limits.rs").read_text()
        for table, known in (("CEILINGS", limits.CEILINGS), ("INT8_CEILINGS", limits.INT8_CEILINGS)):
            for name, value in known.items():
                self.assertEqual(value, float(re.search(rf"const {table}: .*?\b{name}: ([0-9e.-]+)", text, re.S)[1]), name)
        for name in ("prompted", "typical", "systematic"):
            self.assertEqual(limits.FLOORS[name], float(re.search(rf"fn {name}\(\) -> f64 {{\s+([0-9e.-]+)", text)[1]), name)

    def test_limits_grow_with_the_spread_up_to_the_ceilings(self):
        self.assertEqual(limits.tolerance({}), limits.FLOORS)
        self.assertEqual(limits.tolerance({"low_res": 9.7e-4})["low_res"], 7.8e-3)
        self.assertEqual(limits.tolerance(dict.fromkeys(limits.FLOORS, 1.0)), limits.CEILINGS)

    def test_the_spread_tells_what_stays_from_what_comes_and_goes(self):
        good = [1.0] * 6 + [-1.0] * 2
        one, other = self.track(good), self.track(good)
        other.low_res[3, 0, 0] += 0.5
        other.obj_ptr[4] += 0.1
        found = limits.spread([one], [other], ["points"])
        self.assertEqual((found["low_res"], found["systematic"], found["typical"], found["prompted"]), (0.5, 0.0, 0.0, 0.0))
        other.obj_ptr[:, 0] += 0.01
        found = limits.spread([one], [other], ["points"])
        self.assertAlmostEqual(found["systematic"], 0.01 / 3 ** 0.5)

    def test_what_a_reference_lacks_is_named(self):
        good = [1.0] * 5 + [-1.0] * 2
        for points, box, same, said in (([-1.0, *good[1:]], good, False, "absent on the prompted frame"),
                                        ([*good[:4], -1.0, -1.0, -1.0], good, False, "points: 3 tracked frames with"),
                                        (good, [*good[:5], 1.0, -1.0], False, "bbox: 1 tracked frames without"),
                                        (good, good, True, "bit for bit")):
            tracks = [("c", "points", self.track(points)), ("c", "bbox", self.track(box, 1.0 if same else 2.0))]
            (missing,) = limits.lacks(tracks, ("points", "bbox"))
            self.assertIn(said, missing)
        tracks = [("c", "points", self.track(good)), ("c", "bbox", self.track(good, 2.0))]
        self.assertEqual(limits.lacks(tracks, ("points", "bbox")), [])

    @unittest.skipUnless(torch, "needs the exporter's packages")
    def test_a_threshold_has_enough_frames_on_either_side(self):
        scores = np.array([9.0, 1.0, 2.0, 3.0, 4.0, 7.0, 8.0])
        threshold, gap = presence.choose([("points", scores), ("mask", np.concatenate([[0.0], scores[1:]]))])
        self.assertEqual((threshold, gap), (2.5, 0.5))
        self.assertIsNone(presence.choose([("points", np.concatenate([[0.0], scores[1:]]))]), "the prompted frame lies below")


class CpuForms(unittest.TestCase):
    def test_they_compute_what_the_plain_graphs_compute(self):
        seen = 0
        for root in sorted(PACKS.iterdir()):
            about = tomllib.loads((root / "pack.toml").read_text())
            for entry in runtimes.with_cpu_form(about):
                sessions = [ort.InferenceSession(str(root / file), providers=["CPUExecutionProvider"])
                            for file in (entry["files"]["fp32"], entry["cpu"]["file"])]
                self.assertEqual(*([(p.name, p.shape) for p in s.get_inputs() + s.get_outputs()] for s in sessions))
                for age in (1, 2, 5, 7, 8, 16, 40):        # one memory, some, all of them, all pointers
                    values = runtimes.inputs_for(entry, objects=2, seed=age)
                    if "age" in values:
                        values["age"][:] = age
                    for plain, cpu in zip(*(s.run(None, values) for s in sessions)):
                        np.testing.assert_allclose(cpu, plain, atol=2e-5, err_msg=f"{root.name} {entry['name']} age {age}")
                    seen += 1
        self.assertGreaterEqual(seen, 14, "both trackers have such forms")

    @unittest.skipUnless(torch, "PyTorch is not installed")
    def test_the_miniatures_encoder_has_none(self):
        self.assertEqual(set(fused.forms(miniature.build("sam2"))), {"memory_attention"})
        self.assertFalse(fused.is_narrow(SimpleNamespace(config=released.config("sam2.1_tiny"))))

    def test_other_operators_of_the_runtime_are_refused(self):
        node = helper.make_node("GroupQueryAttention", ["x"], ["y"], domain="com.microsoft", name="a")
        self.assertIn("GroupQueryAttention", runtimes.faults(graph([node], {}), "cpu")[0])


class Formats(unittest.TestCase):
    def test_run_lengths_survive(self):
        for mask in (np.zeros((3, 4), bool), np.ones((3, 4), bool), np.eye(4, dtype=bool)):
            np.testing.assert_array_equal(prompts.from_run_lengths(prompts.run_lengths(mask), *mask.shape), mask)

    def test_resize_of_the_same_size_changes_nothing(self):
        image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
        np.testing.assert_array_equal(loop.resize_u8(image, 5, 7), image)

    def test_a_gated_memory_is_left_as_it_was_object_by_object(self):
        class Pack:
            shapes: ClassVar = {"bank": (1, 7, 2, 3), "ptrs": (1, 4, 3), "age": (1,)}
            grows = False

            def run(self, graph, **inputs):
                return {f"{name}_out": inputs[name] + 1 for name in self.shapes}

        # worth: 0.9 x 0.5; nothing, because the score is negative; 0.9 x 0.005, which is no more than 0.01
        out = {"mask_for_memory": np.zeros(3), "obj_ptr": np.zeros((3, 2), np.float32), "low_res_mask": np.zeros((3, 1, 2, 2)),
               "object_score": np.array([[3], [-1], [3]], np.float32), "predicted_iou": np.array([[0.5], [0.9], [0.005]], np.float32)}
        for threshold, is_prompt, ages in ((0.01, False, [1, 0, 0]), (0.01, True, [1, 1, 1]), (None, False, [1, 1, 1]),
                                           (0.0, False, [1, 0, 1])):
            track = loop.Track.join([loop.Track(Pack(), threshold=threshold) for _ in range(3)])
            track._remember({"image_embed": np.zeros(1)}, out, is_prompt)
            self.assertEqual(track.state["age"].tolist(), ages)
            for name in ("bank", "ptrs"):
                self.assertEqual([value.mean() for value in track.state[name]], ages, (name, threshold))

    def test_held_out_clips_have_the_same_masks_in_either_layout(self):
        with tempfile.TemporaryDirectory() as folder:
            roots = {layout: Path(folder) / layout for layout in ("sa-v", "vipseg")}
            for layout, root in roots.items():
                heldout.draw("hard", 1, 3, 64, 5, root, layout)
            truth = json.loads((roots["vipseg"] / "panoptic_gt_VIPSeg_val.json").read_text())
            self.assertEqual({of["id"]: (of["name"], of["isthing"]) for of in truth["categories"]}, {0: ("rest", 0), 1: ("object", 1)})
            (video,) = truth["annotations"]
            self.assertEqual(len(video["annotations"]), 3)
            objects = sorted((roots["sa-v"] / "Annotations_6fps/hard_000").iterdir())
            self.assertGreaterEqual(len(objects), 2)
            for frame in video["annotations"]:
                ids = np.asarray(Image.open(roots["vipseg"] / "panomasksRGB/hard_000" / frame["file_name"])).astype(int) @ [1, 256, 65536]
                for number, of in enumerate(objects, 2):
                    self.assertTrue(((np.asarray(Image.open(of / frame["file_name"])) > 0) == (ids == number)).all())
                areas = {of["id"]: of["area"] for of in frame["segments_info"]}
                self.assertEqual(areas, {n: int((ids == n).sum()) for n in np.unique(ids)})
                self.assertTrue(all(of["category_id"] == (of["id"] > 1) for of in frame["segments_info"]))

    def test_two_runs_are_compared_video_by_video(self):
        def item(*seen: tuple[bool, float]) -> dict:
            return {"prompt_frame": 0, "per_frame": [{"frame": t, "visible": visible, "j": j} for t, (visible, j) in enumerate(seen)]}

        # back on frames 3 and 4, gone, back on 6; the stretches count alike
        found = heldout.after_return(item((True, 90), (True, 80), (False, 0), (True, 40), (True, 60), (False, 100), (True, 100)))
        self.assertEqual(found, 75)
        self.assertIsNone(heldout.after_return(item((True, 90), (True, 80), (False, 0))))
        for freedom, quantile in ((5, 2.5706), (9, 2.2622), (23, 2.0687)):
            self.assertAlmostEqual(heldout.student_975(freedom), quantile, delta=3e-3)
        # six videos of one object: a mean change of 2, deviations of 1, standard error sqrt(6 / 5 * 6) / 6
        pairs = [[(50.0, 50.0 + change)] for change in (1, 3, 1, 3, 1, 3)]
        found = heldout.change(pairs)
        self.assertEqual((found["objects"], found["first"], found["change"]), (6, 50, 2))
        self.assertAlmostEqual(found["interval"][0], 2 - 2.5706 * (6 / 5 * 6) ** 0.5 / 6, delta=0.02)
        self.assertIsNone(heldout.change(pairs[:4])["interval"])
        self.assertEqual(heldout.change([[], []]), {"objects": 0})

    def test_another_mask_taken_is_a_failure(self):
        tolerance = {"low_res": 1, "object_score": 1, "obj_ptr": 1, "mask_pixels": 1}
        self.assertTrue(verify.Gap(0, 0, 0, 0, 0).within(tolerance))
        self.assertTrue(verify.Gap(0, 0, 0, 0, None).within(tolerance))
        self.assertFalse(verify.Gap(0, 0, 0, 0, 1).within(tolerance))

    def test_a_pack_without_time_takes_as_many_objects_as_before(self):
        root = PACKS / "edgetam_mini"
        for objects in (1, 2):
            pack = loop.Pack(root, objects=objects)
            changed = verify.drop_temporal_encoding(pack, root, objects)
            entry = next(g for g in pack.about["graph"] if g["name"] == "memory_attention")
            inputs = runtimes.inputs_for(entry, objects)
            before, after = (p.run("memory_attention", **inputs)["cond_embed"] for p in (pack, changed))
            self.assertEqual((before.shape, after.shape), ((objects, *before.shape[1:]),) * 2)
            self.assertFalse(np.array_equal(before, after))

    def test_a_decoder_without_a_choice_is_refused(self):
        with self.assertRaises((RuntimeError, ValueError)):
            loop._reveal_choice(graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": SQUARE}))


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Checkpoints(unittest.TestCase):
    def test_official_names(self):
        pairs = {
            "image_encoder.trunk.blocks.3.mlp.layers.1.weight": "vision_encoder.backbone.blocks.3.mlp.proj_out.weight",
            "image_encoder.trunk.blocks.0.norm2.bias": "vision_encoder.backbone.blocks.0.layer_norm2.bias",
            "image_encoder.neck.convs.2.conv.weight": "vision_encoder.neck.convs.2.weight",
            "memory_attention.layers.1.cross_attn_image.out_proj.bias": "memory_attention.layers.1.cross_attn_image.o_proj.bias",
            "memory_encoder.mask_downsampler.encoder.10.weight": "memory_encoder.mask_downsampler.layers.3.layer_norm.weight",
            "memory_encoder.mask_downsampler.encoder.12.bias": "memory_encoder.mask_downsampler.final_conv.bias",
            "memory_encoder.fuser.layers.0.gamma": "memory_encoder.memory_fuser.layers.0.scale",
            "memory_encoder.out_proj.weight": "memory_encoder.projection.weight",
            "sam_mask_decoder.iou_prediction_head.layers.2.weight": "mask_decoder.iou_prediction_head.proj_out.weight",
            "sam_mask_decoder.transformer.layers.0.mlp.layers.0.bias": "mask_decoder.transformer.layers.0.mlp.proj_in.bias",
            "obj_ptr_proj.layers.1.weight": "object_pointer_proj.layers.0.weight",
            "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
            "image_encoder.neck.convs.0.conv_3x3.weight": "vision_encoder.neck.conv2.weight",       # EfficientTAM's
        }
        for official, ours in pairs.items():
            self.assertEqual(released.rename(official, "sam2"), ours)
        self.assertEqual(released.rename("memory_attention.layers.0.linear2.bias", "edgetam"),
                         "memory_attention.layers.0.mlp.down_proj.bias")
        self.assertEqual(released.rename("spatial_perceiver.layers.1.self_ff.3.weight", "edgetam"),
                         "spatial_perceiver.layers.1.self_mlp.down_proj.weight")

    def test_what_does_not_fit_is_named(self):
        model = torch.nn.Linear(2, 3)
        with self.assertRaises(released.DoesNotFit) as caught:
            released.put(model, {"weight": torch.zeros(3, 5), "extra": torch.zeros(1)}, "here")
        text = str(caught.exception)
        for part in ("bias", "extra", "weight: [3, 5] in the checkpoint, [3, 2] in the model"):
            self.assertIn(part, text)

    def test_every_architecture_is_written_in_the_official_form_and_read_back(self):
        for name in set(released.NAMES) - set(released.sam3.NAMES):      # whose official form is not known here
            with torch.device("meta"):
                state = released.empty(released.config(name, 256)).state_dict()
            numbered = {key: torch.arange(4.0).reshape(4, 1) if key.endswith("point_embed.weight") else torch.full((2,), float(i))
                        for i, key in enumerate(state)}
            efficient = name in released.efficienttam.NAMES
            if efficient:                                           # its first row is not kept
                numbered["vision_encoder.backbone.pos_embed"] = torch.arange(2.0 * 14 * 14).reshape(1, 2, 14, 14)
            numbered["prompt_encoder.shared_embedding.positional_embedding"] = numbered["shared_image_embedding.positional_embedding"]
            official = released.to_official(numbered, released.official_keys(numbered))
            self.assertIn(f"image_encoder.neck.convs.0.conv{'_1x1' * efficient}.weight", official)
            self.assertIn("memory_attention.layers.1.self_attn.out_proj.bias", official)
            self.assertIn("sam_mask_decoder.transformer.layers.1.norm4.weight", official)
            back = released.from_official(official)
            self.assertEqual(sorted(back), sorted(state), name)
            self.assertTrue(all(torch.equal(back[key], numbered[key]) for key in state), name)

    def test_sizes_that_an_architecture_cannot_have(self):
        for name, size in (("sam2.1_tiny", 1000), ("edgetam", 640), ("sam2_large", 0), ("efficienttam_ti", 144)):
            with self.assertRaisesRegex(released.DoesNotFit, "multiples"):
                released.config(name, size)

    def test_names_give_the_public_sizes(self):
        self.assertEqual(len(released.NAMES), 9 + 8 + 2)
        for name in set(released.NAMES) - set(released.efficienttam.NAMES):        # which no configuration is published of
            self.assertEqual(released._recognise(released.config(name)), name)

    def test_files_that_are_no_checkpoints(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pt"
            path.write_bytes(b"not a checkpoint")
            with self.assertRaisesRegex(released.DoesNotFit, "not a torch checkpoint"):
                released.load(path)
            torch.save({"model": {"a": torch.zeros(1)}}, path)
            with self.assertRaisesRegex(released.DoesNotFit, "no released model"):
                released.load(path)
            with self.assertRaisesRegex(released.DoesNotFit, "model.safetensors"):
                released.load(Path(folder))
            (Path(folder) / "model.safetensors").write_bytes(b"cut off")
            with self.assertRaisesRegex(released.DoesNotFit, "not a safetensors file"):
                released.load(Path(folder) / "model.safetensors")
            for config, part in (("{", "config.json: "), ('{"model_type": "sam2_video"}', "not a safetensors file")):
                (Path(folder) / "config.json").write_text(config)
                with self.assertRaisesRegex(released.DoesNotFit, part):
                    released.load(Path(folder))
            with self.assertRaisesRegex(released.DoesNotFit, "no such file"):
                released.load(Path(folder) / "missing")

    def test_a_pack_names_no_directories(self):
        words = command.recorded(["--checkpoint", "/home/me/a.pt", "--out", "/tmp/p"], "p")
        self.assertEqual(words, "python -m jetbench_models export --checkpoint a.pt --out p")

    def test_logits_survive_within_half_a_step(self):
        logits = np.random.default_rng(1).normal(0, 5, (2, 8, 8)).astype(np.float32)
        back = reference.decode_logits(reference.encode_logits(logits), [2, 8, 8], reference.QUANTUM)
        self.assertLessEqual(np.abs(back - logits).max(), reference.QUANTUM / 2)


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Follows(unittest.TestCase):
    """A mask prompt and one tracked frame, the graphs' modules against the session, in both ways to treat a mask prompt."""

    SIZE = 256

    def setUp(self):
        torch.manual_seed(0)
        mask = np.zeros((self.SIZE, self.SIZE), bool)
        mask[90:150, 80:170], mask[30, 20:200] = True, True        # a line of one pixel is lost at a quarter of the size
        frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
        self.frames = frames.repeat(self.SIZE // 4, 1).repeat(self.SIZE // 4, 2)
        self.prompt = prompts.derive(mask, "mask")

    def random(self, family: str) -> torch.nn.Module:
        model = miniature.build(family, self.SIZE).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, weight[0].numel() ** -0.5)
        return model

    @staticmethod
    def run_graphs(model: torch.nn.Module, pixels: torch.Tensor, mask: torch.Tensor, official: bool) -> tuple:
        """(pointer of the prompted frame, memory of the prompted frame, logits of the tracked frame)"""
        made = {name: s.module(model).eval() for name, s in signatures.signatures(geometry.Geometry.of(model), official=official).items()}
        g, one = geometry.Geometry.of(model), torch.ones(1)
        coords, labels = torch.zeros(1, 4, 2), torch.tensor([[-1, -10, -10, -10]], dtype=torch.int32)
        with torch.no_grad():
            embed, fine, middle = made["image_encoder"](pixels[:1])
            dense, _, memory, score = made["mask_prompt"](mask)
            pointer = made["mask_decoder"](embed, fine, middle, coords, labels, dense, one, one, one)[4]
            state = (torch.zeros(1, g.slots, g.memory_tokens, g.memory_channels), torch.zeros(1, g.pointers, g.channels), 0 * one)
            state = made["memory_encoder"](embed, memory, score, pointer, one, *state)
            embed, fine, middle = made["image_encoder"](pixels[1:])
            cond = made["memory_attention"](embed, *state)
            out = made["mask_decoder"](cond, fine, middle, coords, labels, 0 * dense, 0 * one, 0 * one, one)
        return pointer[0].numpy(), state[0][0, 0].numpy(), out[0][0, 0].numpy()

    def test_the_graphs_do_as_the_session_in_both_ways(self):
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = ((torch.from_numpy(self.frames) / 255 - mean) / std).permute(0, 3, 1, 2)
        mask = torch.from_numpy(self.prompt.mask)[None, None].float()
        for family in ("sam2", "edgetam"):
            model, found = self.random(family), {}
            presence.apply(model, presence.Balance(100.0))         # present on both frames
            for official in (False, True):
                (wanted,) = session.run_session(model, self.frames, [self.prompt], official)
                pointer, _, logits = found[official] = self.run_graphs(model, pixels, mask, official)
                np.testing.assert_allclose(pointer, wanted.obj_ptr[0], atol=1e-4)
                np.testing.assert_allclose(logits, wanted.low_res[1], atol=1e-3)
            for what in range(2):      # random weights see little of a memory in the logits
                self.assertGreater(np.abs(found[True][what] - found[False][what]).max(), 1e-2, f"{family}, output {what}")
            rounded = torch.from_numpy(found[True][1])
            self.assertTrue(torch.equal(rounded, rounded.bfloat16().float()))

    def test_frames_are_encoded_once(self):
        """The exporter balances random weights on the clip that becomes the reference."""
        model, calls = self.random("edgetam"), []
        clip = golden.Clip("c", self.frames, self.prompt.mask[None, None].repeat(2, 1).astype(np.uint8))
        model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
        first, again = (golden.run_clips(model, [clip], ("points", "mask"), features=features)
                        for features in [{"c": {}}] for _ in range(2))
        self.assertEqual(len(calls), 2)
        np.testing.assert_array_equal(first[0][0].low_res, again[0][0].low_res)

    def test_a_reference_that_shows_too_little_is_refused(self):
        clip = golden.Clip("c", self.frames, self.prompt.mask[None, None].repeat(2, 1).astype(np.uint8))
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(Refused, "too little.*at least 4.*--clip-seed"):
            list(golden.write_golden(self.random("edgetam"), Path(folder), Path(folder) / "f", [clip], "", {}))

    def test_the_session_is_compared_with_itself_in_other_kernels(self):
        model, threads = self.random("edgetam"), torch.get_num_threads()
        clip = golden.Clip("c", self.frames, self.prompt.mask[None, None].repeat(2, 1).astype(np.uint8))
        presence.apply(model, presence.Balance(100.0))
        references = golden.run_clips(model, [clip], ("points",))
        found = golden.own_spread(model, [clip], references, ("points",))
        self.assertEqual((found.keys(), torch.get_num_threads()), (limits.FLOORS.keys(), threads))
        self.assertTrue(0 < found["typical"] < 1e-4 and found["low_res"] < 1e-2, found)

    def test_random_weights_are_balanced_until_their_reference_shows_enough(self):
        model, clip = self.random("edgetam"), golden.leaving_clip(self.SIZE, 12)
        again = copy.deepcopy(model)
        done, (references,) = presence.balance_presence(model, [clip])
        tracks = [("c", kind, r) for kind, r in zip(clips.KINDS, references)]
        self.assertEqual(limits.lacks(tracks, clips.KINDS), [])
        presence.apply(again, done)
        for ours, theirs in zip(again.parameters(), model.parameters()):
            np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=2e-5, err_msg="what the notes say makes these weights")
        spread = dict.fromkeys(limits.FLOORS, 0.0) | {"low_res": 4e-4}
        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.object(golden, "own_spread", return_value=spread):
            out = Path(folder)
            *_, last = golden.write_golden(model, out, out / "frames", [clip], "", {}, references=[references])
            self.assertIn("PyTorch against itself", last)
            index = json.loads((out / "golden.json").read_text())
            self.assertEqual(index["tolerance"], limits.tolerance(index["spread"]))
            self.assertEqual(index["tolerance"]["low_res"], 3.2e-3)
            (out / "pack.toml").write_text("tolerance = 9\n[golden]\nindex = \"x\"\ntolerance = 1\n")
            (out / "reference").symlink_to(out)
            self.assertEqual(golden.promise(out), index["tolerance"]["low_res"])
            self.assertIn(f"tolerance = 9\n[golden]\nindex = \"x\"\ntolerance = {golden.promise(out)}\n", (out / "pack.toml").read_text())

    def test_a_session_is_left_as_it_was(self):
        model = self.random("edgetam")
        before = session.run_session(model, self.frames, [self.prompt])[0]
        session.run_session(model, self.frames, [self.prompt], official=True)
        np.testing.assert_array_equal(before.low_res, session.run_session(model, self.frames, [self.prompt])[0].low_res)

    def test_no_graph_asks_for_a_size(self):
        """Shape operators run on the CPU in a CUDA session; the forms for the CPU provider may have them."""
        for path in sorted(p for p in PACKS.glob("*/*/*.onnx") if not p.name.endswith(".cpu.onnx")):
            asking = [n.name for n in onnx.load(path).graph.node if n.op_type in ("Shape", "Size")]
            self.assertEqual(asking, [], path.relative_to(PACKS))

    def test_a_manifest_says_whom_the_pack_follows(self):
        g = geometry.Geometry.of(miniature.build("edgetam", self.SIZE))
        about = dict(checkpoint_sha256="", command="", libraries={}, notes="")
        digests = {name: {"fp32": ""} for name in signatures.signatures(g)}
        for follows, storage in (("transformers", "fp32"), ("official", "bf16_rounded")):
            made = tomllib.loads(manifest.manifest("p", "edgetam", "", g, about, digests, None, follows=follows))
            self.assertEqual((made["provenance"]["follows"], made["memory"]["storage"]), (follows, storage))

    def test_a_manifest_says_that_a_pack_is_a_test_model(self):
        g = geometry.Geometry.of(miniature.build("edgetam", self.SIZE))
        about = dict(checkpoint_sha256="", command="", libraries={}, notes="")
        digests = {name: {"fp32": ""} for name in signatures.signatures(g)}
        for test_model, name in ((True, "EdgeTAM"), (False, None)):
            made = tomllib.loads(manifest.manifest("p", "edgetam", "", g, about, digests, None, test_model=test_model))
            self.assertEqual(made.get("test_model_of"), name)
        for pack, name in (("sam2_mini", "SAM 2"), ("edgetam_mini", "EdgeTAM")):
            self.assertEqual(tomllib.loads((PACKS / pack / "pack.toml").read_text())["test_model_of"], name)


if __name__ == "__main__":
    unittest.main()
