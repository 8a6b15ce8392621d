"""A local server that imitates a hub of weights or a download site, including their failures."""

import hashlib
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Serve `files` for requests whose path ends with their name, after the failures in `faults`.

    A fault is a status code, "truncated" (half of the body), "hang" (no answer until the hub is closed), or "redirect".
    """

    daemon_threads = True

    def __init__(self, **files: bytes):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.faults: deque[int | str] = deque()
        self.closed = threading.Event()
        self.url = "http://{}:{}".format(*self.server_address)

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Print nothing: the tests expect clients that give up."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = next((content for name, content in self.server.files.items() if self.path.endswith(name)), None)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault == "hang":
            self.server.closed.wait()
            self.close_connection = True
        elif fault == "redirect":
            self._answer(302, b"", Location=f"/elsewhere{self.path}")
        elif isinstance(fault, int) or body is None:
            self._answer(fault or 404, b"no", **{"X-Error-Code": "EntryNotFound"} if not fault else {})
        else:
            self._answer(200, body, sent=len(body) // 2 if fault == "truncated" else len(body))

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes, sent: int | None = None, **headers: str) -> None:
        first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if first and status == 200 else status)
        digest = hashlib.sha256(body).hexdigest()
        headers |= {"ETag": f'"{digest}"', "X-Repo-Commit": digest[:40], "Content-Length": str(len(body) - first)}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[first:sent])
        self.close_connection = sent is not None and sent < len(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
