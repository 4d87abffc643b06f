"""Tests of EfficientTAM on a model of a few channels: names of weights, the pooled attention, graphs against the session.

That the session computes what the official code computes is shown by the command ``official``.
"""
from __future__ import annotations

import importlib.util
import math
import tempfile
import tomllib
import unittest
from pathlib import Path

import numpy as np
import onnxruntime as ort

from jetbench_models.check import placement
from jetbench_models.clips import prompts
from jetbench_models.command import Refused
from jetbench_models.models import MEAN, STD

torch = None
if importlib.util.find_spec("torch"):
    import torch

    from jetbench_models.export import command, convert, fused, manifest, presence
    from jetbench_models.export.graphs import geometry, memory, signatures
    from jetbench_models.models import efficienttam, miniature, released, session

SIZE = 128


def tiny(pooled: str = "") -> torch.nn.Module:
    """Three blocks of 32 channels, and the miniatures' tracker, with random weights."""
    prompt, decoder, remember = miniature._shared(SIZE)
    made = efficienttam.config(efficienttam.Sizes(32, 2, 3, 3), pooled, fpn_hidden_size=miniature.HIDDEN, prompt_encoder_config=prompt,
                               mask_decoder_config=decoder, memory_attention_feed_forward_hidden_size=miniature.HIDDEN, **remember)
    torch.manual_seed(0)
    model = released.empty(released.resize(made, SIZE))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight[0].numel() ** -0.5)
        # a release of full size stores one matrix under two names
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    if pooled:
        model.load_state_dict(tiny().state_dict())
        return model
    presence.apply(model, presence.Balance(100.0))                  # the object is there on every frame
    return model


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Weights(unittest.TestCase):
    def test_an_official_file_is_read_under_the_name_that_is_given(self):
        model = released.random("efficienttam_ti", 0, 64).model
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pt"
            released.save(model, path)
            there = released.load(path, "efficienttam_ti_2", 64)
            with self.assertRaisesRegex(released.DoesNotFit, "efficienttam_ti, .*efficienttam_ti_2 have the same names.*--model"):
                released.load(path)
            with self.assertRaisesRegex(released.DoesNotFit, "looks like efficienttam_ti"):
                released.load(path, "efficienttam_s")
            with self.assertRaisesRegex(released.DoesNotFit, r"ends in \.pt"):
                released.save(model, Path(folder) / "directory")
            official = torch.load(path, weights_only=True)["model"]
        self.assertEqual((there.family, there.source, there.model.config.pooled), ("efficienttam", "official", "keys"))
        for key, value in model.state_dict().items():
            self.assertTrue(torch.equal(value, there.model.state_dict()[key]), key)
        positions = official["image_encoder.trunk.pos_embed"]       # as the official model has it: a class token's row comes first
        self.assertEqual(list(positions.shape), [1, 1 + 14 * 14, 192])
        self.assertTrue(torch.equal(positions[0, 1 + 14 * 2 + 5], model.vision_encoder.backbone.pos_embed[0, :, 2, 5]))

    def test_transformers_cannot_be_followed(self):
        words = ["--model", "efficienttam_ti", "--random-init", "--image-size", "64", "--out", "not/there", "--follow", "transformers"]
        with self.assertRaisesRegex(Refused, "transformers has no EfficientTAM"):
            command.main(words)

    def test_names_give_size_and_form(self):
        found = {name: (released.image_size_of(name), released.config(name).pooled, released.config(name).image_size)
                 for name in efficienttam.NAMES if "_s" in name}
        self.assertEqual(found, {"efficienttam_s": (1024, "", 1024), "efficienttam_s_512x512": (512, "", 512),
                                 "efficienttam_s_1": (1024, "scores", 1024), "efficienttam_s_2": (1024, "keys", 1024)})


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Pooled(unittest.TestCase):
    def test_squares_of_four_become_their_mean(self):
        x = torch.arange(2.0 * 16).reshape(1, 32, 1)                # two maps of 4 x 4
        self.assertEqual(efficienttam.pool(x, 4).flatten().tolist(), [2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5])

    def test_attention_is_that_of_the_sums_written_out(self):
        """Two memories of 2 x 2 tokens and two pointers, key by key."""
        for pooled in ("scores", "keys"):
            config = efficienttam.config(efficienttam.Sizes(32, 2), pooled)
            config.memory_attention_hidden_size, config.memory_attention_rope_feat_sizes = 8, [2, 2]
            torch.manual_seed(1)
            attention = efficienttam.PooledAttention(config, kv_in_dim=4, rope_k_repeat=True).eval()
            query, source = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 10, 4)
            still = (torch.ones(4, 8), torch.zeros(4, 8))           # no rotation
            with torch.no_grad():
                found, _ = attention(query, source, source, still, num_k_exclude_rope=2)
                q, k, v = attention.q_proj(query)[0, 0], attention.k_proj(source)[0, 0], attention.v_proj(source)[0, 0]
                keys = torch.stack([k[:4].mean(0), k[4:8].mean(0), k[8], k[9]])
                values = torch.stack([v[:4].mean(0), v[4:8].mean(0), v[8], v[9]])
                more = torch.tensor([math.log(4), math.log(4), 0, 0])
                if pooled == "keys":
                    keys, more = keys + more[:, None], torch.zeros(4)
                wanted = attention.o_proj(torch.softmax(q @ keys.T / math.sqrt(8) + more, -1) @ values)
                np.testing.assert_allclose(found[0, 0], wanted, atol=1e-5)
                one, _ = attention(query, source[:, :, 4:], source[:, :, 4:], still, num_k_exclude_rope=2)
                whole = attention.o_proj(torch.softmax(q @ k[4:].T / math.sqrt(8), -1) @ v[4:])
                np.testing.assert_allclose(one[0, 0], whole, atol=1e-5, err_msg="one memory is not pooled")

    def test_objects_of_one_batch_may_be_of_different_ages(self):
        module = memory.memory_attention(tiny("scores")).eval()
        g = module.geometry
        torch.manual_seed(2)
        embed, bank = torch.randn(1, g.channels, g.grid, g.grid), torch.randn(3, g.slots, g.memory_tokens, g.memory_channels)
        ptrs, ages = torch.randn(3, g.pointers, g.channels), torch.tensor([1.0, 2.0, 30.0])
        with torch.no_grad():
            together = module(embed, bank, ptrs, ages)
            apart = torch.cat([module(embed, *(x[i:i + 1] for x in (bank, ptrs, ages))) for i in range(3)])
        np.testing.assert_allclose(together, apart, atol=1e-5)

    def test_a_memory_that_grows_is_refused(self):
        with self.assertRaisesRegex(Refused, "--variant fixed"):
            memory.memory_attention(tiny("keys"), grows=True)


@unittest.skipIf(torch is None, "torch and transformers are not installed")
class Graphs(unittest.TestCase):
    @staticmethod
    def track(model: torch.nn.Module, pixels: torch.Tensor, coords: torch.Tensor, labels: torch.Tensor) -> list[np.ndarray]:
        """Logits of every frame, a click on the first, from the modules that become graphs."""
        g, one = geometry.Geometry.of(model), torch.ones(1)
        made = {name: s.module(model).eval() for name, s in signatures.signatures(g, official=True).items()}
        dense, none = torch.zeros(1, g.channels, g.grid, g.grid), torch.tensor([[-1, -10, -10, -10]], dtype=torch.int32)
        state = (torch.zeros(1, g.slots, g.memory_tokens, g.memory_channels), torch.zeros(1, g.pointers, g.channels), 0 * one)
        found = []
        with torch.no_grad():
            for t, frame in enumerate(pixels.split(1)):
                embed, first = made["image_encoder"](frame), one * (t == 0)
                cond = made["memory_attention"](embed, *state) if t else embed
                low, memory_mask, _, score, pointer = made["mask_decoder"](cond, 0 * coords if t else coords, none if t else labels,
                                                                           dense, 0 * one, first, one)
                state = made["memory_encoder"](embed, memory_mask, score, pointer, first, *state)
                found.append(low[0, 0].numpy())
        return found

    def test_they_track_as_the_session_does(self):
        """Three frames after a click: the first has one memory, the others more."""
        mask = np.zeros((SIZE, SIZE), bool)
        mask[45:75, 40:85] = True
        frames = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3)).astype(np.uint8).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
        prompt = prompts.derive(mask, "points")
        coords, labels = torch.zeros(1, 4, 2), torch.tensor([[1, -10, -10, -10]], dtype=torch.int32)
        coords[0, 0] = torch.tensor(prompt.points[0][:2])
        pixels = ((torch.from_numpy(frames) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
        tracks = {}
        for pooled in efficienttam.ADDITIONS:
            model = tiny(pooled)
            (wanted,) = session.run_session(model, frames, [prompt], official=True)
            for t, logits in enumerate(self.track(model, pixels, coords, labels)):
                np.testing.assert_allclose(logits, wanted.low_res[t], atol=1e-3, err_msg=f"{pooled} frame {t}")
            tracks[pooled] = wanted.low_res
        for pooled in efficienttam.ADDITIONS[1:]:
            np.testing.assert_allclose(tracks[""][1], tracks[pooled][1], atol=1e-3, err_msg="one memory is not pooled")
            self.assertGreater(np.abs(tracks[""][2] - tracks[pooled][2]).max(), 1e-2)

    def test_the_pooled_attention_needs_nothing_that_a_device_lacks(self):
        model = tiny("scores")
        g = geometry.Geometry.of(model)
        signature = signatures.signatures(g)["memory_attention"]
        made = convert.export_graph(model, "memory_attention", signature)         # refuses a Shape
        self.assertEqual(placement.boolean_faults(made), [])
        self.assertNotIn("memory_attention", fused.forms(model))
        values = {name: x.numpy() for name, x in signatures.example_inputs(signature, objects=2).items()}
        runtime = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        for age in (1.0, 3.0):
            values["age"] = np.array([age, 9.0], np.float32)
            with torch.no_grad():
                wanted = signature.module(model).eval()(*map(torch.from_numpy, values.values()))
            np.testing.assert_allclose(runtime.run(None, values)[0], wanted, atol=1e-4)

    def test_frame_and_decoder_have_no_finer_maps(self):
        made = signatures.signatures(geometry.Geometry.of(tiny()))
        ports = [p.name for s in made.values() for p in (*s.inputs, *s.outputs)]
        self.assertEqual([name for name in ports if name.startswith("high_res")], [])
        about = tomllib.loads(manifest.manifest("t", "efficienttam", "", geometry.Geometry.of(tiny()),
                                                dict(checkpoint_sha256="", command="", libraries={}, notes=""),
                                                {name: {"fp32": ""} for name in made}, None, test_model=True))
        self.assertEqual((about["memory"]["storage"], about["test_model_of"]), ("bf16_rounded", "EfficientTAM"))


if __name__ == "__main__":
    unittest.main()
