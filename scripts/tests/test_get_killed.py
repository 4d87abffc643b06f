"""Can the trial of ``packs get`` (``get_killed.py``) fail? A script stands in for the program: seconds."""
from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

GET = """
    RUNS=$(ls "$NOTES" | wc -l); mkdir -p "$HOME/.local/share/jetbench" "$HOME/packs"; {WRONG}
    if [ ! -e "$HOME/.local/share/jetbench/made" ]; then
        echo "$HOME: the exporter is not installed"; echo "downloads are kept in $HOME"
        echo "python3 -m venv x"; sleep 0.1
        echo "x/python -m pip install numpy"; sleep 0.1; echo "Installing collected packages: numpy"
        echo "x/python -m pip install --index-url y torch==1"; sleep 0.1
        echo "x/python -m pip install torch==1"; sleep 0.1; echo "Installing collected packages: torch"; sleep 0.1
        echo made >"$HOME/.local/share/jetbench/made"
    fi
    echo "downloads are kept in $HOME"; sleep 0.1
    echo "[   0.1 s] toy: export"; sleep 0.1
    mkdir -p "$HOME/packs/.getting/toy"; echo {CONTENT} >"$HOME/packs/.getting/toy/pack.toml"
    echo "[   0.2 s] toy: proof"; sleep 2
    rm -rf "$HOME/packs/toy"; mv "$HOME/packs/.getting/toy" "$HOME/packs/toy"
"""


class Trial(unittest.TestCase):
    def trial(self, kills: int, wrong: str = "", content: str = "pack") -> tuple[int, str]:
        root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (root / "tmp").mkdir()
        script = root / "get.sh"
        script.write_text(textwrap.dedent(GET).replace("{WRONG}", wrong or ":").replace("{CONTENT}", content))
        notes = Path(self.enterContext(tempfile.TemporaryDirectory()))
        around = {"HOME": f"{root}/home/user", "NOTES": str(notes), "PATH": "/usr/bin:/bin"}
        words = [sys.executable, str(Path(__file__).with_name("get_killed.py")), "--root", str(root), "--home", "home/user",
                 "--name", "toy", "--kills", str(kills), "--notes", str(notes),
                 *(f"--env={name}={value}" for name, value in around.items()), "--", "/bin/sh", str(script)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def test_a_program_that_is_killed_and_goes_on_passes(self):
        code, said = self.trial(8)
        self.assertEqual(code, 0, said)
        self.assertEqual(said.count("killed "), 8, said)
        for phase in ("environment", "packages", "PyTorch, unpacked", "checkpoint", "export", "proof"):
            self.assertIn(f"s into '{phase}', ", said)

    def test_what_is_wrong_is_found(self):
        left, counted = 'echo x >"$HOME/../../tmp/x-$$"', 'echo $RUNS >"$HOME/.local/share/jetbench/count"'
        code, said = self.trial(1, f'{left}; {counted}; mkdir -p "$HOME/packs/toy"', "$RUNS")
        self.assertEqual(code, 1, said)
        for part in ("left over: ", "the homes differ in .local/share/jetbench/count", "the packs differ in pack.toml",
                     "a pack of a killed run has its name"):
            self.assertIn(f"FAULT: {part}", said)
        code, said = self.trial(1, '[ ! -e "$NOTES/run-2.log" ] || exit 1')
        self.assertTrue(code == 1 and "FAULT: the last run ended with exit code 1" in said, said)


if __name__ == "__main__":
    unittest.main()
