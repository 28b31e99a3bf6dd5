"""A web server that stands for every instance: it tells a visitor at which address it was visited."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 81


class _Visited(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host = self.connection.getsockname()[0]
        body = host.removeprefix("::ffff:").encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name that it has
        pass


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256


def start() -> None:
    """Serves on all addresses of the namespace, until the process ends."""
    server = _Server(("::", PORT), _Visited)
    threading.Thread(target=server.serve_forever, daemon=True).start()
