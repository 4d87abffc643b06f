"""Tests of label packs: crops, text features by their pooling, learned prompts, the report on vectors, the shipped pack.

    scripts/test-python.sh
"""
from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
import unittest
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime as ort

from jetbench_models.clips import crops, shapes
from jetbench_models.clips.synth import TextureBank
from jetbench_models.command import Refused

torch = None
if importlib.util.find_spec("torch"):
    import open_clip
    import torch
    from safetensors.torch import save_file

    from jetbench_models import __main__ as kit
    from jetbench_models.models import DoesNotFit, clip, mobileclip
    from jetbench_models.pack import labels

PACK = Path(__file__).parents[2] / "assets" / "packs" / "labels_mini"


class Crops(unittest.TestCase):
    def test_a_crop_is_a_grown_square_with_the_mean_colour_outside_the_frame(self) -> None:
        mask = np.zeros((80, 100), bool)
        mask[20:30, 30:50] = True
        self.assertEqual(crops.window(mask), (28, 13, 24))
        mask[:] = False
        mask[0:3, 0:6] = True
        frame = np.full((80, 100, 3), 200, np.uint8)
        crop = crops.square(frame, mask, (9, 8, 7))
        self.assertEqual(crops.window(mask), (-1, -3, 8))
        self.assertEqual((crop[4, 0].tolist(), crop[2, 4].tolist(), crop[3, 1].tolist()), ([9, 8, 7], [9, 8, 7], [200] * 3))
        self.assertEqual(crops.cut(frame, mask, 16, (9, 8, 7)).shape, (16, 16, 3))


@unittest.skipUnless(torch, "PyTorch is not installed")
class Text(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.clip, cls.siglip = clip.random("clip_tiny", 1), clip.random("siglip_tiny", 1)
        cls.texts = ["a photo of a ball.", "a box", "a photo of a very old star."]

    def assert_near(self, one, other) -> None:
        self.assertLessEqual(float((one - other).abs().max()), 1e-5)

    def test_the_end_of_text_is_pooled_as_the_library_does(self) -> None:
        ids = clip.ids_of(self.clip, self.texts)
        with torch.no_grad():
            theirs = self.clip.model.get_text_features(ids).pooler_output
        self.assert_near(clip.features(self.clip, ids, "eot"), theirs)
        # Whatever stands behind the end cannot reach it: the tower is causal.
        padded = ids.clone()
        padded[:, 20:] = 7
        self.assert_near(clip.features(self.clip, padded, "eot"), theirs)
        with self.assertRaisesRegex(DoesNotFit, "no end-of-text token"):
            clip.features(self.clip, torch.ones_like(ids), "eot")

    def test_the_mean_is_that_of_the_rows_up_to_the_end(self) -> None:
        ids = clip.ids_of(self.clip, self.texts)
        found = clip.features(self.clip, ids, "mean")
        for row, mine in zip(ids, found):
            end = int((row == self.clip.model.config.text_config.eos_token_id).int().argmax())
            with torch.no_grad():      # alone, cut after its end: mean, then projection, by the library's own tower
                hidden = self.clip.model.text_model(input_ids=row[None, :end + 1]).last_hidden_state
                self.assert_near(mine, self.clip.model.text_projection(hidden.mean(1))[0])
        self.assertGreater(float((found - clip.features(self.clip, ids, "eot")).abs().max()), 1e-2)

    def test_siglip_takes_the_last_row_and_nothing_else(self) -> None:
        ids = clip.ids_of(self.siglip, self.texts)
        with torch.no_grad():
            theirs = self.siglip.model.get_text_features(ids).pooler_output
        self.assert_near(clip.features(self.siglip, ids, "last"), theirs)
        with self.assertRaisesRegex(DoesNotFit, "SigLIP takes last"):
            clip.features(self.siglip, ids, "eot")

    def learned(self, path: Path, ctx, texts: list[str], cut: int) -> None:
        """A checkpoint of CoOp whose contexts are ``ctx`` and whose classes are the words of ``texts``."""
        table = self.clip.model.text_model.embeddings.token_embedding.weight.detach()
        ids = clip.ids_of(self.clip, texts)
        embeds = table[ids]
        state = {"ctx": ctx, "token_prefix": embeds[:, :1], "token_suffix": embeds[:, 1:embeds.shape[1] - cut]}
        torch.save({"state_dict": {f"prompt_learner.{k}": v for k, v in state.items()}, "epoch": 50}, path)

    def test_learned_prompts_that_are_words_give_what_the_words_give(self) -> None:
        table = self.clip.model.text_model.embeddings.token_embedding.weight.detach()
        words, names = "a photo of a", ["ball .", "old box .", "star ."]
        context = table[clip.ids_of(self.clip, [words])[0, 1:5]]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pth.tar-50"
            for pooling in ("eot", "mean"):
                theirs = clip.vectors(self.clip, names, [words + " {}"], pooling)
                for ctx in (context, context.expand(3, -1, -1).clone()):      # shared, and of each class
                    self.learned(path, ctx, names, len(context))
                    self.assert_near(clip.learned_vectors(self.clip, path, names, pooling), theirs)
            with self.assertRaisesRegex(DoesNotFit, "4 classes"):
                clip.learned_vectors(self.clip, path, [*names, "more"], "eot")
            with self.assertRaisesRegex(DoesNotFit, "learned with another CLIP"):
                clip.learned_vectors(clip.random("clip_tiny", 2), path, names, "eot")
            torch.save({"state_dict": {"ctx": context}}, path)
            with self.assertRaisesRegex(DoesNotFit, "token_prefix, token_suffix missing"):
                clip.learned_vectors(self.clip, path, names, "eot")


@unittest.skipUnless(torch, "PyTorch is not installed")
class MobileClip(unittest.TestCase):
    """A small model in OpenCLIP's layout, with MobileCLIP's kind of towers."""

    CONFIG: ClassVar[dict] = {
        "model_cfg": {"embed_dim": 32, "custom_text": True,
                      "vision_cfg": {"timm_model_name": "fastvit_t8", "timm_model_pretrained": False, "timm_pool": "avg",
                                     "timm_proj": None, "image_size": 64},
                      "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2,
                                   "no_causal_mask": True}},
        "preprocess_cfg": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "size": [64, 64]}}

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        logging.disable(logging.WARNING)         # OpenCLIP's, of weights that are not there yet
        self.addCleanup(logging.disable, logging.NOTSET)
        self.folder = Path(place.name) / "small"
        self.folder.mkdir()
        self.says(self.CONFIG)
        torch.manual_seed(1)
        self.model = open_clip.create_model(f"local-dir:{self.folder}", load_weights=False).eval()
        for module in self.model.modules():      # as after training: merging has something to do
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
        save_file(self.model.state_dict(), self.folder / "open_clip_model.safetensors")

    def says(self, config: dict) -> None:
        (self.folder / "open_clip_config.json").write_text(json.dumps(config))

    def test_vectors_and_embeddings_are_those_of_open_clip(self) -> None:
        source = mobileclip.load(self.folder)
        self.assertEqual((source.kind, source.size, clip.width(source), source.resize), ("open_clip", 64, 32, "bilinear_antialias_u8"))
        names = ["ball", "old box"]
        with torch.no_grad():
            rows = self.model.encode_text(open_clip.tokenize([f"a photo of a {name}." for name in names]), normalize=True)
            pixels = torch.rand(2, 3, 64, 64)
            image, merged = self.model.encode_image(pixels), mobileclip.Vision(source.model).merged()(pixels)
        self.assertLessEqual(float((clip.vectors(source, names, ["a photo of a {}."], "eot") - rows).abs().max()), 1e-6)
        self.assertLessEqual(float((merged - image).abs().max() / image.abs().max()), 1e-5)
        self.assertGreater(float((image[0] - image[1]).abs().max() / image.abs().max()), 1e-3, "pictures differ")
        with self.assertRaisesRegex(DoesNotFit, "pooling mean: MobileCLIP takes eot"):
            clip.vectors(source, names, ["a {}"], "mean")

    def test_a_pack_is_written(self) -> None:
        pack = self.folder.parent / "pack"
        with contextlib.redirect_stdout(io.StringIO()):
            code = kit.main(["labels", "export", "--checkpoint", str(self.folder), "--classes", "ball,box", "--dtype", "fp32",
                             "--frames", "2", "--out", str(pack)])
        self.assertEqual(code, 0)
        said = labels.manifest(pack)
        self.assertEqual((said["labels"]["pooling"], said["input"]["size"], said["input"]["std"]), ("eot", 64, [1.0, 1.0, 1.0]))
        self.assertIn("MobileCLIP (small) at 64 px, from a directory of OpenCLIP", said["description"])
        session = ort.InferenceSession(pack / "fp32/vision.onnx", providers=["CPUExecutionProvider"])
        pixels = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            expected = self.model.encode_image(pixels).numpy()
        found = session.run(None, {"pixel_values": pixels.numpy()})[0]
        self.assertLessEqual(float(np.abs(found - expected).max() / np.abs(expected).max()), 1e-5)

    def test_what_cannot_be_read_is_refused_with_the_reason(self) -> None:
        def changed(part: str, **fields: object) -> dict:
            config = json.loads(json.dumps(self.CONFIG))
            (config["preprocess_cfg"] if part == "preprocess" else config["model_cfg"][part]).update(fields)
            return config

        for config, reason in (
                (changed("text_cfg", hf_model_name="roberta-base"), "text_cfg.hf_model_name = 'roberta-base': OpenCLIP would download it"),
                (changed("text_cfg", pool_type="last"), "no rows of the end-of-text token"),
                (changed("text_cfg", width=128), "text pos_embed width changed"),
                (changed("preprocess", size=[96, 96]), r"preprocess_cfg.size = \[96, 96\], and the image tower takes 64 px"),
                (changed("preprocess", interpolation="nearest"), "interpolation bilinear or bicubic expected"),
                ({"model_cfg": {}}, "model_cfg with a text_cfg expected")):
            self.says(config)
            with self.assertRaisesRegex(DoesNotFit, reason):
                mobileclip.load(self.folder)
        self.says(self.CONFIG)
        (self.folder / "open_clip_model.safetensors").write_bytes(b"cut off")
        with self.assertRaises(DoesNotFit):
            mobileclip.load(self.folder)
        (self.folder / "open_clip_model.safetensors").unlink()
        with self.assertRaisesRegex(DoesNotFit, "neither open_clip_model.safetensors nor open_clip_pytorch_model.bin"):
            mobileclip.load(self.folder)


@unittest.skipUnless(torch, "PyTorch is not installed")
class Packs(unittest.TestCase):
    def test_flags_that_would_change_nothing_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trained = Path(folder) / "final.safetensors"
            trained.touch()
            cases = [(["--checkpoint", str(trained), "--classes", "a,b", "--pooling", "mean"], "--classes, --pooling: of no effect"),
                     (["--random-init", "clip_tiny", "--classes", "a,b", "--prompt", "a {}"], "--prompt: of no effect"),
                     (["--checkpoint", folder, "--learned", str(trained), "--classes", "a", "--prompt", "a {}"], "--prompt: of no effect"),
                     (["--checkpoint", folder, "--classes", "a,b", "--seed", "3"], "--seed: of no effect")]
            for words, part in cases:
                said = io.StringIO()
                with contextlib.redirect_stderr(said):
                    self.assertEqual(kit.main(["labels", "export", *words, "--out", f"{folder}/out"]), 2)
                self.assertIn(part, said.getvalue())

    def test_a_pack_is_written_and_classes_that_are_one_are_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pack = Path(folder) / "tiny"
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                code = kit.main(["labels", "export", "--random-init", "clip_tiny", "--classes", "ball,box,star", "--dtype", "fp32",
                                 "--frames", "2",
                                 "--out", str(pack)])
                self.assertEqual((code, kit.main(["labels", "check", str(pack)])), (0, 0))
            self.assertIn("| ball |1.000|", said.getvalue())
            found = labels.read_vectors(pack / labels.VECTORS)
            index = json.loads((pack / "reference/index.json").read_text())
            self.assertEqual((len(index["frames"]), found["text_embeds"].shape), (2, (3, 32)))
            rows = found["text_embeds"].copy()
            for spoil, item in ((lambda r: r.__setitem__(2, r[0]), "classes distinct"), (lambda r: r.__imul__(2), "unit rows"),
                                (lambda r: r.__setitem__((0, 0), np.nan), "finite")):
                changed = rows.copy()
                spoil(changed)
                labels.write_vectors(pack / labels.VECTORS, changed, 2.0, None)
                wrong = {one.item: one.found for one in labels.examine(pack) if one.state == "ERROR"}
                self.assertEqual(set(wrong), {"digest", item})
            labels.write_vectors(pack / labels.VECTORS, rows[:, :16], 2.0, None)
            wrong = {one.item for one in labels.examine(pack) if one.state == "ERROR"}
            self.assertLessEqual({"digest", "width"}, wrong)
            (pack / labels.VECTORS).write_bytes(b"no")
            with self.assertRaises(Refused):
                labels.examine(pack)


@unittest.skipUnless(PACK.is_dir() and torch, "the shipped pack is not here")
class Shipped(unittest.TestCase):
    def test_it_names_drawn_shapes_that_training_has_not_seen(self) -> None:
        session = ort.InferenceSession(PACK / "fp32/vision.onnx", providers=["CPUExecutionProvider"])
        found = labels.read_vectors(PACK / labels.VECTORS)
        rng, bank, right = np.random.default_rng(680_000), TextureBank(680_005), 0
        seen, truth = shapes.crops(rng, bank, 240, 64, (128, 128, 128))
        for crop, label in zip(seen, truth):
            pixels = ((crop.astype(np.float32) / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None]
            right += int(labels.probabilities(session.run(None, {"pixel_values": pixels})[0], found, "softmax").argmax() == label)
        self.assertGreaterEqual(right / len(truth), 0.93)      # 95 % of 2,000; this many scatter by 1.3 %
        self.assertEqual([one for one in labels.examine(PACK) if one.state == "ERROR"], [])


if __name__ == "__main__":
    unittest.main()
