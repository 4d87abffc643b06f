"""The video segmenter: its graph against transformers over a clip, its clips with classes, and the training step."""
from __future__ import annotations

import tempfile
import tomllib
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from transformers import VideomtConfig, VideomtForUniversalSegmentation

from jetbench_models.clips import tubes as clips
from jetbench_models.clips.synth import TextureBank
from jetbench_models.export import segmenter
from jetbench_models.models import MEAN, STD, videomt
from jetbench_models.models.released import Checkpoint, state_digest
from jetbench_models.pack import half, tubes
from jetbench_models.pack.detections import resized
from jetbench_models.train import segmenter as training


def small() -> torch.nn.Module:
    torch.manual_seed(3)
    model = VideomtForUniversalSegmentation(VideomtConfig(
        hidden_size=16, num_hidden_layers=2, num_blocks=1, mlp_ratio=2, num_attention_heads=2, image_size=32, patch_size=8, num_queries=5,
        num_register_tokens=1, **videomt._labels(("a", "b")))).eval()
    with torch.no_grad():
        model.class_predictor.weight.mul_(6)
        model.mask_head.fc3.weight.mul_(8)
    return model


class Graph(unittest.TestCase):
    """One export, looked at from several sides."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.model = small()
        cls.place = tempfile.TemporaryDirectory()
        cls.pack = Path(cls.place.name) / "p"
        cls.pack.mkdir()
        checkpoint = Checkpoint(cls.model, "videomt (own sizes)", "random", state_digest(cls.model), None)
        segmenter.write(checkpoint, cls.pack, "p", ("fp32", "bf16"), 4, 5, "command", "", lambda _: None)
        cls.clip = [np.asarray(Image.open(cls.pack / f"reference/frames/{i:05d}.png")) for i in range(4)]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def test_the_state_is_carried_as_in_the_library(self) -> None:
        known = segmenter.answers(self.model, self.clip)
        session = onnxruntime.InferenceSession(self.pack / "fp32/segmenter.onnx", providers=["CPUExecutionProvider"])
        state = np.zeros((1, 5, 16), np.float32)
        for answer, pixels in zip(known, self.clip, strict=True):
            self.assertLessEqual(np.abs(answer.seen.astype(int) - resized(pixels, 32)).max(), 1)
            seen = ((answer.seen / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None]
            logits, masks, state = session.run(None, dict(image=seen.astype(np.float32), queries=state))
            for ours, theirs in ((logits[0], answer.logits), (masks[0], answer.masks), (state[0], answer.queries)):
                self.assertLess(np.abs(ours - theirs).max(), 1e-4 * max(1.0, np.abs(theirs).max()))
        first, second = (np.abs(known[i].logits).max() for i in (0, 1))
        self.assertNotAlmostEqual(first, second, msg="the state changes the answer")

    def test_the_graph_has_no_choices_and_half_operands_where_they_belong(self) -> None:
        graphs = {kind: onnx.load(self.pack / kind / "segmenter.onnx").graph for kind in ("fp32", "bf16")}
        kinds = {node.op_type for node in graphs["fp32"].node}
        self.assertFalse(kinds & {"Where", "Equal", "Greater", "ConvTranspose", "Einsum", "Shape", "If"}, kinds)
        kinds = {t.name: t.data_type for t in graphs["bf16"].initializer}
        self.assertIn(onnx.TensorProto.BFLOAT16, kinds.values())
        # What decides the class, and what the next frame starts from, stay fp32; the masks do not.
        last = {name: half.last_products(graphs["bf16"], (name,)) for name in ("logits", "queries_out", "masks")}
        single = {node.output[0] for node in graphs["bf16"].node if node.op_type in half.HALF_OPERATORS
                  and any(kinds.get(name) == onnx.TensorProto.FLOAT for name in node.input)}
        self.assertTrue(last["logits"] and last["logits"] <= single and last["queries_out"] <= single)
        self.assertFalse(last["masks"] & single)

    def test_the_manifest_and_the_reference_say_what_they_hold(self) -> None:
        manifest = tomllib.loads((self.pack / "pack.toml").read_text())
        self.assertEqual(manifest["segmenter"], dict(queries=5, classes=["a", "b"]))
        self.assertEqual(manifest["state"], [dict(input="queries", output="queries_out")])
        answers = segmenter.answers(self.model, self.clip)
        for i, answer in enumerate(answers):
            stored = np.asarray(Image.open(self.pack / f"reference/{i:03d}_labels.png"))
            np.testing.assert_array_equal(stored, answer.labels)
            self.assertEqual(set(np.unique(stored)) - {0} - {q + 1 for q in answer.scores}, set())
        self.assertTrue(any(answer.scores for answer in answers), "some query is an object, or the rule is not tried")
        self.assertEqual(tubes.sampled(answers[0].masks, 2).shape, (5, 8, 8))


class Training(unittest.TestCase):
    def test_a_clip_has_its_objects_of_one_class_at_the_models_size(self) -> None:
        bank, rng = TextureBank(7), np.random.default_rng(0)
        clip = clips.training_clip(rng, bank, 3, 48, 16, 1.0, 0.0, 0.3)
        self.assertEqual((clip.frames.shape, clip.masks.shape[1:], len(clip.labels)), ((3, 48, 48, 3), (3, 16, 16), len(clip.masks)))
        self.assertLessEqual(float(clip.masks.max()), 1.0)
        self.assertEqual((set(clip.labels.tolist()), clips.CLASSES), ({0}, ("object",)))

    def test_an_object_keeps_its_query(self) -> None:
        shares = np.zeros((1, 2, 4, 4), np.float32)
        shares[0, :, :2] = 1
        clip = training.Tubes(np.zeros((2, 4, 4, 3), np.uint8), shares, np.array([1]))
        good, bad = torch.full((4, 4), -6.0), torch.full((4, 4), -6.0)
        good[:2] = 6.0
        sure = torch.tensor([[0.0, 6.0, 0.0], [0.0, 0.0, 6.0]])[None, None]
        frame = (sure, torch.stack([good, bad])[None, None], good[None])
        swapped = (sure.flip(2), torch.stack([bad, good])[None, None], good[None])
        kept, _ = training.clip_loss([frame, frame], [clip])
        moved, _ = training.clip_loss([frame, swapped], [clip])
        self.assertLess(float(kept), 0.2)
        self.assertGreater(float(moved), 5.0, "the object's query of the first frame is the one that counts on the second")
