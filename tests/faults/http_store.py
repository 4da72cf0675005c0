"""An HTTP store for DVC, in a folder: HEAD, GET, PUT. `python -m tests.faults.http_store FOLDER` prints its URL."""

from __future__ import annotations

import shutil
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[-1])


class Handler(BaseHTTPRequestHandler):
    """Serves one file per request."""

    protocol_version = "HTTP/1.1"

    def _path(self) -> Path:
        return FOLDER / self.path.lstrip("/")

    def do_HEAD(self) -> None:
        path = self._path()
        self.send_response(HTTPStatus.OK if path.is_file() else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", str(path.stat().st_size if path.is_file() else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self._path().is_file():
            with self._path().open("rb") as stream:
                shutil.copyfileobj(stream, self.wfile)

    def do_PUT(self) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._body())
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):  # Transfer-Encoding: chunked
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/store", flush=True)
        server.serve_forever()
