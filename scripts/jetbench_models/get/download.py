"""Fetches one file over HTTP so that it is either whole and right or not there: resumed where it stopped, retried where the
server or the line gave up, compared by size and digest. Nothing is sent but the request: no token, no cookie.

Beside the file lies ``checkpoints.lock``: where each file came from and its digest. A file that nobody published a digest of is
trusted when it is first fetched, and has to stay that file.
"""
from __future__ import annotations

import email.message
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..command import Refused, Unavailable, progress

PIECE = 1 << 18             # bytes per read
TRIES = 6                   # in a row that bring nothing new
LONGEST_WAIT = 60.0         # seconds that a server may ask for
TIMEOUT = 30.0              # seconds without a byte
LOCK = "checkpoints.lock"


@dataclass(frozen=True)
class Wanted:
    """The file that is to be fetched. ``sources``: addresses, tried in this order. ``size`` and ``sha256``: None where not known."""

    file: str
    sources: tuple[str, ...]
    size: int | None
    sha256: str | None


class _NotThere(Exception):
    """This address does not have the file; another may."""


class _Again(Exception):
    """This try failed; ``wait``: seconds that the server asked for."""

    def __init__(self, text: str, wait: float | None = None):
        super().__init__(text)
        self.wait = wait


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps what the hub says of the file in its own answer, which the last one no longer has."""

    def __init__(self):
        self.linked: dict[str, str] = {}

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith(("http://", "https://")):
            raise _NotThere(f"{req.full_url}: leads to {newurl}")
        self.linked |= {key.lower(): value for key, value in headers.items() if key.lower().startswith("x-linked-")}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lock(folder: Path) -> dict[str, dict]:
    """Entries of the lock file; none where it is missing or was cut off."""
    try:
        entries = json.loads((folder / LOCK).read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in entries.items() if isinstance(v, dict)} if isinstance(entries, dict) else {}


def _note(folder: Path, file: str, entry: dict) -> None:
    entries = read_lock(folder) | {file: entry}
    write_whole(folder / LOCK, json.dumps(dict(sorted(entries.items())), indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replaces a small file so that a reader finds the old or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process does the same in this folder. The lock goes with its processes, however they end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)         # a child that outlives this process holds it, too
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"{what}: another process is at it in {folder}; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _tag(headers: email.message.Message) -> str | None:
    """A strong ETag: only that says that two answers are the same bytes."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else None


class _Fetch:
    """One address, one file: tries until the part is whole."""

    def __init__(self, wanted: Wanted, address: str, folder: Path, wait: Callable[[float], None]):
        self.wanted, self.address, self.wait = wanted, address, wait
        self.part = folder / (wanted.file + ".part")
        self.state = folder / (wanted.file + ".part.json")
        self.published: str | None = None       # digest that the hub gives with its answer
        self.tag: str | None = None
        self.resumed = False

    def run(self) -> None:
        left, pause = TRIES, 1.0
        while True:
            before = self.part.stat().st_size if self.part.is_file() else 0
            try:
                self._once(before)
                return
            except _Again as failure:
                after = self.part.stat().st_size if self.part.is_file() else 0
                left, pause = (TRIES, 1.0) if after > before else (left - 1, pause * 2)
                if left <= 0:
                    raise _NotThere(f"{failure}, {TRIES} times in a row") from None
                seconds = min(LONGEST_WAIT, failure.wait if failure.wait is not None else pause)
                progress.say(f"{failure}; again in {seconds:.0f} s, from byte {after}")
                self.wait(seconds)

    def _once(self, start: int) -> None:
        known = self._known()
        request = urllib.request.Request(self.address, headers={"Accept-Encoding": "identity", "User-Agent": "jetbench-models"})
        if start and known:
            request.add_header("Range", f"bytes={start}-")
            if known["tag"] and not self.wanted.sha256:     # with a digest, that decides; the addresses have tags of their own
                request.add_header("If-Range", known["tag"])
        redirects = _Redirects()
        try:
            with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT) as answer:
                self._take(answer, start if known else 0, known, redirects.linked)
        except urllib.error.HTTPError as error:
            self._refused(error, start)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror):
                raise _NotThere(f"{self.address}: {reason}") from None        # no network, or no such name
            raise _Again(f"{self.address}: {reason or type(error).__name__}") from None

    def _known(self) -> dict | None:
        """What was said of the part that lies here, if it belongs to the file that is wanted."""
        try:
            known = json.loads(self.state.read_text())
            fits = self.part.is_file() and isinstance(known["size"], int) and self.wanted.size in (None, known["size"])
            same = known["address"] == self.address or self.wanted.sha256 is not None
            return known if fits and same and self.part.stat().st_size <= known["size"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _refused(self, error: urllib.error.HTTPError, start: int) -> None:
        text = f"{self.address}: HTTP {error.code} {error.reason}"
        if error.code == 416 and start:
            self._forget()                                  # longer than the file, or another file
            raise _Again(text) from None
        if error.code in (408, 425, 429) or error.code >= 500:
            wait = error.headers.get("Retry-After", "")
            raise _Again(text, float(wait) if wait.isdecimal() else None) from None
        if error.code in (401, 403):
            text += " (it wants an account, and none is asked for here: download the file yourself and name its folder with --from)"
        raise _NotThere(text) from None

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def _take(self, answer, start: int, known: dict | None, linked: dict[str, str]) -> None:
        size = self._size(answer, start, linked)
        if answer.status == 206 and (known is None or size != known["size"]):
            self._forget()
            raise _Again(f"{self.address}: the file has another size than the part of it that is here")
        if answer.status != 206:
            start = 0
        self.resumed = self.resumed or start > 0
        self.tag = linked.get("x-linked-etag") or _tag(answer.headers)
        digest = (linked.get("x-linked-etag") or "").strip('"').lower()
        self.published = digest if re.fullmatch("[0-9a-f]{64}", digest) else None
        if self.published and self.wanted.sha256 and self.published != self.wanted.sha256:
            raise Refused(f"{self.address}: its digest is {self.published}, wanted is {self.wanted.sha256}: not the released file")
        # first what is known of the part, then its bytes: a part without it is not resumed
        if not start:
            self._forget()
        write_whole(self.state, json.dumps({"address": self.address, "size": size, "tag": _tag(answer.headers)}))
        self._write(answer, start, size)

    def _size(self, answer, start: int, linked: dict[str, str]) -> int:
        if answer.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if not span or int(span[1]) != start:
                self._forget()
                raise _Again(f"{self.address}: another part of the file came than was asked for")
            size: int | None = int(span[2])
        else:
            size = _whole_number(answer.headers.get("Content-Length"))
        size = size if size is not None else _whole_number(linked.get("x-linked-size"))
        if size is None:
            raise _NotThere(f"{self.address}: does not say how large the file is")
        if self.wanted.size is not None and size != self.wanted.size:
            raise Refused(f"{self.address}: has {size} bytes, the released file has {self.wanted.size}: not the released file")
        return size

    def _write(self, answer, start: int, size: int) -> None:
        done, began = start, time.monotonic()
        with self.part.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while piece := _read(answer, self.address):
                file.write(piece)
                done += len(piece)
                rate = (done - start) / max(time.monotonic() - began, 1e-3)
                progress.step(f"{self.wanted.file}: {done / 1e6:.1f} of {size / 1e6:.1f} MB ({100 * done // max(size, 1)} %), "
                              f"{rate / 1e6:.1f} MB/s")
            file.flush()
            os.fsync(file.fileno())
        if done > size:
            self._forget()
            raise _Again(f"{self.address}: more bytes came than it said")
        if done < size:
            raise _Again(f"{self.address}: broke off after {done} of {size} bytes")


def _read(answer, address: str) -> bytes:
    try:
        return answer.read(PIECE)
    except http.client.IncompleteRead as error:
        return error.partial
    except (http.client.HTTPException, OSError) as error:
        raise _Again(f"{address}: {error or type(error).__name__}") from None


def _from_address(wanted: Wanted, address: str, folder: Path, expected: str | None, wait: Callable[[float], None]) -> str:
    """Fetches into the part, then to its place; the digest."""
    for last in (False, True):
        fetch = _Fetch(wanted, address, folder, wait)
        fetch.run()
        progress.step(f"{wanted.file}: comparing its digest")
        found = digest_of(fetch.part)
        right = expected or fetch.published
        if right in (None, found):
            trust = "known" if expected else "published by the hub" if fetch.published else "first use"
            fetch.part.replace(folder / wanted.file)
            fetch.state.unlink(missing_ok=True)
            _note(folder, wanted.file, {"sha256": found, "size": (folder / wanted.file).stat().st_size, "from": address,
                                        "etag": fetch.tag, "digest": trust})
            return found
        fetch._forget()
        # a part from before may have been another file's; one that came whole is what the server has
        if last or not fetch.resumed:
            break
        progress.say(f"{wanted.file}: the resumed file has digest {found}, wanted is {right}; once more from the beginning")
    raise Refused(f"{address}: its digest is {found}, wanted is {right}: not the released file, or damaged on the way; it was removed")


def fetch(wanted: Wanted, folder: Path, wait: Callable[[float], None] = time.sleep) -> tuple[Path, str, str]:
    """The file in ``folder``, its digest, and where from: an address, or "kept from before".

    Raises Unavailable where no address has it or the disk is full, Refused where what came is another file.
    """
    with alone(folder, wanted.file):
        place, noted = folder / wanted.file, read_lock(folder).get(wanted.file, {})
        expected = wanted.sha256 or noted.get("sha256")
        if place.is_file():
            found = digest_of(place)
            if found == expected:
                return place, found, "kept from before"
            if not wanted.sha256 and expected:
                raise Refused(f"{place}: its digest is {found}, but {expected} when it was fetched ({folder / LOCK}): it was changed; "
                              "remove it to fetch it again")
            progress.say(f"{place}: its digest is {found}, wanted is {expected or 'not known'}; fetched again")
            place.unlink()
        failures = []
        try:
            for address in wanted.sources:
                try:
                    return place, _from_address(wanted, address, folder, expected, wait), address
                except _NotThere as failure:
                    failures.append(str(failure))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise Unavailable(f"{folder}: {error.strerror} while {wanted.file} was written; what came is kept, and the same "
                                  "command goes on from there") from None
            raise
    raise Unavailable("\n  ".join([f"{wanted.file} cannot be fetched:", *failures,
                                   "A folder with the file, or a mirror, can be named with --from"]))


def take_from_folder(wanted: Wanted, folders: list[Path]) -> tuple[Path, str]:
    """The file where it lies, and its digest."""
    for folder in folders:
        path = folder / wanted.file
        if path.is_file():
            found = digest_of(path)
            if wanted.sha256 not in (None, found):
                raise Refused(f"{path}: its digest is {found}, wanted is {wanted.sha256}: not the released file, or damaged")
            return path, found
    raise Refused(f"{wanted.file} is not in {' or '.join(map(str, folders))}")
