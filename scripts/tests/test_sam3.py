"""Tests of SAM 3's tracker in small sizes: graphs against transformers' session, the published file's names, what a pack says."""
from __future__ import annotations

import functools
import importlib.util
import tempfile
import tomllib
import unittest
from pathlib import Path

import numpy as np
import onnxruntime as ort

from jetbench_models.check import placement
from jetbench_models.clips import KINDS, prompts
from jetbench_models.command import Refused

torch = None
if importlib.util.find_spec("torch"):
    import torch
    from safetensors.torch import save_file

    from jetbench_models.export import command, convert, fused, golden, manifest, presence
    from jetbench_models.export.graphs import geometry, layers, signatures
    from jetbench_models.models import released, sam3, session

NAME = "sam3_tracker_small"
ABOUT = dict(checkpoint_sha256="", command="", libraries={}, notes="")


@functools.cache
def small() -> released.Checkpoint:
    return released.random(NAME, 0)


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Weights(unittest.TestCase):
    def test_the_tracker_is_read_out_of_the_whole_models_file(self):
        made = small()
        state = made.model.state_dict()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            whole = {"detector_model.text_encoder.weight": torch.zeros(1), "detector_model.vision_encoder.neck.x": torch.zeros(1)}
            for key, value in state.items():
                prefix = "detector_model." if key.startswith("vision_encoder.backbone.") else "tracker_model."
                name = key.replace("vision_encoder.neck.", "tracker_neck.")
                whole[name if name != key else prefix + key] = value.clone()
            save_file(whole, path)
            (Path(folder) / "LICENSE").write_text("SAM License\n")
            read = released.load(path, NAME)
            made.model.config.save_pretrained(folder)
            there = released.load(Path(folder))
            del whole["tracker_model.no_object_pointer"]
            save_file(whole, path)
            with self.assertRaisesRegex(released.DoesNotFit, "not in the checkpoint:\n    no_object_pointer"):
                released.load(path, NAME)
            with self.assertRaisesRegex(released.DoesNotFit, "without .pt"):
                released.save(made.model, Path(folder) / "weights.pt")
        for found in (read, there):
            self.assertEqual((found.family, found.licence), ("sam3_tracker", "SAM License\n"))
            self.assertTrue(all(torch.equal(value, found.model.state_dict()[key]) for key, value in state.items()))

    def test_names_and_sizes(self):
        self.assertEqual([released.image_size_of(name) for name in sam3.NAMES], [1008, 112])
        full, wider = (released.config("sam3_tracker", size) for size in (None, 1120))
        vit = full.vision_config.backbone_config
        self.assertEqual((vit.hidden_size, vit.num_hidden_layers, vit.window_size), (1024, 32, 24))
        self.assertEqual(vit.global_attn_indexes, [7, 15, 23, 31])
        self.assertEqual((full.memory_attention_rope_feat_sizes, wider.memory_attention_rope_feat_sizes), ([72, 72], [80, 80]))
        self.assertEqual([sam3.name_of(released.config(name)) for name in sam3.NAMES], list(sam3.NAMES))
        with self.assertRaisesRegex(released.DoesNotFit, "multiples of 14"):
            released.config("sam3_tracker", 1024)

    def test_the_official_predictor_is_not_followed(self):
        words = ["--model", NAME, "--random-init", "--out", "not/there", "--follow", "official"]
        with self.assertRaisesRegex(Refused, "was not compared"):
            command.main(words)


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Graphs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = small().model
        cls.geometry = geometry.Geometry.of(cls.model)

    def test_sizes_follow_the_grid(self):
        made = signatures.signatures(self.geometry)
        shapes = {port.name: port.shape[1:] for s in made.values() for port in (*s.inputs, *s.outputs)}
        self.assertEqual([shapes[name] for name in ("image", "image_embed", "high_res_0", "high_res_1")],
                         [(3, 112, 112), (256, 8, 8), (32, 32, 32), (64, 16, 16)])
        self.assertEqual([shapes[name] for name in ("mask", "low_res_mask", "mask_for_memory")],
                         [(1, 112, 112), (1, 32, 32), (1, 128, 128)])

    def test_maps_are_resized_as_pytorch_does_it(self):
        torch.manual_seed(0)
        for source, target in ((1008, 288), (288, 1008), (1008, 1152), (28, 32)):
            x = 10 * torch.randn(2, 1, source, source)
            wanted = torch.nn.functional.interpolate(x, size=(target, target), mode="bilinear", antialias=target < source)
            np.testing.assert_allclose(layers.Resized(source, target)(x), wanted, atol=2e-5)

    def test_they_track_as_the_session_does(self):
        """Every kind of prompt, four frames."""
        clip = golden.leaving_clip(112, 4)
        given = [prompts.derive(clip.masks[0, 0], kind) for kind in KINDS]
        presence.apply(self.model, presence.Balance(5.0))
        wanted = session.run_session(self.model, clip.frames, given)
        made = {name: s.module(self.model).eval() for name, s in signatures.signatures(self.geometry).items()}
        pixels = torch.from_numpy(np.stack([session.resized_frame(112, frame) for frame in clip.frames])).permute(0, 3, 1, 2)
        g, one = self.geometry, torch.ones(1)
        no_coords, no_point = torch.zeros(1, 4, 2), torch.tensor([[-1, -10, -10, -10]], dtype=torch.int32)
        no_dense = torch.zeros(1, g.channels, g.grid, g.grid)
        height, width = clip.frames.shape[1:3]
        for prompt, track in zip(given, wanted):
            state = (torch.zeros(1, g.slots, g.memory_tokens, g.memory_channels), torch.zeros(1, g.pointers, g.channels), 0 * one)
            with torch.no_grad():
                for t, frame in enumerate(pixels.split(1)):
                    embed, *maps = made["image_encoder"]((frame / 255 - 0.5) / 0.5)
                    first, coords, labels, dense, masked = one * (t == 0), no_coords.clone(), no_point.clone(), no_dense, 0 * one
                    if t == 0 and prompt.kind == "mask":
                        mask = torch.from_numpy(prompt.full_mask().astype(np.float32))[None, None]
                        mask = torch.nn.functional.interpolate(mask, size=(112, 112), mode="bilinear", antialias=True) >= 0.5
                        dense, *instead = made["mask_prompt"](mask.float())
                        masked = one
                    elif t == 0:
                        points = (np.array(prompt.box).reshape(2, 2) if prompt.kind == "bbox" else np.array(prompt.points)[:, :2])
                        coords[0, :len(points)] = torch.from_numpy(points * [112 / width, 112 / height])
                        labels[0, :len(points)] = torch.tensor([2, 3] if prompt.kind == "bbox" else [1])
                    cond = made["memory_attention"](embed, *state) if t else embed
                    single = 0 * one if t == 0 and prompt.kind == "bbox" else one
                    low, memory, _, score, pointer = made["mask_decoder"](cond, *maps, coords, labels, dense, masked, first, single)
                    if t == 0 and prompt.kind == "mask":
                        low, memory, score = instead
                    state = made["memory_encoder"](embed, memory, score, pointer, first, *state)
                    np.testing.assert_allclose(low[0, 0], track.low_res[t], atol=1e-3, err_msg=f"{prompt.kind} frame {t}")
                    np.testing.assert_allclose(pointer[0], track.obj_ptr[t], atol=1e-4, err_msg=f"{prompt.kind} frame {t}")

    def test_the_encoder_needs_nothing_that_a_device_lacks(self):
        """Both of its forms; windows go over the edge of this map, and their zeros are seen."""
        signature = signatures.signatures(self.geometry)["image_encoder"]
        image = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            maps = self.model.get_image_features(image).fpn_hidden_states
        sides = (32, 16, 8)
        fine, middle, embed = (x.permute(1, 2, 0).unflatten(2, (side, side)) for x, side in zip(maps, sides))
        for form in (None, fused.forms(self.model)["image_encoder"]):
            made = convert.export_graph(self.model, "image_encoder", signature, form)       # refuses a Shape
            self.assertEqual(placement.boolean_faults(made), [])
            runtime = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
            for found, wanted in zip(runtime.run(None, {"image": image.numpy()}), (embed, fine, middle)):
                np.testing.assert_allclose(found, wanted, atol=1e-4)

    def test_a_manifest_says_licence_and_normalisation(self):
        digests = {name: {"fp32": ""} for name in signatures.signatures(self.geometry)}
        for random, licence, stands_in in ((True, "Apache-2.0", "SAM 3"), (False, "LicenseRef-SAM", None)):
            about = tomllib.loads(manifest.manifest("p", sam3.FAMILY, "", self.geometry, ABOUT, digests, None, test_model=random))
            self.assertEqual((about["licence"], about.get("test_model_of")), (licence, stands_in))
            self.assertEqual((about["input"]["size"], about["input"]["mean"], about["input"]["std"]), (112, [0.5] * 3, [0.5] * 3))
        made = released.Checkpoint(self.model, NAME, "hugging face", "", "SAM License\n")
        self.assertRegex(manifest.licence(made), r"(?s)SAM License of Meta.*same terms.*not for military.*\nSAM License\n$")


if __name__ == "__main__":
    unittest.main()
