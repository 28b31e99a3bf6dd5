"""The dashboard's row of the mesh: each of its queries finds series of a host that works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.clients.builds import Build
from tests.interlock.observe.test_dashboard import queries
from tests.interlock.prometheus import scraping, until_found
from tests.mesh.members import populated
from tests.mesh.mesh import Mesh, Node


def test_each_query_of_the_mesh_finds_series(mesh: Mesh, programs: dict[str, Build], tmp_path: Path) -> None:
    with populated(mesh, "dashboard", {"web": {"w1": "h1", "w2": "h2"}}, programs), _reachable(mesh.nodes["h1"]) as at:
        numbers = iter(range(1000))

        def deploy() -> None:
            workload, id_ = mesh.nodes["h1"].attach("dashboard", "web", f"d{(number := next(numbers))}"), f"d{number}"
            mesh.nodes["h1"].detach("dashboard", "web", id_)
            workload.remove()

        with scraping(tmp_path, {"interlock-agent": at}) as prometheus:
            until_found(prometheus, queries("The mesh"), meanwhile=deploy)


@contextmanager
def _reachable(node: Node) -> Iterator[str]:
    """The address at which Prometheus reaches the metrics of ``node``, whose own address is in a namespace."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = node.exposition().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            """Says nothing of single scrapes."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
