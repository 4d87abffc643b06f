"""Tests of ``get`` against a server of this test that speaks as the hub and the publisher's files do, with small files in place of
checkpoints and a script in place of the exporter: seconds. At full size it is ``scripts/packs_get_test.sh``.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
import unittest.mock
from pathlib import Path

from hub import Server

from jetbench_models.command import Refused, Unavailable
from jetbench_models.get import command, download
from jetbench_models.get.download import Wanted
from jetbench_models.get.releases import RELEASES, Release

SCRIPTS = Path(__file__).parents[1]
BODY = random.Random(1).randbytes(700_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
OFFICIAL, HUB, CDN = "/files/092824/tiny.pt", "/facebook/tiny/resolve/abc/tiny.pt", "/cdn/tiny"


class Case(unittest.TestCase):
    def setUp(self):
        self.server = Server({OFFICIAL: BODY, CDN: BODY, "/tiny.pt": BODY}, {HUB: CDN})
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.addCleanup(self.server.go_on.set)
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.cache = self.root / "cache"
        self.waits: list[float] = []

    def wanted(self, *paths: str, sha256: str | None = DIGEST, size: int | None = len(BODY)) -> Wanted:
        return Wanted("tiny.pt", tuple(self.server.address + path for path in paths or (OFFICIAL,)), size, sha256)

    def fetch(self, wanted: Wanted) -> bytes:
        path, digest, _ = download.fetch(wanted, self.cache, self.waits.append)
        self.assertEqual(digest, hashlib.sha256(path.read_bytes()).hexdigest())
        return path.read_bytes()

    def lock(self) -> dict:
        return download.read_lock(self.cache)["tiny.pt"]


class Download(Case):
    def test_both_kinds_of_address_give_the_file_and_it_is_kept(self):
        for path, etag in ((OFFICIAL, '"v1"'), (HUB, f'"{DIGEST}"')):
            with self.subTest(path=path):
                (self.cache / "tiny.pt").unlink(missing_ok=True)
                self.assertEqual(self.fetch(self.wanted(path)), BODY)
                self.assertEqual(self.lock(), {"sha256": DIGEST, "size": len(BODY), "from": self.server.address + path, "etag": etag,
                                               "digest": "known"})
        count = len(self.server.asked)
        self.assertEqual(download.fetch(self.wanted(), self.cache)[2], "kept from before")
        self.assertEqual(len(self.server.asked), count)
        self.assertEqual(sorted(p.name for p in self.cache.iterdir()), [".lock", "checkpoints.lock", "tiny.pt"])

    def test_a_broken_line_is_resumed_where_it_broke(self):
        self.server.faults = [("cut", 300_000), ("cut", 100_000)]
        self.assertEqual(self.fetch(self.wanted()), BODY)
        starts = [asked for _, asked in self.server.asked]
        self.assertIsNone(starts[0])
        self.assertEqual(starts[1:], ["bytes=300000-", "bytes=400000-"])

    def test_a_server_without_ranges_sends_all_again(self):
        self.server.faults = [("cut", 300_000), "no range"]
        self.assertEqual(self.fetch(self.wanted()), BODY)

    def test_busy_and_broken_servers_are_asked_again_after_a_while(self):
        self.server.faults = [429, 500, 503]
        self.assertEqual(self.fetch(self.wanted()), BODY)
        self.assertEqual(self.waits, [7.0, 4.0, 8.0])

    def test_a_server_that_stays_broken_gives_way_to_the_next_address(self):
        self.server.faults = [500] * download.TRIES
        self.assertEqual(self.fetch(self.wanted(OFFICIAL, HUB)), BODY)
        self.assertEqual(self.lock()["from"], self.server.address + HUB)

    def test_what_no_address_has_is_said_with_every_reason(self):
        self.server.faults = [403]
        with self.assertRaises(Unavailable) as caught:
            self.fetch(self.wanted("/nowhere.pt", OFFICIAL))
        for part in ("nowhere.pt: HTTP 404", "HTTP 403", "wants an account", "--from"):
            self.assertIn(part, str(caught.exception))
        self.assertFalse((self.cache / "tiny.pt").exists())

    def test_another_file_is_refused_and_removed(self):
        cases = (("garbage", "its digest is"), ("short", f"has {len(BODY) - 1} bytes"))
        for fault, part in cases:
            self.server.faults = [fault]
            with self.subTest(fault=fault), self.assertRaisesRegex(Refused, part):
                self.fetch(self.wanted())
            self.assertEqual([p for p in self.cache.iterdir() if p.name.startswith("tiny.pt")], [])
        self.server.linked[HUB] = "0" * 64       # the hub says beforehand that it has another
        with self.assertRaisesRegex(Refused, "its digest is 000"):
            self.fetch(self.wanted(HUB))

    def test_a_damaged_part_costs_a_second_download_and_no_more(self):
        self.server.faults = [("cut", 300_000), 404]
        with self.assertRaises(Unavailable):
            self.fetch(self.wanted())
        part = self.cache / "tiny.pt.part"
        part.write_bytes(b"x" * part.stat().st_size)
        self.assertEqual(self.fetch(self.wanted()), BODY)
        self.assertEqual([asked for _, asked in self.server.asked[-2:]], ["bytes=300000-", None])

    def test_a_part_that_is_too_long_is_thrown_away(self):
        self.server.faults = [("cut", 300_000), 404]
        with self.assertRaises(Unavailable):
            self.fetch(self.wanted())
        with (self.cache / "tiny.pt.part").open("ab") as file:
            file.write(BODY)
        self.assertEqual(self.fetch(self.wanted()), BODY)

    def test_without_a_digest_the_first_download_is_trusted_and_has_to_stay(self):
        self.assertEqual(self.fetch(self.wanted(sha256=None)), BODY)
        self.assertEqual(self.lock()["digest"], "first use")
        (self.cache / "tiny.pt").unlink()
        self.server.faults = ["garbage"]
        with self.assertRaisesRegex(Refused, "not the released file"):
            self.fetch(self.wanted(sha256=None))
        (self.cache / "tiny.pt").write_bytes(b"changed")
        with self.assertRaisesRegex(Refused, "it was changed"):
            self.fetch(self.wanted(sha256=None))

    def test_without_a_digest_the_hubs_own_is_used(self):
        self.server.faults = ["garbage"]
        with self.assertRaisesRegex(Refused, "its digest is"):
            self.fetch(self.wanted(HUB, sha256=None, size=None))
        self.assertEqual(self.fetch(self.wanted(HUB, sha256=None, size=None)), BODY)
        self.assertEqual(self.lock()["digest"], "published by the hub")

    def test_without_a_digest_another_file_is_not_glued_to_the_part_of_the_first(self):
        self.server.faults = [("cut", 300_000), 404]
        with self.assertRaises(Unavailable):
            self.fetch(self.wanted(sha256=None))
        self.server.etag = '"v2"'
        self.assertEqual(self.fetch(self.wanted(sha256=None)), BODY)
        self.assertEqual(self.server.asked[-1][1], "bytes=300000-")     # asked for, and refused by If-Range

    def test_a_name_without_a_host_is_not_asked_for_again(self):
        with self.assertRaisesRegex(Unavailable, "tiny.pt cannot be fetched"):
            self.fetch(Wanted("tiny.pt", ("http://no.such.host.invalid/tiny.pt",), None, None))
        self.assertEqual(self.waits, [])


# Runs ``get`` with one small release, and a script in place of the exporter: it writes half a pack, says so, waits if it is told to,
# and writes the rest.
DRIVER = textwrap.dedent("""
    import dataclasses, json, os, resource, sys
    from jetbench_models import __main__ as kit
    from jetbench_models.get import command, releases
    about = json.loads(os.environ["DRIVER"])
    releases.RELEASES.clear()
    releases.RELEASES["tiny"] = releases.Release(**about["release"])
    command.importlib.util.find_spec = lambda name: True
    command.export_words = lambda job, checkpoint, args, out: [sys.executable, about["exporter"], str(checkpoint), str(out)]
    command.proof_words = lambda args, pack, detects: [sys.executable, "-c", f"raise SystemExit({about['proof']})"]
    if about["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (about["file_size"], about["file_size"]))
    sys.exit(kit.main(["get", *sys.argv[1:]]))
""")
EXPORTER = textwrap.dedent("""
    import hashlib, os, sys, time
    from pathlib import Path
    checkpoint, out = Path(sys.argv[1]), Path(sys.argv[2])
    assert not out.exists(), "what a killed run left is still there"
    (out / "fp32").mkdir(parents=True)
    data = checkpoint.read_bytes()[:5000]
    (out / "fp32/g.onnx").write_bytes(data[:2500])
    hold = os.environ.get("HOLD")
    if hold:
        Path(hold).write_text(str(os.getpid()))
        time.sleep(60)
    (out / "fp32/g.onnx").write_bytes(data)
    (out / "pack.toml").write_text(f'''[provenance]
    checkpoint_sha256 = "{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}"
    [[graph]]
    files = {{ fp32 = "fp32/g.onnx" }}
    sha256 = {{ fp32 = "{hashlib.sha256(data).hexdigest()}" }}
    ''')
""")


class Get(Case):
    def setUp(self):
        super().setUp()
        (self.root / "exporter.py").write_text(EXPORTER)
        self.out = self.root / "packs"
        release = Release("tiny", "Tiny", "tiny.pt", self.server.address + "/files/092824", "facebook/tiny", "abc", len(BODY), DIGEST, 0.1)
        self.about = {"release": dataclasses.asdict(release), "exporter": str(self.root / "exporter.py"), "proof": 0, "file_size": 0}

    def start(self, *words: str, **surroundings: str) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if k != "HF_ENDPOINT"} | {
            "DRIVER": json.dumps(self.about), "PYTHONPATH": str(SCRIPTS), "XDG_CACHE_HOME": str(self.root / "xdg")} | surroundings
        return subprocess.Popen([sys.executable, "-c", DRIVER, *words, "--out", str(self.out), "--dtype", "fp32"], env=env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def get(self, *words: str, code: int = 0, **surroundings: str) -> str:
        process = self.start(*words, **surroundings)
        text = process.communicate()[0]
        self.assertEqual(process.returncode, code, text)
        self.assertNotIn("Traceback", text)
        return text

    def pack(self) -> dict[str, str]:
        self.assertEqual([p.name for p in self.out.iterdir() if not p.name.startswith(".")], ["tiny"])
        self.assertEqual([p.name for p in (self.out / ".getting").iterdir()], [".lock"])
        files = [p for p in (self.out / "tiny").rglob("*") if p.is_file()]
        return {str(p.relative_to(self.out)): download.digest_of(p) for p in files}

    def test_a_name_becomes_a_pack_and_what_it_takes_is_said_before_and_after(self):
        text = self.get("tiny")
        before, _, after = text.partition("export\n")
        for part in ("weights under Apache-2.0", "0.7 MB", "/files/092824/tiny.pt", "estimated from the parameters", "not measured"):
            self.assertIn(part, before)
        for part in ("proven (points, bbox, mask)", "peak memory", "MB on disk", "jetbench --models tiny_points"):
            self.assertIn(part, after)
        first = self.pack()
        self.assertIn("there already", self.get("tiny"))
        self.get("tiny", "--force")
        self.assertEqual(self.pack(), first)

    def test_mirrors_and_folders(self):
        self.get("tiny", HF_ENDPOINT=self.server.address)
        self.assertEqual([path for path, _ in self.server.asked], [HUB, CDN])
        first = self.pack()
        folder = self.root / "usb"
        folder.mkdir()
        (folder / "tiny.pt").write_bytes(BODY)
        for source in (str(folder), self.server.address):
            self.assertIn("there already", self.get("tiny", "--from", source))
            self.get("tiny", "--force", "--from", source)
            self.assertEqual(self.pack(), first)
        (folder / "tiny.pt").write_bytes(b"damaged")
        self.assertIn("not the released file", self.get("tiny", "--from", str(folder), code=2))

    def get_main(self, *words: str) -> int:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                return command.main(list(words))
            except SystemExit as end:
                self.assertTrue(said.getvalue())
                return int(end.code or 0)

    def test_wrong_arguments_are_usage_errors(self):
        for words in (["nothing"], [], ["edgetam", "--from", "nowhere"], ["edgetam", "--dtype", "fp64"], ["edgetam", "--dtype", "fp16"],
                      ["edgetam", "--frames", "3"], ["edgetam", "--sha256", "edgetam=12"], ["edgetam", "--sha256", f"x={DIGEST}"]):
            self.assertEqual(self.get_main(*words), 2, words)
        self.assertEqual(self.get_main("--list"), 0)

    def test_a_failed_proof_leaves_no_pack(self):
        self.about["proof"] = 1
        self.assertIn("exit code 1", self.get("tiny", code=1))
        self.assertFalse((self.out / "tiny").exists())
        self.about["proof"] = 0
        self.get("tiny")
        self.pack()

    def test_a_damaged_or_other_pack_is_not_taken_for_the_right_one(self):
        self.get("tiny")
        (self.out / "tiny/fp32/g.onnx").write_bytes(b"damaged")
        self.assertIn("fp32/g.onnx: not as pack.toml says", self.get("tiny", code=2))
        manifest = self.out / "tiny/pack.toml"
        manifest.write_text(manifest.read_text().replace(DIGEST, "0" * 64))
        self.assertIn("another checkpoint", self.get("tiny", code=2))
        manifest.write_text("no toml")
        self.assertIn("--force", self.get("tiny", code=2))
        self.get("tiny", "--force")

    def test_a_full_disk_is_said_and_the_next_run_goes_on(self):
        self.about["file_size"] = 300_000
        self.assertIn("what came is kept", self.get("tiny", code=3))
        self.assertEqual((self.root / "xdg/jetbench/checkpoints/tiny.pt.part").stat().st_size, 300_000)
        self.about["file_size"] = 0
        self.get("tiny")
        self.assertEqual(self.server.asked[-1], (OFFICIAL, "bytes=300000-"))
        self.pack()
        with unittest.mock.patch.object(command.shutil, "disk_usage", return_value=unittest.mock.Mock(free=1000)):
            self.assertEqual(self.get_main("edgetam", "--cache", str(self.root / "new"), "--out", str(self.root / "new")), 3)

    def test_killed_at_any_point_and_run_again_it_ends_in_the_same_pack(self):
        self.out = self.root / "whole"
        self.get("tiny")
        whole = self.pack()
        for number in (0, 1, 350_000, 699_999):         # bytes that came before it is killed
            self.kill_while_fetching(number)
        marker, packs = self.root / "half", self.root / "killed"
        self.out = packs
        process = self.start("tiny", HOLD=str(marker))
        child = self.appears(marker, process)
        process.kill()
        process.communicate()
        self.gone(child)
        self.assertFalse((packs / "tiny").exists())
        self.get("tiny")
        self.assertEqual(self.pack(), whole)

    def kill_while_fetching(self, number: int) -> None:
        self.out, self.server.faults = self.root / f"killed{number}", [("hold", number)]
        self.server.held.clear()
        cache = self.root / f"xdg{number}"
        process = self.start("tiny", XDG_CACHE_HOME=str(cache))
        self.assertTrue(self.server.held.wait(60))
        process.kill()
        process.communicate()
        self.assertFalse((cache / "jetbench/checkpoints/tiny.pt").exists())
        self.get("tiny", XDG_CACHE_HOME=str(cache))
        self.pack()

    def appears(self, marker: Path, process: subprocess.Popen) -> int:
        while not marker.exists() or not marker.read_text():
            self.assertIsNone(process.poll())
        return int(marker.read_text())

    def gone(self, pid: int) -> None:
        """Waits until the exporter has ended with its parent."""
        while True:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except (FileNotFoundError, ProcessLookupError):
                return


class Table(unittest.TestCase):
    def test_every_released_model_is_in_it_with_a_full_entry(self):
        source = (SCRIPTS / "jetbench_models/models/released.py").read_text()        # it needs torch
        efficient = (SCRIPTS / "jetbench_models/models/efficienttam.py").read_text()
        forms = re.search(r"(?m)^FORMS = .*", efficient)[0].count(": (")
        sizes = re.search(r"(?m)^SIZES = .*", efficient)[0].count(": Sizes(")
        dfine = (SCRIPTS / "jetbench_models/models/detector.py").read_text()
        detectors = [name for name in re.findall(r'(?m)^    "(dfine_\w+)": Size\(', dfine) if name != "dfine_mini"]
        self.assertEqual(len(RELEASES), 2 * len(re.findall(r'(?m)^    "\w+": \(\d+, \d, ', source)) + 2 + forms * sizes + len(detectors))
        self.assertEqual([name for name, r in RELEASES.items() if r.detects], detectors)
        digests = [r.sha256 for r in RELEASES.values() if r.sha256]
        self.assertEqual(len(set(digests)), len(digests))
        self.assertEqual([name for name, r in RELEASES.items() if not r.sha256],
                         [*(f"efficienttam_{size}_{form}" for size in ("ti", "s") for form in (1, 2)),
                          "sam3_tracker", "dfine_l", "dfine_x"])
        for name, release in RELEASES.items():
            self.assertEqual(name, release.name)
            self.assertEqual(release.size is None, release.sha256 is None)
            self.assertRegex(release.sha256 or "0" * 64, "^[0-9a-f]{64}$")
            self.assertRegex(release.revision, "^([0-9a-f]{40}|main)$")
            # fp32 weights and what a file of them has around
            self.assertLess(abs(release.download / (4e6 * (release.parameters + release.beside)) - 1), 0.01)
            self.assertTrue(release.official_address.startswith("https://"))
            self.assertIn(f"/resolve/{release.revision}/{release.file}", release.hub_address("https://mirror.example/"))

    def test_a_detector_is_exported_without_prompts_and_run_beside_a_tracker(self):
        args = command._options().parse_args(["dfine_n", "edgetam", "--jetbench", "jetbench", "--prompts", "points"])
        detector, tracker = command._jobs(args)
        words = [command.export_words(job, Path("c"), args, Path("o")) for job in (detector, tracker)]
        self.assertEqual(["--prompts" in of for of in words], [False, True])
        self.assertEqual(words[0][words[0].index("--model") + 1], "dfine_n")
        self.assertEqual(command.proof_words(args, Path("o"), True)[:2], ["jetbench", "verify"])
        self.assertEqual(command.proof_words(args, Path("o"), False)[0], sys.executable)       # with fewer prompts than all
        self.assertEqual([command.run_as(job.release) for job in (detector, tracker)], ["edgetam_dfine_n", "edgetam_points"])
        self.assertLess(detector.estimate, 4e6 * 8 + command.BESIDE_GRAPHS)

    def test_a_detectors_file_comes_from_a_mirror(self):
        body = random.Random(2).randbytes(10_000)
        release = RELEASES["dfine_s"]
        server = Server({"/cdn/s": body}, {release.hub_address(""): "/cdn/s"})
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        with tempfile.TemporaryDirectory() as cache, unittest.mock.patch.dict(os.environ, {"HF_ENDPOINT": server.address}):
            wanted = command._wanted(release, None, {"dfine_s": hashlib.sha256(body).hexdigest()})
            self.assertEqual(download.fetch(wanted, Path(cache))[0].read_bytes(), body)
            with self.assertRaisesRegex(Refused, "dfine_s_coco.pth"):        # the released digest and size
                download.fetch(dataclasses.replace(command._wanted(release, None, {})), Path(cache))
        self.assertIn("/Peterande/D-FINE/resolve/a5f35932343b83c470bfe8659b439108080e6206/dfine_s_coco.pth",
                      [path for path, _ in server.asked])

    def test_files_behind_a_form_come_from_elsewhere(self):
        self.assertEqual([name for name, r in RELEASES.items() if r.gated], ["sam3_tracker"])
        with unittest.mock.patch.dict(os.environ, {"HF_ENDPOINT": ""}), self.assertRaisesRegex(Refused, "SAM License.*no token.*--from"):
            command._wanted(RELEASES["sam3_tracker"], None, {})
        self.assertEqual(command._wanted(RELEASES["sam3_tracker"], "/media", {}).file, "model.safetensors")
        with unittest.mock.patch.dict(os.environ, {"HF_ENDPOINT": "https://mirror.example"}):
            sources = command._wanted(RELEASES["sam3_tracker"], None, {}).sources
        self.assertEqual(sources, ("https://mirror.example/facebook/sam3/resolve/main/model.safetensors",))

    def test_the_page_of_models_agrees(self):
        page = (SCRIPTS.parent / "docs/models.md").read_text()
        for r in RELEASES.values():
            digest = f"`{r.sha256[:16]}…`" if r.sha256 else "not known"
            row = f"| `{r.name}` | {r.parameters} M | `{r.file}`, {r.megabytes} | {r.licence} | {digest} |"
            self.assertIn(row, page)
            self.assertEqual(page.count(f"| `{r.name}` |"), 3)


if __name__ == "__main__":
    unittest.main()
