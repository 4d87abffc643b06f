"""Scores small datasets with VOST's own tool and writes expected.csv, every float in full.

    git clone https://github.com/TRI-ML/VOST && git -C VOST checkout fe27457
    python make.py VOST/evaluation            # needs numpy and Pillow

Scored are the DAVIS case of ../jf, the label maps of ../mosev2, and `odd`, which is drawn here: void pixels, an object that is not on the first
frame, predicted ids beyond the objects, 255 in a prediction, two frames that are both empty. The tool's imports of cv2, pandas, tqdm and
scipy serve other scores; stand-ins take their place, and numpy's old name of bool.
"""
from __future__ import annotations

import csv
import shutil
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CASES = {"davis": (HERE / "../jf/davis/Annotations/480p", HERE / "../jf/davis_pred"),
         "mosev2": (HERE / "../mosev2/gt", HERE / "../mosev2/pred"), "odd": (HERE / "gt", HERE / "pred")}


def draw() -> None:
    """The dataset `odd`: one video of 11 frames, 40 x 30."""
    rng = np.random.default_rng(7)
    for root in ("gt", "pred"):
        shutil.rmtree(HERE / root, ignore_errors=True)
        (HERE / root / "video").mkdir(parents=True)
    for t in range(11):
        truth, pred = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
        if t not in (4, 5):
            truth[5:15, 4 + t:14 + t], pred[6:15, 5 + t:15 + t] = 1, 1
        truth[18:26, 20:34], pred[18:26, 20 + int(rng.integers(0, 9)):34] = 2, 2
        truth[0:6, 30:40] = 255
        pred[2:5, 28:36] = 1 if t % 2 else 2
        if t > 3:
            truth[26:30, 0:9] = 3
            pred[26:30, 0:12] = 3
        if t == 7:
            pred[0:3, 0:3] = 255
        for root, mask in (("gt", truth), ("pred", pred)):
            Image.fromarray(mask).save(HERE / root / "video" / f"{t:05d}.png", optimize=True)


def stand_ins(tool: Path) -> None:
    for name, content in (("cv2", {}), ("pandas", {}), ("tqdm", {"tqdm": lambda items: items}), ("scipy", {}),
                          ("scipy.optimize", {"linear_sum_assignment": None})):
        module = types.ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    np.bool = bool
    sys.path.insert(0, str(tool))


def main() -> None:
    draw()
    stand_ins(Path(sys.argv[1]))
    from source.evaluation import Evaluation  # type: ignore[import-not-found]

    with (HERE / "expected.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["case", "object", "j", "j_recall", "j_decay", "j_tr", "j_tr_recall", "j_tr_decay"])
        for case, (truth, pred) in CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                shutil.copytree(truth, root / "Annotations")
                names = sorted(p.name for p in (root / "Annotations").iterdir() if p.is_dir() and (pred / p.name).is_dir())
                for name in names:
                    (root / "JPEGImages" / name).mkdir(parents=True)
                (root / "ImageSets").mkdir()
                (root / "ImageSets/val.txt").write_text("".join(f"{name}\n" for name in names))
                scores = Evaluation(dataset_root=str(root), gt_set="val").evaluate(str(pred))
            values = [scores[metric][key] for metric in ("J", "J_last") for key in ("M", "R", "D")]
            for i, name in enumerate(scores["J"]["M_per_object"]):
                rows.writerow([case, name, *(repr(float(v[i])) for v in values)])
            rows.writerow([case, "ALL", *(repr(float(np.mean(v))) for v in values)])


if __name__ == "__main__":
    main()
