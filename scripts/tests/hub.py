"""A server on this machine that speaks as the hub and the publisher's files do, for tests of ``get``.

    python3 scripts/tests/hub.py [--rate MB] edgetam=FILE sam2.1_tiny=FILE

serves files as the released ones of those names, at the addresses that ``HF_ENDPOINT`` and ``--from`` lead to, until it is ended, with at
most ``--rate`` MB a second; its first line is its address.
"""
from __future__ import annotations

import hashlib
import http.server
import importlib
import sys
import threading
import time
from pathlib import Path


class Server(http.server.ThreadingHTTPServer):
    """``files``: path -> bytes. ``linked``: path of the hub -> path that it redirects to. ``faults``: what happens to the next
    requests for bytes, one each: an HTTP status, ("cut", n): the line breaks after n bytes, "no range": the whole file whatever
    was asked for, "garbage": other bytes, ("hold", n): nothing more comes after n bytes, "short": a smaller file."""

    daemon_threads = True

    def handle_error(self, *_):
        """The line is broken on purpose; a client that is killed breaks it, too."""

    def __init__(self, files: dict[str, bytes], redirects: dict[str, str]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.redirects = files, redirects
        self.linked = {path: hashlib.sha256(files[target]).hexdigest() for path, target in redirects.items()}
        self.faults: list = []
        self.asked: list[tuple[str, str | None]] = []           # path, Range
        self.etag = '"v1"'
        self.rate: float | None = None                          # bytes per second
        self.held, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_):
        pass

    def say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.headers.get("Authorization") or self.headers.get("Cookie"):
            self.say(400, {}, b"nothing of the user belongs here")
        elif target := self.server.redirects.get(self.path):
            self.say(302, {"Location": target, "X-Linked-Size": str(len(self.server.files[target])),
                           "X-Linked-ETag": f'"{self.server.linked[self.path]}"', "X-Repo-Commit": "abc"})
        elif self.path in self.server.files:
            self.bytes_of(self.server.files[self.path], wanted)
        else:
            self.say(404, {}, b"not here")

    def bytes_of(self, body: bytes, wanted: str | None) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.say(fault, {"Retry-After": "7"} if fault == 429 else {}, b"")
            return
        body = body[::-1] if fault == "garbage" else body[:-1] if fault == "short" else body
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and fault != "no range" else 0
        if self.headers.get("If-Range") not in (None, self.server.etag):
            start = 0
        if start >= len(body):
            self.say(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if isinstance(fault, tuple):
            self.wfile.write(body[start:start + fault[1]])
            self.wfile.flush()
            if fault[0] == "hold":
                self.server.held.set()
                self.server.go_on.wait(60)
            self.close_connection = True
            self.connection.close()
        elif rate := self.server.rate:
            for at in range(start, len(body), 1 << 18):
                self.wfile.write(body[at:at + (1 << 18)])
                time.sleep((1 << 18) / rate)
        else:
            self.wfile.write(body[start:])


def main(pairs: list[str]) -> None:
    rate = float(pairs[1]) * 1e6 if pairs[:1] == ["--rate"] else None
    pairs = pairs[2:] if rate else pairs
    sys.path.insert(0, str(Path(__file__).parents[1]))
    releases = importlib.import_module("jetbench_models.get.releases").RELEASES
    files, redirects = {}, {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        release = releases[name]
        files[f"/{release.file}"] = Path(file).read_bytes()
        redirects[release.hub_address("")] = f"/{release.file}"
    server = Server(files, redirects)
    server.rate = rate
    print(server.address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
