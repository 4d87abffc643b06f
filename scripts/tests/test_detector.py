"""Tests of the detector's half of the model kit: boxes, sets of rows, key names, what must not be in its graph, the shipped pack.

    scripts/test-python.sh
"""
from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from jetbench_models.check import detections as verify
from jetbench_models.check import placement, recall
from jetbench_models.clips import boxes
from jetbench_models.clips.boxes import Drawn
from jetbench_models.command import Refused
from jetbench_models.export import channels
from jetbench_models.pack import detections, half
from jetbench_models.pack.detections import Answer

torch = None
if importlib.util.find_spec("torch"):
    import torch

    from jetbench_models import __main__ as kit
    from jetbench_models.export import convert, gaps
    from jetbench_models.export import detector as export
    from jetbench_models.export.graphs.detector import BORDER, Detector, Stem
    from jetbench_models.export.graphs.signatures import Signature
    from jetbench_models.models import DoesNotFit
    from jetbench_models.models import detector as models
    from jetbench_models.pack.ports import Port
    from jetbench_models.train import detector as training

PACK = Path(__file__).parents[2] / "assets" / "packs" / "dfine_mini"


def model_of(nodes: list, weights: dict[str, np.ndarray], shape: list[int], out: list[int], opset: int = 18) -> onnx.ModelProto:
    port = lambda name, sizes: helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
    made = helper.make_model(helper.make_graph(nodes, "g", [port("x", shape)], [port("y", out)], [
        numpy_helper.from_array(value, name) for name, value in weights.items()]), opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 9
    return made


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {model.graph.input[0].name: x})[0]


class Boxes(unittest.TestCase):
    def test_a_box_reaches_from_edge_to_edge_and_what_is_hardly_seen_is_no_target(self) -> None:
        masks = np.zeros((3, 50, 100), np.uint8)
        masks[0, 10:20, 30:50] = 1
        masks[1, 0, 99] = 1                  # 1 of 5,000 pixels
        targets, small = boxes.boxes_of(masks)
        np.testing.assert_allclose(targets, [[0.3, 0.2, 0.5, 0.4]], rtol=1e-6)
        np.testing.assert_allclose(small, [[0.99, 0.0, 1.0, 0.02]], rtol=1e-6)

    def test_training_frames_are_a_function_of_the_seed_and_their_boxes_lie_on_the_objects(self) -> None:
        bank = boxes.TextureBank(7, size=8)
        one, two = (boxes.training_frame(np.random.default_rng(5), bank, 64, 0.0, 0.0) for _ in range(2))
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        self.assertEqual(one.image.shape, (64, 64, 3))
        self.assertTrue(len(one.boxes) and (one.boxes >= 0).all() and (one.boxes <= 1).all())

    def test_hits_and_false_positives_are_counted_once_each(self) -> None:
        frame = Drawn(np.zeros((1, 1, 3), np.uint8), np.array([[0.0, 0.0, 0.5, 0.5]], np.float32), np.array([[0.9, 0.9, 1, 1]], np.float32))
        rows = [[0.25, 0.25, 0.5, 0.5], [0.26, 0.25, 0.5, 0.5], [0.35, 0.25, 0.5, 0.5], [0.95, 0.95, 0.1, 0.1], [0.8, 0.2, 0.2, 0.2]]
        answer = Answer(np.array([[2.0], [1.5], [1.0], [0.5], [3.0]]), np.array(rows))
        judged = recall.judge(frame, answer, 0.7)
        # best first: the stray one, the hit, (its double is left out), one too far off for that, and the small object
        self.assertEqual(judged.kinds.tolist(), [-1, 1, -1, 0])
        self.assertEqual(recall.figures([judged], 0.8), (1.0, 1.0))
        self.assertEqual(recall.figures([judged], 0.9), (0.0, 1.0))
        self.assertAlmostEqual(recall.lowest_threshold([judged] * 20, 1 / 20), float(judged.scores[0]))


class Sets(unittest.TestCase):
    def setUp(self) -> None:
        rng = np.random.default_rng(0)
        self.answer = Answer(rng.standard_normal((9, 2)).astype(np.float32), rng.random((9, 4)).astype(np.float32))

    def test_rows_in_another_order_are_equal_and_one_that_differs_is_seen(self) -> None:
        order = np.array([1, 0, 2, 3, 4, 8, 6, 7, 5])
        moved = Answer(self.answer.logits[order], self.answer.boxes[order])
        gap = detections.compare(self.answer, moved)
        self.assertEqual((gap.largest, gap.moved), (0.0, 4))
        self.assertTrue(verify.same_detections(self.answer, moved, 1e-4))
        for at, change in ((0, 0.01), (0, np.nan), (3, np.inf)):
            wrong = Answer(moved.logits.copy(), moved.boxes.copy())
            wrong.logits[at, 0] += change
            self.assertGreater(detections.compare(self.answer, wrong).logits, 0.009)
        twice = Answer(moved.logits[[0, 0, *range(2, 9)]], moved.boxes[[0, 0, *range(2, 9)]])
        self.assertGreater(detections.compare(self.answer, twice).largest, 0.01, "a row that is there twice stands for one")

    def test_a_detection_that_is_gone_or_in_another_order_is_seen_but_for_ties(self) -> None:
        boxes_ = np.tile(np.arange(3.0)[:, None] * 9, 4)       # far apart: rows are told by their boxes
        answer = lambda *logits: Answer(np.array(logits)[:, None], boxes_)
        self.assertFalse(verify.same_detections(answer(1.0, 2.0, -3.0), answer(1.0, 2.0, 0.1), 1e-4))
        self.assertFalse(verify.same_detections(answer(1.0, 2.0, 0.1), answer(1.0, 2.0, -3.0), 1e-4))
        self.assertTrue(verify.same_detections(answer(1.0, 2.0, 0.00001), answer(1.0, 2.0, -0.00001), 1e-4))
        self.assertFalse(verify.same_detections(answer(1.0, 2.0, -3.0), answer(2.0, 1.0, -3.0), 1e-4))

    def test_detections_are_the_best_pairs_of_query_and_class_in_pixels(self) -> None:
        found = detections.final(Answer(np.array([[3.0, 1.0], [-1.0, -1.0], [2.0, 4.0]]), np.tile([0.5, 0.5, 0.2, 0.4], (3, 1))), 100, 50)
        self.assertEqual([label for label, *_ in found], [1, 0, 0])       # three queries, three pairs; the third is query 2's second
        np.testing.assert_allclose(found[0][2], (40, 15, 60, 35))
        self.assertAlmostEqual(found[0][1], 1 / (1 + np.exp(-4.0)))


class Graphs(unittest.TestCase):
    def test_the_bilinear_mode_has_the_name_of_its_operator_set(self) -> None:
        grid = np.zeros((1, 2, 2, 2), np.float32)
        nodes = [helper.make_node("Conv", ["x", "k"], ["m"]), helper.make_node("GridSample", ["m", "grid"], ["y"], mode="bilinear")]
        model = model_of(nodes, {"k": np.ones((1, 1, 1, 1), np.float32), "grid": grid}, [1, 1, 2, 2], [1, 1, 2, 2])
        for kind, mode in (("fp16", b"bilinear"), ("bf16", b"linear")):
            graph = half.to_half(model, kind)
            sample = next(n for n in graph.graph.node if n.op_type == "GridSample")
            self.assertEqual(next(a.s for a in sample.attribute if a.name == "mode"), mode)
            run(half.emulate(graph), np.ones((1, 1, 2, 2), np.float32))
        self.assertEqual(next(a.s for a in nodes[1].attribute), b"bilinear", "the fp32 graph is left as it is")

    def test_a_pool_that_alone_reads_padding_is_found(self) -> None:
        pads = {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64)}
        pad = helper.make_node("Pad", ["x", "pads"], ["p"])
        pool = helper.make_node("MaxPool", ["p"], ["y"], "pool", kernel_shape=[2, 2])
        alone = model_of([pad, pool], pads, [1, 1, 3, 3], [1, 1, 3, 3])
        low = np.full((1, 1, 3, 3), -2, np.float32)
        self.assertEqual(run(alone, low)[0, 0, 2, 2], -2.0, "ONNX Runtime errs no more: what is written about Pad_Fusion is out of date")
        if torch:
            self.assertEqual(export.pools_of_padding(alone.graph), ["pool"])
            both = model_of([pad, pool, helper.make_node("Relu", ["p"], ["z"])], pads, [1, 1, 3, 3], [1, 1, 3, 3])
            self.assertEqual(export.pools_of_padding(both.graph), [])

    def two_convolutions(self, between: list, read: str, more: dict[str, np.ndarray], channels_: int = 6) -> onnx.ModelProto:
        """3 channels to ``channels_``, ``between`` (from "m" on), and from ``read`` to 4. Whole numbers: sums are exact in any order."""
        rng = np.random.default_rng(0)
        weights = {name: rng.integers(-4, 5, shape).astype(np.float32) for name, shape in (
            ("k1", (channels_, 3, 3, 3)), ("b1", (channels_,)), ("k2", (4, channels_, 3, 3)), ("b2", (4,)))}
        first = helper.make_node("Conv", ["x", "k1", "b1"], ["m"], pads=[1, 1, 1, 1])
        last = helper.make_node("Conv", [read, "k2", "b2"], ["y"], pads=[1, 1, 1, 1])
        return model_of([first, *between, last], weights | more, [1, 3, 8, 8], [1, 4, 8, 8])

    def test_channels_of_zero_weights_change_no_value(self) -> None:
        one = np.array(0.5, np.float32)
        scaled = [helper.make_node("Relu", ["m"], ["r"]), helper.make_node("Mul", ["r", "s"], ["t"]),
                  helper.make_node("Add", ["t", "s"], ["u"])]
        x = np.random.default_rng(1).integers(-4, 5, (1, 3, 8, 8)).astype(np.float32)
        for between, read, more in (([], "m", {}), (scaled, "u", {"s": one})):
            for wide, padded in ((6, 8), (9, 12), (15, 16)):
                model = self.two_convolutions(between, read, more, wide)
                expected = run(model, x)
                self.assertEqual(channels.pad(model), ["y"])
                sizes = {w.name: list(w.dims)[:2] for w in model.graph.initializer}
                self.assertEqual((sizes["k1"], sizes["b1"], sizes["k2"]), ([padded, 3], [padded], [4, padded]))
                onnx.checker.check_model(model, full_check=True)
                np.testing.assert_array_equal(run(model, x), expected)

    def test_a_convolution_that_is_right_or_whose_channels_others_read_stays_as_it_is(self) -> None:
        per_channel = {"s": np.ones((6, 1, 1), np.float32)}
        scaled = [helper.make_node("Mul", ["m", "s"], ["t"])]
        cases = {
            "12 channels": self.two_convolutions([], "m", {}, 12), "10 channels": self.two_convolutions([], "m", {}, 10),
            "a number per channel": self.two_convolutions(scaled, "t", per_channel),
            "two readers": self.two_convolutions([helper.make_node("Relu", ["m"], ["z"])], "m", {}),
            "shared weights": self.two_convolutions([helper.make_node("Neg", ["k2"], ["z"])], "m", {}),
        }
        for what, model in cases.items():
            before = model.SerializeToString(deterministic=True)
            self.assertEqual(channels.pad(model), [], what)
            self.assertEqual(model.SerializeToString(deterministic=True), before, what)

    @unittest.skipUnless(torch, "needs torch")
    def test_rows_are_picked_as_gather_elements_picks_them(self) -> None:
        rows, shape = np.random.default_rng(0).standard_normal((1, 9, 4)).astype(np.float32), np.array([1, 5, 4], np.int64)
        weights = {"k": np.array([5], np.int64), "last": np.array([-1], np.int64), "shape": shape, "times": np.ones(3, np.int64)}
        nodes = [helper.make_node("ReduceMax", ["x", "last"], ["best"], keepdims=0),
                 helper.make_node("TopK", ["best", "k"], ["values", "i"], axis=1),
                 helper.make_node("Unsqueeze", ["i", "last"], ["u"]), helper.make_node("Expand", ["u", "shape"], ["e"]),
                 helper.make_node("Tile", ["e", "times"], ["t"]), helper.make_node("GatherElements", ["x", "t"], ["y"], axis=1)]
        model = model_of(nodes, weights, [1, 9, 4], [1, 5, 4])
        expected = run(model, rows)
        self.assertEqual(export.gather_rows(model), 1)
        self.assertEqual([n.op_type for n in model.graph.node], ["ReduceMax", "TopK", "Gather", "Squeeze"])
        self.assertNotIn("times", [w.name for w in model.graph.initializer])
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_array_equal(run(model, rows), expected)
        other = model_of(nodes[-1:], {"t": np.zeros((1, 5, 4), np.int64)}, [1, 9, 4], [1, 5, 4])
        self.assertEqual(export.gather_rows(other), 0, "an index that may differ from value to value")

    @unittest.skipUnless(torch, "needs torch")
    def test_waves_of_weights_are_weights(self) -> None:
        rows, last = np.random.default_rng(0).standard_normal((1, 9, 4)).astype(np.float32), np.array([-1], np.int64)
        weights = {"places": np.arange(9, dtype=np.float32).reshape(9, 1), "rates": np.array([1, 0.1], np.float32), "last": last}
        nodes = [helper.make_node("Mul", ["places", "rates"], ["m"]), helper.make_node("Sin", ["m"], ["s"]),
                 helper.make_node("Cos", ["m"], ["c"]), helper.make_node("Concat", ["s", "c"], ["p"], axis=1),
                 helper.make_node("Add", ["x", "p"], ["a"]), helper.make_node("Mul", ["a", "a"], ["y"])]
        model = model_of(nodes, weights, [1, 9, 4], [1, 9, 4])
        expected = run(model, rows)
        self.assertEqual(export.fold_waves(model), 4)
        self.assertEqual([n.op_type for n in model.graph.node], ["Add", "Mul"])
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(run(model, rows), expected, rtol=1e-6, atol=1e-6)
        calm = model_of([nodes[0], helper.make_node("Identity", ["x"], ["y"])], weights, [1, 9, 4], [1, 9, 4])
        self.assertEqual(export.fold_waves(calm), 0, "graphs without waves stay as they are")


@unittest.skipUnless(torch, "needs torch")
class Export(unittest.TestCase):
    def stem(self) -> torch.nn.Module:
        """The miniature's, whose affine blocks have negative biases."""
        stem = models.build(0).eval().model.backbone.model.embedder
        with torch.no_grad():
            for name, value in stem.named_parameters():
                if name.endswith("lab.bias"):
                    value.fill_(-1.0)
        return stem

    def test_the_pool_of_the_stem_is_right_where_values_are_negative(self) -> None:
        stem, pixels = self.stem(), torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            expected = stem(pixels).numpy()
        shape = Signature(Stem, (Port("image", "f32", (1, 3, 32, 32)),), (Port("y", "f32", (1, 16, 8, 8)),))
        off = {}
        for name, module in (("ours", Stem(stem)), ("library", stem)):
            graph = convert.trace(module, name, shape, (pixels,))
            half.set_versions(graph, "fp32")
            self.assertEqual(len(export.pools_of_padding(graph.graph)), int(name == "library"))
            off[name] = float(np.abs(run(graph, pixels.numpy()) - expected).max())
        self.assertLess(off["ours"], 1e-5)
        self.assertGreater(off["library"], 1e-3, "the library's own form is computed rightly: the rewritten pool is needed no more")

    def test_border_anchors_are_finite_in_half_precision(self) -> None:
        config = models._config(models.MINIATURE_SHAPE, ("a",), 4096, 32, 4, 24, freeze_backbone_batch_norms=False)
        model = models.DFineForObjectDetection(config).eval()      # at this size the outermost anchors lie too near the border
        self.assertGreater(float(model.model.anchors.max()), 1e38)
        self.assertEqual(float(Detector(model).model.model.anchors.max()), BORDER)

    def test_the_form_without_norms_and_branches_computes_the_same(self) -> None:
        for frozen in (True, False):
            torch.manual_seed(1)
            config = models._config(models.MINIATURE_SHAPE, ("a", "b"), 64, 8, 4, 0, freeze_backbone_batch_norms=frozen)
            model = models.DFineForObjectDetection(config)
            for module in model.modules():
                if hasattr(module, "running_var"):
                    module.running_mean.uniform_(-0.1, 0.1)
                    module.running_var.uniform_(0.5, 2.0)
            for head in (*model.model.decoder.class_embed, model.model.enc_score_head):
                torch.nn.init.normal_(head.weight)
            with torch.no_grad():
                expected, (logits, found) = model.eval()(pixels := torch.rand(1, 3, 64, 64)), Detector(model)(pixels)
            ours, theirs = (Answer(a[0].numpy(), b[0].numpy()) for a, b in ((logits, found), (expected.logits, expected.pred_boxes)))
            self.assertLess(detections.compare(theirs, ours).largest, 1e-4)

    def test_official_names_become_the_librarys(self) -> None:
        tensor = torch.zeros(6, 2)
        for official, ours in (
                ("backbone.stem.stem2a.bn.running_mean", "model.backbone.model.embedder.stem2a.normalization.running_mean"),
                ("backbone.stages.2.blocks.0.layers.1.conv2.conv.weight",
                 "model.backbone.model.encoder.stages.2.blocks.0.layers.1.conv2.convolution.weight"),
                ("backbone.stages.0.blocks.0.aggregation.1.lab.scale",
                 "model.backbone.model.encoder.stages.0.blocks.0.aggregation.1.lab.scale"),
                ("encoder.input_proj.1.norm.bias", "model.encoder_input_proj.1.1.bias"),
                ("encoder.encoder.0.layers.0.linear2.weight", "model.encoder.aifi.0.layers.0.mlp.layers.1.weight"),
                ("encoder.pan_blocks.0.cv3.0.bottlenecks.0.conv1.norm.weight",
                 "model.encoder.pan_blocks.0.csp_rep2.bottlenecks.0.conv1.norm.weight"),
                ("encoder.fpn_blocks.1.cv2.1.conv.weight", "model.encoder.fpn_blocks.1.conv2.conv.weight"),
                ("encoder.downsample_convs.0.0.cv2.conv.weight", "model.encoder.downsample_convs.0.conv2.conv.weight"),
                ("decoder.input_proj.2.conv.weight", "model.decoder_input_proj.2.0.weight"),
                ("decoder.enc_output.norm.weight", "model.enc_output.1.weight"),
                ("decoder.decoder.layers.1.cross_attn.sampling_offsets.bias", "model.decoder.layers.1.encoder_attn.sampling_offsets.bias"),
                ("decoder.decoder.layers.0.norm3.weight", "model.decoder.layers.0.final_layer_norm.weight"),
                ("decoder.decoder.layers.0.gateway.norm.weight", "model.decoder.layers.0.gateway.norm.weight"),
                ("decoder.up", "model.decoder.up")):
            self.assertEqual(list(models.from_official({official: tensor})), [ours])
        parts = models.from_official({"decoder.decoder.layers.0.self_attn.in_proj_weight": torch.arange(12.0).reshape(6, 2)})
        self.assertEqual({k.split(".")[-2]: float(v[0, 0]) for k, v in parts.items()}, {"q_proj": 0.0, "k_proj": 4.0, "v_proj": 8.0})
        self.assertEqual(sorted(models.from_official({"decoder.dec_score_head.1.bias": tensor})),
                         ["class_embed.1.bias", "model.decoder.class_embed.1.bias"])
        self.assertEqual(models.from_official({"decoder.anchors": tensor, "decoder.valid_mask": tensor}), {})

    def test_weights_of_another_kind_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "w.pth"
            torch.save({"model": {"decoder.dec_score_head.0.bias": torch.zeros(80)}}, path)
            self.assertTrue(models.is_detector(path))
            with self.assertRaisesRegex(DoesNotFit, "of no D-FINE known here"):
                models.load(path)
            with self.assertRaisesRegex(DoesNotFit, "weights of the model are not in the checkpoint"):
                models.load(path, "dfine_n", 64)
        with self.assertRaisesRegex(DoesNotFit, "multiples of 32"):
            models.config("dfine_n", 100)

    def test_the_largest_of_an_axis_is_the_first_of_topk(self) -> None:
        values = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
        for shape, keeps, out in (([1, 5, 3], 0, [1, 5]), ([1, 5, 3], 1, [1, 5, 1]), ([1, 15, 1], 0, [1, 15])):
            x = values.reshape(shape)
            node = helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=keeps)
            model = model_of([node], {"axes": np.array([-1], np.int64)}, shape, out)
            expected = run(model, x)
            gaps.close(model)
            self.assertNotIn("ReduceMax", [n.op_type for n in model.graph.node])
            np.testing.assert_array_equal(run(model, x), expected)

    def test_the_rate_stands_still_until_it_falls(self) -> None:
        self.assertEqual({training.rate_at(step, steps) for step in (200, 690) for steps in (1000, 3000)}, {training.RATE})
        self.assertAlmostEqual(training.rate_at(999, 1000), training.LAST_RATE, places=6)


@unittest.skipUnless(PACK.is_dir(), "the pack is not there")
class Shipped(unittest.TestCase):
    def test_the_pack_equals_pytorch_and_damage_is_noticed(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            good = verify.verify(PACK, None, 0, 1, negative=True)
        self.assertTrue(good, text.getvalue())
        self.assertIn("noticed, as it must be", text.getvalue())

    def test_its_graphs_hold_what_runs_on_devices(self) -> None:
        for kind in ("fp32", "fp16", "bf16"):
            graph = onnx.load(PACK / kind / "detector.onnx").graph
            used = {node.op_type for node in graph.node}
            self.assertFalse(used & {"Shape", "Size", "If", "Loop", "NonZero"}, kind)
            self.assertFalse("MaxPool" in used, "the stem pools by slices")

    def test_its_graphs_hold_nothing_that_webgpu_lacks_or_computes_wrongly(self) -> None:
        for kind in ("fp32", "fp16", "bf16"):
            model = onnx.load(PACK / kind / "detector.onnx")
            self.assertFalse({node.op_type for node in model.graph.node} & {"Max", "GatherElements"}, kind)
            constants, types = {w.name: w for w in model.graph.initializer}, placement.types_of(model)
            whole = {(node.op_type, i) for node in model.graph.node for i, name in enumerate(node.input)
                     if name not in constants and types.get(name) == TensorProto.INT64}
            self.assertEqual(whole, {("Gather", 1)}, f"{kind}: int64 values are made by TopK and read as indices")
            kernels = [numpy_helper.to_array(constants[node.input[1]]) for node in model.graph.node
                       if node.op_type == "Conv" and all(a.i == 1 for a in node.attribute if a.name == "group")]
            self.assertGreaterEqual(len(kernels), 50)
            self.assertFalse([k.shape for k in kernels if channels.by_threes(k)], kind)

    def test_it_finds_objects_that_training_never_saw(self) -> None:
        detector = verify.Detector(PACK)
        frames = boxes.held_out_frames("easy", 6, detector.size, boxes.HELD_OUT_SEED)
        judged = [recall.judge(frame, detector.answer(frame.image), 0.7) for frame in frames]
        found, wrong = recall.figures(judged, 0.5)
        self.assertGreaterEqual(found, 0.85)
        self.assertLessEqual(wrong, 0.2)

    def test_a_reference_whose_frames_are_missing_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "pack"
            shutil.copytree(PACK, copy)
            with self.assertRaisesRegex(Refused, "is not there"):
                detections.read(copy)

    @unittest.skipUnless(torch, "needs torch")
    def test_options_of_trackers_are_refused(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
            kit.main(["export", "--model", "dfine_n", "--random-init", "--follow", "official", "--out", "x"])
        self.assertIn("--follow official: for promptable trackers only", said.getvalue())

    def test_the_index_names_shared_frames_and_stores_none(self) -> None:
        index = json.loads((PACK / detections.INDEX).read_text())
        self.assertTrue(all(f["image"].startswith("../../../golden/g") for f in index["frames"]))
        self.assertFalse(list(PACK.rglob("*.png")))


if __name__ == "__main__":
    unittest.main()
