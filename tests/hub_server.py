"""A model hub on this machine, for the hub's own client: it lists files, serves them, and remembers
what was asked for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves folders as repositories.

    Args:
        repositories: ``org/name`` -> its folder.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        """Names of the files that were sent, in order."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._answer(self, send=True)

            def do_HEAD(self) -> None:
                hub._answer(self, send=False)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """For ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, send: bool) -> None:
        path = unquote(urlparse(request.path).path).strip("/")
        for name, folder in self.repositories.items():
            if path.startswith(f"api/models/{name}"):
                return self._list(request, name, folder, path)
            if path.startswith(f"{name}/resolve/"):
                return self._file(request, folder, path.split("/", 4)[-1], send)
        return self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"}, send)

    def _list(self, request: Any, name: str, folder: Path, path: str) -> None:
        files = sorted(p for p in folder.iterdir() if p.is_file())
        if "/tree/" in path:
            found: Any = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _etag(p)}
                for p in files
            ]
        else:
            found = {
                "id": name,
                "modelId": name,
                "sha": COMMIT,
                "private": False,
                "siblings": [{"rfilename": p.name} for p in files],
            }
        self._send(request, 200, json.dumps(found).encode(), {}, True)

    def _file(self, request: Any, folder: Path, name: str, send: bool) -> None:
        path = folder / name
        if not path.is_file():
            return self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, send)
        if send:
            self.fetched.append(name)
        headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT}
        return self._send(request, 200, path.read_bytes(), headers, send)

    def _send(
        self, request: Any, status: int, body: bytes, headers: dict[str, str], send: bool
    ) -> None:
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        if send:
            request.wfile.write(body)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
