"""Tests of the model kit's command line: help, wrong arguments, what is missing, and the packages that it asks for.

    scripts/test-python.sh
"""
from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
import unittest.mock
from pathlib import Path

from jetbench_models import __main__ as kit
from jetbench_models.check import runtimes, tensorrt
from jetbench_models.command import Refused

SCRIPTS = Path(__file__).parents[1]
PACKS = Path(__file__).parents[2] / "assets" / "packs"
TORCH = importlib.util.find_spec("torch") is not None     # what only the exporter needs


class Commands(unittest.TestCase):
    """The command line, as a person without the packages meets it: ``python -S`` knows none."""

    @staticmethod
    def run_kit(*words: str, packages: bool = False) -> tuple[int, str]:
        python = [sys.executable] if packages else [sys.executable, "-S"]
        ran = subprocess.run([*python, "-m", "jetbench_models", *words], capture_output=True, text=True, check=False,
                             env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
        return ran.returncode, ran.stdout + ran.stderr

    def test_help_lists_every_command_without_any_package(self):
        code, text = self.run_kit("--help")
        self.assertEqual(code, 0)
        readme = (SCRIPTS / "README.md").read_text()
        for name in kit.COMMANDS:
            self.assertIn(f"\n  {name} ", text)
            self.assertRegex(readme, rf"(?m)^\| .*`{name}`.* \|", f"README.md does not list {name}")

    def test_a_command_says_what_to_install(self):
        for name, (_, extra, _) in kit.COMMANDS.items():
            code, text = self.run_kit(name, "--help")
            if name == "get":                   # which tells sizes before anything is installed
                self.assertEqual(code, 0, text)
                continue
            self.assertEqual(code, 2, text)
            self.assertIn(f"pip install './scripts[{extra}]'" if extra else "pip install ./scripts", text)
            self.assertNotIn("Traceback", text)

    def test_torch_that_only_an_option_wants_is_named_too(self):
        self.assertIn("'./scripts[export]'", kit.missing("torch", ""))
        self.assertNotIn("pip install", kit.missing("sam2", "export"))

    def test_wrong_arguments_are_usage_errors(self):
        golden_less = str(Path(__file__).parents[2] / "runners/tests/data/sam2_image_mini")
        small = str(PACKS / "sam2_mini")
        broken = self.enterContext(tempfile.TemporaryDirectory())
        (Path(broken) / "pack.toml").write_text("no toml")
        exports = ((["export", "--checkpoint", "x.pt", "--out", small, "--save-checkpoint", "y.pt"], "goes with --random-init"),
                   (["export", "--model", "edgetam", "--random-init", "--out", __file__], "is no folder"))
        for words, part in (*(exports if TORCH else ()), (["check", "--pack", "nowhere"], "nowhere: not a pack"), (["verify"], "--pack"),
                            (["check", "--tensorrt", small, "nowhere"], "nowhere: not a pack"), (["check"], "--tensorrt"),
                            (["check", "--tensorrt", small, "--runtime", "."], "--runtime goes with --pack"),
                            (["check", "--pack", small, "--parse-only"], "--parse-only goes with --tensorrt"),
                            (["verify", "--pack", str(PACKS / "sam2_mini"), "--prompts", "click"], "known are points, bbox, mask"),
                            (["verify", "--pack", golden_less], "no golden reference"),
                            (["verify", "--pack", broken], "pack.toml: "),
                            (["get", "edgetan"], "no released checkpoint"),
                            (["verify", "--pack", small, "--noise", "nan"], "not a finite number"),
                            (["verify", "--pack", small, "--model", "edgetam"], "which is missing"),
                            (["heldout", "draw", "--mode", "easy", "--out", "x", "--clips", "0"], "from 1 on"),
                            (["heldout", "read", str(SCRIPTS)], "run.json"), (["nothing"], "unknown command"), ([], "is missing")):
            code, text = self.run_kit(*words, packages=True)
            self.assertEqual(code, 2, text)
            self.assertIn(part, text)
            self.assertNotIn("Traceback", text)

    def test_the_lock_has_every_package_that_is_asked_for(self):
        project = tomllib.loads((SCRIPTS / "pyproject.toml").read_text())["project"]
        lines = [line for line in (SCRIPTS / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
        locked = dict(line.split("==") for line in lines)
        self.assertEqual(len(lines), len(locked), "a package stands twice")
        groups = project["optional-dependencies"]
        for wanted in (*project["dependencies"], *(w for group in groups.values() for w in group)):
            name, bound = wanted.split(">=")
            numbers = [[int(n) for n in version.split(".")] for version in (bound, locked[name])]
            self.assertLessEqual(*numbers, name)
        train, export = ({w.split(">=")[0] for w in groups[name]} for name in ("train", "export"))
        self.assertLessEqual(train, export, "one environment exports what it trained")

    def test_what_the_exporter_imports_is_asked_for(self):
        """`jetbench packs get` installs the lock's sections `always` and `extras …`, and nothing else."""
        sections = re.split(r"^# ", (SCRIPTS / "requirements.lock").read_text(), flags=re.MULTILINE)
        installed = {line.split("==")[0].lower() for text in sections if text.startswith(("always", "extras"))
                     for line in text.splitlines()[1:] if line}
        files = [file for file in (SCRIPTS / "jetbench_models").rglob("*.py") if "train" not in file.parts]
        names = set()
        for file in files:
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add((node.module or "").partition(".")[0])
        called = {"cv2": "opencv-python-headless", "PIL": "pillow", "open_clip": "open_clip_torch"}
        wanted = {called.get(name, name) for name in names - sys.stdlib_module_names}
        self.assertIn("torch", wanted)
        self.assertLessEqual(wanted, installed)


class Compiler(unittest.TestCase):
    """``check --tensorrt`` with a script of ours in place of the one that asks NVIDIA's compiler."""
    def ask(self, script: str, *words: str) -> tuple[int, list[str]]:
        """(what the command returned, what the script was given)."""
        with tempfile.TemporaryDirectory() as folder:
            stand_in, heard = Path(folder) / "check.sh", Path(folder) / "heard"
            stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{heard}\n{script}\n')
            stand_in.chmod(0o755)
            with unittest.mock.patch.object(tensorrt, "SCRIPT", stand_in):
                code = runtimes.main(["--tensorrt", *words])
            return code, heard.read_text().splitlines()

    def test_packs_and_options_arrive_and_the_answer_comes_back(self):
        packs = [str(PACKS / "sam2_mini"), str(PACKS / "edgetam_mini")]
        self.assertEqual(self.ask("exit 0", *packs), (0, packs))
        code, heard = self.ask("exit 1", packs[0], "--dtype", "bf16,fp32", "--compute-capability", "89", "--parse-only", "--json")
        self.assertEqual(code, 1, "a refusal of the compiler")
        self.assertEqual(heard, [packs[0], "--dtype=bf16,fp32", "--compute-capability=89", "--parse-only", "--json"])

    def test_what_is_missing_is_no_answer(self):
        with self.assertRaisesRegex(Refused, "ended with 3"):
            self.ask("exit 3", str(PACKS / "sam2_mini"))
        with unittest.mock.patch.object(tensorrt, "SCRIPT", Path("nowhere.sh")), self.assertRaisesRegex(Refused, "nowhere.sh is missing"):
            runtimes.main(["--tensorrt", str(PACKS / "sam2_mini")])
