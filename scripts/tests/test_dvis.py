"""DVIS-DAQ: its names in published checkpoints, its tracker with slots against the tracker of any length, its graphs, and the training
of its miniature."""
from __future__ import annotations

import copy
import io
import json
import tempfile
import tomllib
import unittest
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment

from jetbench_models.clips.synth import TextureBank
from jetbench_models.clips.tubes import Tubes, training_clip
from jetbench_models.command import Refused
from jetbench_models.export import command, golden
from jetbench_models.export import dvis as export
from jetbench_models.export.graphs.dvis import Segmenter, Step
from jetbench_models.models import DoesNotFit, dvis, weights
from jetbench_models.models.dvis_tracker import MEMORY, Following, Rules, Seen, Track, sureness
from jetbench_models.models.released import Checkpoint, state_digest
from jetbench_models.train import dvis as training
from jetbench_models.train.segmenter import optimisers_of

SIZE = dvis.Size("resnet", 12, channels=32, heads=4, encoder_layers=1, decoder_layers=3, tracker_layers=2, inner=64,
                 widths=(16, 32, 64, 128), depths=(1, 1, 1, 1))
SWIN = replace(SIZE, backbone="swin", widths=(8,), depths=(2, 1, 1, 1), window=4, swin_heads=(1, 2, 2, 2))
SLOTS, SEED = 24, 5


def small(size: dvis.Size = SIZE) -> dvis.DvisDaq:
    return dvis.draw(dvis.Shape(size, (128, 72), ("a", "b", "c")), Rules(slot_branch=True, kick_out_frames=3, noise_frames=4, most=8), 6)


def host_match(similarity: np.ndarray, known: int, background: int) -> np.ndarray:
    """Rows of the segmenter's queries, as a runner has to choose them."""
    rows = np.concatenate([similarity[:known], similarity[-background:]])
    nearest = (1 - rows).argmin(1)
    at, to = linear_sum_assignment(1 - rows)
    nearest[at] = to
    match = np.zeros(len(similarity), np.int32)
    match[:known], match[-background:] = nearest[:known], nearest[known:]
    return match


class Host:
    """What a runner does around the two graphs; ``step``: a dictionary of inputs -> one of outputs."""

    def __init__(self, model: dvis.DvisDaq, step):
        c, r = model.config.size, model.rules
        self.step, self.background = step, c.background
        self.rules = np.array([r.select_score, r.first_score, r.keep_score, r.kick_out_frames], np.float32)
        shapes = dict(queries=(SLOTS, c.channels), positions=(SLOTS, c.channels), ring=(SLOTS, MEMORY, c.channels), count=(SLOTS,),
                      missed=(SLOTS,), tracks=(1,))
        self.state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self.ids: list[int] = []
        self.born, self.similarity = 0, None

    def frame(self, seen: dict) -> tuple[list[int], dict]:
        first = self.similarity is None
        match = np.zeros(SLOTS + self.background, np.int32) if first else host_match(self.similarity, len(self.ids), self.background)
        out = self.step(dict(**seen, first=np.array([first], np.float32), rules=self.rules, **self.state, match=match))
        self.similarity, ids = out["similarity"], []
        for row in out["source"][:int(out["tracks_out"][0])]:
            if row < SLOTS:
                ids.append(self.ids[int(row)])
            else:
                ids.append(self.born)
                self.born += 1
        self.ids, self.state = ids, {name: out[f"{name}_out"] for name in self.state}
        return ids, out


def traced(module: Step, model: dvis.DvisDaq, values: dict) -> dict:
    """The step without ONNX."""
    names = [port.name for port in export.signatures(model, SLOTS)[export.STEP].outputs]
    told = module(*(torch.from_numpy(v if v.dtype == np.int32 else v.astype(np.float64)) for v in values.values()))
    return {name: value.numpy() for name, value in zip(names, told, strict=True)}


class Names(unittest.TestCase):
    def test_published_names_go_there_and_back(self) -> None:
        for size in (SIZE, SWIN):
            model = small(size)
            state = {name: value.clone() for name, value in dvis.to_published(model).items()}
            for name in ("tracker.slot_cross_attention_layers.1.slot_attn.project_k.weight",
                         "sem_seg_head.pixel_decoder.adapter_1.norm.bias",
                         "sem_seg_head.predictor.transformer_self_attention_layers.0.self_attn.in_proj_weight",
                         "backbone.res4.0.conv2.norm.running_var" if size is SIZE else "backbone.layers.0.blocks.1.attn.qkv.bias"):
                self.assertIn(name, state)
            self.assertFalse([name for name in state if not name.startswith(("backbone.", "sem_seg_head.", "tracker."))])
            state["sem_seg_head.predictor.reid_embed.layers.0.weight"] = torch.zeros(1)       # not used online
            empty = dvis.DvisDaq(model.config, model.rules)
            dvis.from_published(empty, state, "weights")
            image = torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(0))
            for one, other in zip(vars(model.see(image)).values(), vars(empty.see(image)).values(), strict=True):
                self.assertTrue(torch.equal(one, other))
        del state["tracker.pos_embed.layers.0.bias"]
        state["tracker.more.weight"] = torch.zeros(1)
        with self.assertRaisesRegex(DoesNotFit, r"(?s)not in the checkpoint.*pos_embed.*not in the model.*tracker\.more"):
            dvis.from_published(empty, state, "weights")

    def test_a_checkpoint_is_known_by_its_tracker(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "other.pth"
            torch.save({"model": {"weight": torch.zeros(1)}}, path)
            self.assertFalse(dvis.is_dvis(path))
            torch.save({"model": {"tracker.new_ins_embeds.weight": torch.zeros(1)}}, path)
            self.assertTrue(dvis.is_dvis(path))
            with self.assertRaisesRegex(DoesNotFit, "class_embed"):
                dvis.load(path, None, (128, 72), "ovis", None)
        self.assertEqual((dvis.frame_of(480, (16, 9)), dvis.frame_of(360, (9, 16))), ((853, 480), (360, 640)))


class Following_(unittest.TestCase):
    def test_a_position_is_weighed_with_those_of_before(self) -> None:
        one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
        track = Track(0, 0, one, one)
        track.place(one)
        track.place(other)
        # the cosine of both is 0.6
        torch.testing.assert_close(track.position, torch.tensor([0.4 + 0.36, 0.48]))
        track.place(-other)
        # (-0.6 - 1) / 2 is below 0: nothing of it
        torch.testing.assert_close(track.position, torch.tensor([0.76, 0.48]))
        self.assertEqual(len(track.memory), 3)


class Miniature(unittest.TestCase):
    def test_trained_weights_are_loaded_and_others_refused(self) -> None:
        model = dvis.build(1)
        self.assertGreater(float(model.tracker.class_embed.bias[-1].detach()), 1.0, "no object is the likely class")
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "weights.safetensors"
            weights.save(path, model.state_dict(), dvis.FAMILY, dvis.MINIATURE_SIZE)
            self.assertTrue(dvis.is_dvis(path) and dvis.is_miniature(path))
            found = dvis.load_miniature(path)
            self.assertEqual((found.name, found.source, found.family), ("dvis_mini", "trained here", "dvis_daq"))
            self.assertFalse(found.model.training)
            for one, other in zip(model.state_dict().values(), found.model.state_dict().values(), strict=True):
                self.assertTrue(torch.equal(one, other))
            with redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
                command.main(["--checkpoint", str(path), "--out", f"{place}/p", "--image-size", "256", "--rules", "ovis"])
            self.assertRegex(said.getvalue(), "--image-size, --rules: .* is dvis_mini")
            with self.assertRaisesRegex(Refused, "--frames, --clip-seed: dvis_mini is a miniature; its reference is written by `golden`"):
                command.main(["--checkpoint", str(path), "--out", f"{place}/p", "--frames", "9", "--clip-seed", "0"])
            weights.save(path, model.state_dict(), dvis.FAMILY, 256)
            with self.assertRaisesRegex(DoesNotFit, "image size 256: dvis_mini has 128 pixels"):
                dvis.load_miniature(path)
            state = model.state_dict()
            del state["tracker.new_ins_embeds.weight"]
            weights.save(path, state, dvis.FAMILY, dvis.MINIATURE_SIZE)
            with self.assertRaisesRegex(DoesNotFit, "(?s)is not of this dvis_mini.*new_ins_embeds"):
                dvis.load_miniature(path)
            weights.save(path, state, "videomt", 144)
            self.assertFalse(dvis.is_dvis(path))


    def test_its_reference_is_of_shared_frames_and_of_its_own_weights(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path, pack, shared = Path(place) / "w.safetensors", Path(place) / "p", Path(__file__).parents[2] / "assets/golden"
            weights.save(path, dvis.build(1).state_dict(), dvis.FAMILY, dvis.MINIATURE_SIZE)
            pack.mkdir()
            manifest = '[provenance]\ncheckpoint_sha256 = "{}"\n[segmenter.tracks]\nslots = 16\n[golden]\ntolerance = 1\n'
            (pack / "pack.toml").write_text(manifest.format("0" * 64))
            arguments = ["--weights", str(path), "--pack", str(pack), "--frames", str(shared)]
            with self.assertRaisesRegex(Refused, "the pack was made of weights 000000000000"):
                golden.main(arguments)
            (pack / "pack.toml").write_text(manifest.format(dvis.load_miniature(path).sha256))
            with redirect_stdout(io.StringIO()):
                golden.main(arguments)
            frames = [frame["image"] for frame in json.loads((pack / "reference/index.json").read_text())["frames"]]
            self.assertEqual((len(frames), len(set(frames))), (16, 16))
            self.assertTrue((pack / "reference" / frames[0]).samefile(shared / "g2/00016.png"))
            self.assertEqual(tomllib.loads((pack / "pack.toml").read_text())["golden"]["tolerance"], export.TOLERANCE)


class Training(unittest.TestCase):
    @staticmethod
    def clip(*frames: list[int]) -> Tubes:
        """Two objects, the upper and the lower half of 4x4 places; ``frames``: which of them are there."""
        shares = np.zeros((2, len(frames), 4, 4), np.float32)
        for t, there in enumerate(frames):
            for i in there:
                shares[i, t, 2 * i:2 * i + 2] = 1
        return Tubes(np.zeros((len(frames), 16, 16, 3), np.uint8), shares, np.zeros(2, np.int64))

    def test_tracks_of_several_clips_at_once_are_those_of_each_alone(self) -> None:
        tracker, generator = small().tracker, torch.Generator().manual_seed(0)
        x, places = torch.randn(2, 2, 7, 32, generator=generator)
        keys, embeds = torch.randn(2, 2, 5, 32, generator=generator)
        absent = torch.zeros(2, 7, dtype=torch.bool)
        absent[1, 2:4] = True
        with torch.no_grad():
            both = tracker.rows(x, places, keys, embeds, absent)[-1]
            there = [0, 1, 4, 5, 6]
            torch.testing.assert_close(both[0], tracker.rows(x[0], places[0], keys[0], embeds[0])[-1])
            torch.testing.assert_close(both[1, there], tracker.rows(x[1, there], places[1, there], keys[1], embeds[1])[-1])

    def lesson(self, *frames: list[int]) -> training.Lesson:
        return training.Lesson(small().tracker, [self.clip(*frames)], np.random.default_rng(0))

    def test_a_known_track_is_told_its_object_and_others_take_new_rows(self) -> None:
        lesson = self.lesson([0], [0, 1], [1])
        seen = Track(0, 0, torch.zeros(32), torch.zeros(32))
        lesson.known = [[training.Known(seen, 0), training.Known(seen, None)]]
        classes, masks = torch.zeros(1, 6, 2), torch.full((1, 6, 4, 4), -6.0)
        masks[0, 4, 2:] = 6.0
        lesson.frames = 1
        wanted, born = lesson._wanted(classes, masks, 2, [{}])
        self.assertEqual((wanted.classes.tolist(), born), ([[0, 1, 1, 1, 0, 1]], [{1: 4}]), "the row whose mask fits")
        self.assertEqual((wanted.rows, wanted.gone), ([(0, 0), (0, 4)], []))
        torch.testing.assert_close(wanted.masks[1].reshape(4, 4)[:, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
        lesson.frames, lesson.known = 2, [[training.Known(seen, 0), training.Known(seen, 1)]]
        wanted, born = lesson._wanted(classes, masks, 2, [{}])
        self.assertEqual((wanted.classes.tolist(), wanted.gone, born), ([[1, 0, 1, 1, 1, 1]], [(0, 0)], [{}]), "its object is away")

    def test_found_objects_are_carried_with_what_looks_like_one(self) -> None:
        lesson = self.lesson([0, 1], [0, 1])
        lesson.rng = type("Never", (), {"random": lambda self: 0.99})()
        x, scores = torch.arange(6.0)[None, :, None].expand(1, 6, 32), torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.7, 0.6]])
        lesson._carry(x, x + 10, scores, 0, [{0: 2, 1: 1}])
        carried = [(k.owner, float(k.track.query[0]), float(k.track.position[0])) for k in lesson.known[0]]
        self.assertEqual(carried, [(0, 2.0, 12.0), (1, 1.0, 11.0), (None, 3.0, 13.0), (None, 4.0, 14.0)])
        lesson.rng = type("Always", (), {"random": lambda self: 0.0})()
        lesson._carry(x, x, scores, 4, [{}])
        self.assertEqual(lesson.known, [[]], "all are lost")

    def test_right_answers_cost_little(self) -> None:
        wanted = training.Wanted(torch.tensor([[0, 1, training.IGNORED]]))
        wanted.object((0, 0), 0, torch.tensor([1.0, 1.0, 0.0, 0.0]))
        wanted.gone.append((0, 1))
        sure = torch.tensor([[[[8.0, -8.0], [-8.0, 8.0], [8.0, -8.0]]]])
        masks = torch.tensor([8.0, 8.0, -8.0, -8.0]).reshape(1, 1, 1, 2, 2) * torch.tensor([1.0, 0.0, 1.0]).reshape(1, 1, 3, 1, 1)
        masks[0, 0, 1] = -8.0
        cost, overlaps = training.loss_of(sure, masks, wanted)
        self.assertLess(float(cost), 0.1)
        self.assertEqual(overlaps, [1.0])
        for wrong in (training.loss_of(-sure, masks, wanted), training.loss_of(sure, -masks, wanted)):
            self.assertGreater(float(wrong[0]), 5.0)

    def test_steps_on_the_same_clips_lower_their_loss(self) -> None:
        model, bank = dvis.build().train(), TextureBank(7, 16)
        rng = np.random.default_rng(0)
        clips = [training_clip(rng, bank, 3, dvis.MINIATURE_SIZE, dvis.MINIATURE_SIZE // 4, 0.2, 0.0, 0.5) for _ in range(2)]
        optimisers, costs = optimisers_of(model, training.Run.special_names), []
        for _ in range(12):
            cost, logged = training.batch_loss(model, clips, np.random.default_rng(1))
            costs.append((logged["segmenter"], logged["tracker"]))
            cost.backward()
            for one in optimisers:
                for group in one.param_groups:
                    group["lr"] = 2e-3
                one.step()
                one.zero_grad(set_to_none=True)
        for first, last in zip(costs[0], costs[-1], strict=True):
            self.assertLess(last, 0.85 * first)
        untouched = {name for name, p in model.tracker.named_parameters() if not name.startswith(("slot_", "bg_"))}
        cost, _ = training.batch_loss(model, clips, np.random.default_rng(1))
        cost.backward()
        self.assertEqual({name for name, p in model.tracker.named_parameters() if p.grad is not None}, untouched)


class Random(unittest.TestCase):
    def test_calm_weights_make_less_of_a_small_change(self) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(3, 96, 128, generator=generator)
        moved = image + 1e-2 * torch.randn(image.shape, generator=generator)
        model, changes = small(), []
        for _ in range(2):
            one, other = (model.see(frame) for frame in (image, moved))
            changes.append(float((one.embeds - other.embeds).norm() / one.embeds.norm()))
            dvis.calm(model)
        self.assertGreater(changes[0], 0)
        self.assertLess(changes[1], changes[0] / 2)


class Graphs(unittest.TestCase):
    """One export, looked at from several sides."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.model = small()
        cls.place = tempfile.TemporaryDirectory()
        cls.pack = Path(cls.place.name) / "p"
        cls.pack.mkdir()
        checkpoint = Checkpoint(cls.model, "dvis_daq (own sizes)", "random", state_digest(cls.model), None)
        export.write(checkpoint, cls.pack, "p", ("fp32", "bf16"), 14, SEED, "command", "", SLOTS, lambda _: None)
        cls.clip = [np.asarray(Image.open(cls.pack / f"reference/frames/{i:05d}.png")) for i in range(14)]
        cls.looks = export.look(cls.model, cls.clip)
        cls.known, cls.kept = export.answers(cls.model, cls.clip, cls.looks)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def test_tracks_are_born_missed_and_die(self) -> None:
        births, deaths, unseen, most = export.events([dict(zip(answer.ids, answer.seen, strict=True)) for answer in self.known])
        self.assertGreaterEqual(min(births, deaths, unseen), 2)
        self.assertLessEqual(most, SLOTS)
        self.assertIsNone(export.lives(self.model, self.looks, most - 1))
        self.assertTrue(any(answer.ids for answer in self.known[:1]), "the first frame has its own rule")

    def test_slots_are_equal_to_any_length_in_double_precision(self) -> None:
        torch.set_default_dtype(torch.float64)
        self.addCleanup(torch.set_default_dtype, torch.float32)
        for changes in ({}, {"keep_score": 0.3}, {"slot_branch": False}):
            model = copy.deepcopy(self.model).double()
            model.rules = replace(model.rules, **changes)
            following = Following(model.tracker, model.segmenter_queries, model.rules)
            host = Host(model, partial(traced, Step(model, SLOTS, True).double(), self.model))
            host.state = {name: value.astype(np.float64) for name, value in host.state.items()}
            r = model.rules
            # without the branch, what it says is never too little
            host.rules = np.array([r.select_score, r.first_score, r.keep_score if r.slot_branch else -1.0, r.kick_out_frames])
            for _, seen in self.looks:
                double = Seen(*(value.double() for value in vars(seen).values()))
                live = following.frame(double)
                with torch.no_grad():
                    ids, out = host.frame(dict(
                        frame_embeds=double.embeds.numpy(),
                        frame_positions=model.tracker.pooled_position(double.masks, double.features).numpy(),
                        frame_scores=sureness(double.logits).numpy(), features=double.features.numpy()))
                self.assertEqual(ids, [track.identity for track in live])
                self.assertEqual(out["seen"][:len(ids)].tolist(), [float(track.seen[-1]) for track in live])
                for row, track in enumerate(live):
                    for name, value in (("logits", track.logits[-1]), ("masks", track.masks[-1]), ("positions_out", track.position)):
                        np.testing.assert_allclose(out[name][row], value.numpy(), rtol=0, atol=1e-9)
                for name in ("queries_out", "positions_out", "ring_out", "missed_out"):
                    self.assertFalse(np.any(out[name][len(ids):]), "an empty slot holds nothing")

    def test_graphs_follow_as_pytorch_does(self) -> None:
        sessions = {name: onnxruntime.InferenceSession(self.pack / f"fp32/{name}.onnx", providers=["CPUExecutionProvider"])
                    for name in (export.SEGMENTER, export.STEP)}

        def run(name: str, values: dict) -> dict:
            return dict(zip([o.name for o in sessions[name].get_outputs()], sessions[name].run(None, values), strict=True))

        host = Host(self.model, lambda values: run(export.STEP, values))
        for answer, pixels in zip(self.known, self.clip, strict=True):
            _, image = export.network_input(self.model, pixels)
            ids, out = host.frame(run(export.SEGMENTER, dict(image=image[None].numpy())))
            self.assertEqual(ids, answer.ids)
            self.assertEqual(out["seen"][:len(ids)].tolist(), answer.seen)
            for name, theirs, most in (("logits", answer.logits, 1e-3), ("masks", answer.masks, 1e-2)):
                self.assertLess(np.abs(out[name][:len(ids)] - theirs).max(initial=0), most)

    def test_masks_without_a_pixel_have_a_position(self) -> None:
        session = onnxruntime.InferenceSession(self.pack / "fp32/tracker_step.onnx", providers=["CPUExecutionProvider"])
        seen, host, tracker = self.looks[0][1], Host(self.model, None), self.model.tracker
        with torch.no_grad():
            # features that the first row's mask is far below zero on
            rows = tracker.rows(seen.embeds, torch.zeros_like(seen.embeds), seen.embeds, seen.embeds)[-1]
            wanted = -10 * tracker.mask_embed(tracker.decoder_norm(rows))[0] - tracker.mask_feature_proj.bias
            features = (tracker.mask_feature_proj.weight[:, :, 0, 0].pinverse() @ wanted)[:, None, None].expand_as(seen.features)
        values = dict(frame_embeds=seen.embeds.numpy(), frame_positions=np.zeros_like(seen.embeds.numpy()),
                      frame_scores=np.ones(len(seen.embeds), np.float32), features=features.numpy(),
                      first=np.ones(1, np.float32), rules=host.rules, **host.state, match=np.zeros(SLOTS + host.background, np.int32))
        out = dict(zip([o.name for o in session.get_outputs()], session.run(None, values), strict=True))
        self.assertTrue((out["masks"][0] < 0).all())
        self.assertTrue(np.isfinite(out["positions_out"]).all())

    def test_slots_that_do_not_suffice_are_told(self) -> None:
        module = Step(self.model, 2, True)
        _, seen = self.looks[0]
        c = self.model.config.size
        with torch.no_grad():
            out = module(seen.embeds, self.model.tracker.pooled_position(seen.masks, seen.features), torch.ones(c.queries), seen.features,
                         torch.ones(1), torch.tensor([0.1, 0.01, 0.01, 8.0]), torch.zeros(2, c.channels), torch.zeros(2, c.channels),
                         torch.zeros(2, MEMORY, c.channels), torch.zeros(2), torch.zeros(2), torch.zeros(1),
                         torch.zeros(2 + c.background, dtype=torch.int32))
        self.assertEqual((out[4].item(), out[10].item(), out[2].tolist()), (12.0, 2.0, [2.0, 3.0]))

    def test_a_segmenter_with_windows_is_the_librarys(self) -> None:
        model = small(SWIN)
        image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
        seen = model.see(image[0])
        with torch.no_grad():
            embeds, _, scores, features = Segmenter(copy.deepcopy(model))(image)
        for ours, theirs in ((embeds, seen.embeds), (scores, sureness(seen.logits)), (features, seen.features)):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)

    def test_the_graphs_have_no_choices_and_half_operands_where_they_belong(self) -> None:
        for name in (export.SEGMENTER, export.STEP):
            graphs = {kind: onnx.load(self.pack / kind / f"{name}.onnx").graph for kind in ("fp32", "bf16")}
            kinds = {node.op_type for node in graphs["fp32"].node}
            self.assertFalse(kinds & {"Einsum", "Shape", "If", "Max", "Not", "And", "MaxPool", "BatchNormalization", "Resize",
                                      "InstanceNormalization", "GatherElements", "Cast", "NonZero"}, kinds)
            self.assertIn(onnx.TensorProto.BFLOAT16, {t.data_type for t in graphs["bf16"].initializer})
            # no list of numbers is changed on its way to a Gather: WebGPU would put that on the CPU
            made_by = {output: node.op_type for node in graphs["fp32"].node for output in node.output}
            self.assertLessEqual({made_by[n.input[1]] for n in graphs["fp32"].node if n.op_type == "Gather" and n.input[1] in made_by},
                                 {"TopK"})

    def test_the_manifest_and_the_reference_say_what_they_hold(self) -> None:
        manifest = tomllib.loads((self.pack / "pack.toml").read_text())
        self.assertEqual((manifest["input"]["size"], manifest["input"]["fit"]), (128, dict(width=128, height=72)))
        self.assertEqual(manifest["segmenter"]["tracks"], dict(
            slots=SLOTS, background=5, slot_branch=True, select_score=0.1, first_score=0.01, keep_score=0.01, kick_out_frames=3,
            noise_frames=4, most=8))
        self.assertEqual([state["output"] for state in manifest["state"]], [f"{name}_out" for name in export.STATES])
        index = json.loads((self.pack / "reference/index.json").read_text())
        self.assertEqual([frame["tracks"] for frame in index["frames"]], [answer.ids for answer in self.known])
        self.assertEqual([kept["track"] for kept in index["kept"]], [kept.track for kept in self.kept])
        stacked = next((i, answer) for i, answer in enumerate(self.known) if answer.ids)
        stored = np.asarray(Image.open(self.pack / f"reference/{stacked[0]:03d}_outlines.png"))
        np.testing.assert_array_equal(stored.reshape(stacked[1].outlines.shape), stacked[1].outlines)


if __name__ == "__main__":
    unittest.main()
