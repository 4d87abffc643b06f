"""Tests of the table of boards: which rows it takes, and how it shows them.

    scripts/test-python.sh
"""
from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("boards", ROOT / "scripts/boards.py")
assert SPEC and SPEC.loader
boards = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(boards)


class Boards(unittest.TestCase):
    def setUp(self):
        with (ROOT / "results/community/two-virtual-cores.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def said(self, rows: list[dict[str, str]], *words: str) -> tuple[int, str]:
        """(exit code, what was said) of a file with these rows."""
        path = self.folder / "rows.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        heard = io.StringIO()
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard):
            code = boards.main([str(path), *words])
        return code, heard.getvalue()

    def test_the_rows_and_the_page_of_this_repository_are_as_they_should_be(self):
        heard = io.StringIO()
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard):
            code = boards.main(["--records", str(ROOT / "results/example")])
        self.assertEqual((code, heard.getvalue()), (0, "2 rows: all as they should be\n"))

    def test_what_a_row_may_not_say(self):
        self.assertEqual(self.said(self.rows)[0], 0)
        for change, words in (
                ({"verdict": "invalid"}, "line 2: verdict = 'invalid': 'valid' expected"),
                ({"jf": "101"}, "jf = '101': a number from 0 to 100"),
                ({"fps_wall": "nan"}, "fps_wall = 'nan': a number above 0"),
                ({"fps_wall": "1e300"}, "fps_wall = '1e300'"),
                ({"latency_p95_ms": "1.0"}, "latency_p95_ms: below the median"),
                ({"frames": "0"}, "frames: a measurement of none"),
                ({"record_sha256": "0" * 63}, "record_sha256 = "),
                ({"pack_digest": ""}, "pack_digest = ''"),
                ({"device_name": "jetson-orin-nano"}, "power_mode: a Jetson's figures"),
                ({"disturbed": "drift;rivals"}, "disturbed: other programs"),
                ({"cpu": "<img src=x>"}, "cpu = "),
                ({"gpu": "[a](http://b)"}, "gpu = ")):
            code, text = self.said([{**self.rows[0], **change}, self.rows[1]])
            self.assertEqual(code, 1, change)
            self.assertIn(words, text)

    def test_a_file_of_other_columns_or_rows_that_are_there_twice(self):
        code, text = self.said([{**row, "more": "1"} for row in self.rows])
        self.assertEqual(code, 1)
        self.assertIn("line 1: the header", text)
        code, text = self.said([*self.rows, self.rows[0]])
        self.assertEqual(code, 1)
        self.assertIn("there are two such rows", text)
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(boards.main([str(self.folder / "nowhere.csv")]), 2)

    def test_a_record_that_is_another_file_is_named(self):
        code, text = self.said([{**row, "record_sha256": "0" * 64} for row in self.rows], "--records", str(ROOT / "results/example"))
        self.assertEqual(code, 1)
        self.assertIn("run.json: its SHA-256 is ", text)

    def test_the_page_marks_test_models_and_found_objects(self):
        found = {**self.rows[0], "jf": "", "jf_unsup": "61.25", "test_model_of": "", "power_mode": "25W (1)"}
        page = boards.page([self.rows[0], found])
        self.assertIn("## intel-xeon, 25W (1), 3 videos of sa-v demo", page)
        self.assertIn("| 61.2 ² |", page)
        self.assertIn("| sam2_mini_points ¹ |", page)
