"""A. Identity is content: data, truth and packs that are not what was planned."""

from __future__ import annotations

import shutil

from place import SLOW, Broken, Place, attack, hold, valid, write

CHANGED = "changed since it was planned"


@attack("A1", "truth replaced while tracking")
def truth_while_tracking(place: Place) -> str:
    data = place.draw()
    said, quoted = place.meddled(lambda: place.shuffle_truth(data))
    hold(not quoted, "a valid verdict over two truths")
    hold(CHANGED in said.text, f"not named: {said.last}")
    return f"exit {said.code}: {said.last}"


@attack("A1", "frames replaced while tracking")
def frames_while_tracking(place: Place) -> str:
    frames = place.frames(place.draw(frames=60))

    def replace() -> None:
        for frame in frames[30:]:
            write(frame, frames[0].read_bytes())

    said, quoted = place.meddled(replace)
    hold(not quoted, "a valid verdict over frames that were not planned")
    hold(CHANGED in said.text, f"not named: {said.last}")
    return f"exit {said.code}: {said.last}"


@attack("A1", "truth replaced before --resume")
def truth_before_resume(place: Place) -> str:
    data = place.draw(videos=2)
    place.pack("m", SLOW)
    with place.going() as child:
        run = place.tracking()
        child.kill()
        child.wait()
    place.shuffle_truth(data)
    said = place.call("--resume", str(run))
    hold(said.code != 0 and not ((run / "run.json").is_file() and valid(place.verdicts(run))), f"it went on: {said.last}")
    hold(CHANGED in said.text, f"not named: {said.last}")
    return f"exit {said.code}: {said.last}"


@attack("A1", "truth replaced before --if-changed")
def truth_before_if_changed(place: Place) -> str:
    data = place.draw()
    first = place.measure("--if-changed")
    hold(first.code == 0, f"the first run: {first.last}")
    place.shuffle_truth(data)
    said = place.measure("--if-changed")
    hold(len(place.runs()) == 2, f"nothing was measured: {said.out.strip()[:120]}")
    return "measured again"


@attack("A1", "truth replaced between two parts of a job")
def truth_between_parts(place: Place) -> str:
    data = place.draw(videos=2)
    for part in ("1/2", "2/2"):
        said = place.measure("--shard", part, "--out", "parts")
        hold(said.code == 0, f"part {part}: {said.last}")
        place.shuffle_truth(data)
    said = place.call("merge", "parts", "--out", "joined")
    hold(said.code == 2 and not place.runs("joined"), f"joined with exit {said.code}")
    return f"exit {said.code}: {said.last}"


@attack("A2", "a pack swapped while another cell is tracked")
def pack_swapped(place: Place) -> str:
    place.draw()
    place.pack("m", SLOW)
    place.pack("n", "motion = [0.0, 0.0]")
    with place.going(models="m_mask,n_mask") as child:
        run = place.tracking()
        place.pack("n", "motion = [3.0, 0.0]")
        said = place.finish(child)
    hold(not valid(place.verdicts(run)[1:]), "the other pack ran under the digest of the planned one")
    return f"second cell {place.verdicts(run)[1]}: {said.last}"


@attack("A3", "two packs of one id", short=True)
def two_packs(place: Place) -> str:
    place.draw()
    other = place.dir / "packs" / "other"
    shutil.copytree(place.dir / "packs" / "m", other)
    (other / "pack.toml").write_text((other / "pack.toml").read_text() + "# another\n")
    said = place.measure()
    if said.code != 2 or "other" not in said.text or "packs/m" not in said.text:
        raise Broken(f"exit {said.code}: {said.last}")
    return f"exit 2: {said.last}"
