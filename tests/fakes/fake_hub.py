"""A hub on a loopback port: the two paths of the real one that downloads go through.

`GET /api/models/OWNER/NAME` lists a repository's files, `GET /OWNER/NAME/resolve/COMMIT/FILE` gives
one, ranges included.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" + "0" * 34
LFS_BYTES = 4096
"""Larger files are described by their SHA-256, smaller ones by git's SHA-1, as on the real hub."""


class FakeHub:
    """Serves repositories until the context ends.

    Args:
        repositories: repository to file name to content.
        breaks: file name to the number of bytes after which each of its first downloads breaks.
        lies: file names whose content is not what the hub announces.
    """

    def __init__(
        self,
        repositories: Mapping[str, Mapping[str, bytes]],
        breaks: Mapping[str, list[int]] | None = None,
        lies: tuple[str, ...] = (),
    ) -> None:
        self.repositories = repositories
        self.breaks = {name: list(lengths) for name, lengths in (breaks or {}).items()}
        self.lies = lies
        self.served: list[tuple[str, str]] = []
        """(file, Range header or "") of every download."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        listing = re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/[^/]+)?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/]+)", path)
        if listing and listing[1] in self.repositories:
            self._list(request, listing[1])
        elif file and file[3] in self.repositories.get(file[1], {}):
            self._give(request, file[3], self.repositories[file[1]][file[3]])
        else:
            request.send_response(404)
            request.send_header("X-Error-Code", "RepoNotFound" if listing else "EntryNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()

    def _list(self, request: BaseHTTPRequestHandler, repository: str) -> None:
        siblings = [described(n, data) for n, data in self.repositories[repository].items()]
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _give(self, request: BaseHTTPRequestHandler, name: str, data: bytes) -> None:
        wanted = request.headers.get("Range", "")
        self.served.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        body = data[start:]
        if name in self.lies:
            body = bytes(255 - byte for byte in body)
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(body)))
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        lengths = self.breaks.get(name)
        request.wfile.write(body[: lengths.pop(0)] if lengths else body)
        request.close_connection = True


def described(name: str, data: bytes) -> dict[str, Any]:
    """What the hub says of a file."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
    if len(data) > LFS_BYTES:
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"size": len(data), "sha256": digest, "pointerSize": 130}
    return entry
