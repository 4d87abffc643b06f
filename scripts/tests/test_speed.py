"""Times of PyTorch's session: every counted frame has one, and what cannot be timed is said."""
from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
from PIL import Image

try:
    import torch

    from jetbench_models.check import speed
    from jetbench_models.command import Refused
except ModuleNotFoundError as error:
    raise unittest.SkipTest(f"{error.name} is not installed") from None


class Speed(unittest.TestCase):
    def setUp(self):
        self.frames = Path(self.enterContext(tempfile.TemporaryDirectory()))
        shade = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
        for t in range(speed.LEAST + 3):
            Image.fromarray(np.roll(shade, 8 * t, 1)).save(self.frames / f"{t:05d}.png")

    def told(self, *words: str) -> tuple[int, str]:
        out, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            code = speed.main(["--frames", str(self.frames), "--warmup", "2", "--threads", "1", *words])
        return code, out.getvalue() or said.getvalue()

    def test_every_counted_frame_has_a_time(self):
        for model, objects in (("sam2_mini", "1"), ("edgetam_mini", "2")):
            code, text = self.told("--model", model, "--objects", objects, "--json")
            found = json.loads(text)
            self.assertEqual((code, len(found["ms"]), found["objects"], found["width"]), (0, speed.LEAST, int(objects), 64))
            self.assertTrue(min(found["ms"]) > 0 and found["hardware"] == "1 threads", text)

    def test_what_cannot_be_timed_is_said(self):
        (self.frames / "00000.png").unlink()
        with self.assertRaisesRegex(Refused, "20 must be left to count"):
            self.told("--model", "sam2_mini")
        Image.new("RGB", (8, 8)).save(self.frames / "00000.png")
        with self.assertRaisesRegex(Refused, "00001.png: not of the size of 00000.png"):
            self.told("--model", "sam2_mini")

    @unittest.skipIf(torch.cuda.is_available(), "there is a GPU")
    def test_a_device_that_is_not_there_has_its_own_exit_code(self):
        code, text = self.told("--model", "sam2_mini", "--device", "cuda:0")
        self.assertEqual(code, 3)
        self.assertIn("PyTorch has no cuda:0", text)
