"""The list of categories that says what of a model's classes is stuff."""
from __future__ import annotations

import io
import json
import tempfile
import tomllib
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from jetbench_models.command import Refused
from jetbench_models.export import command, panoptic
from jetbench_models.models import videomt

LISTED = [{"id": 0, "name": "wall", "isthing": 0}, {"id": 4, "name": "dog", "isthing": 1, "color": [1, 2, 3]},
          {"id": 2, "name": "sky", "isthing": 0}, {"id": 9, "name": "cat", "isthing": 1}]


class Categories(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, said: object) -> Path:
        path = self.folder / "categories.json"
        path.write_text(said if isinstance(said, str) else json.dumps(said))
        return path

    def test_both_forms_are_read_and_things_come_first(self) -> None:
        for said in (LISTED, {"categories": LISTED, "videos": []}):
            found = panoptic.read(self.file(said))
            self.assertEqual(panoptic.in_order(found), ("dog", "cat", "wall", "sky"))
        text = panoptic.section(("sky", "cat"), found)
        self.assertEqual(tomllib.loads("[segmenter]" + text), {"segmenter": {"panoptic": {"stuff": [0], "ids": [2, 9]}}})
        with self.assertRaisesRegex(Refused, "two classes of the model are called 'cat'"):
            panoptic.section(("cat", "dog", "cat"), found)
        with self.assertRaisesRegex(Refused, "class 'bird' of the model is none of the 4 categories"):
            panoptic.section(("cat", "bird"), found)

    def test_what_is_no_such_list_is_refused(self) -> None:
        wall = LISTED[0]
        for said, fault in (
                ("{", "not a list of categories"), ([], "at least one category"), ({"a": 1}, "not a list"), ([{"id": 1}], "name"),
                ([{**wall, "isthing": "false"}], "isthing 0 or 1 expected"), ([{**wall, "id": 255}], "from 0 to 254"),
                ([{**wall, "id": 0.9}], "from 0 to 254"), ([*LISTED, wall], "id 0 occurs twice"),
                ([*LISTED, {**wall, "id": 7}], "name wall occurs twice")):
            with self.subTest(said=said), self.assertRaisesRegex(Refused, fault):
                panoptic.read(self.file(said))

    def export(self, *more: str) -> tuple[int | str | None, str]:
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            try:
                code: int | str | None = command.main(["--out", str(self.folder / "pack"), "--frames", "0", "--dtype", "fp32", *more])
            except SystemExit as stop:
                code = stop.code
            except Refused as refusal:
                return 2, str(refusal)
        return code, said.getvalue()

    def test_a_pack_says_what_its_classes_are(self) -> None:
        model = videomt.random("videomt_s", 0, 32).model
        model.config.id2label = {0: "cat", 1: "sky"} | {n: f"more {n}" for n in range(2, model.config.num_labels)}
        model.save_pretrained(self.folder / "weights")
        checkpoint = ("--checkpoint", str(self.folder / "weights"), "--panoptic")
        code, said = self.export(*checkpoint, str(self.file(LISTED)))
        self.assertEqual((code, (self.folder / "pack").exists()), (2, False), said)
        self.assertIn("class 'more 2' of the model", said)
        more = [{"id": 100 + n, "name": f"more {n}", "isthing": n % 2} for n in range(2, model.config.num_labels)]
        code, said = self.export(*checkpoint, str(self.file(LISTED + more)))
        self.assertEqual(code, 0, said)
        found = tomllib.loads((self.folder / "pack/pack.toml").read_text())["segmenter"]["panoptic"]
        self.assertEqual((found["ids"][:4], found["stuff"][:3]), ([9, 2, 102, 103], [1, 2, 4]))
        code, said = self.export("--random-init", "--model", "edgetam", "--panoptic", "x.json")
        self.assertEqual(code, 2)
        self.assertIn("--panoptic: for video segmenters only", said)


if __name__ == "__main__":
    unittest.main()
