"""The dashboard on a platform that runs: each query of what users see, and of what it depends on, finds series."""

from __future__ import annotations

import asyncio
import socket
from itertools import count
from pathlib import Path

from interlock.observe.dashboard import JOB, RATE, ROWS
from tests.interlock.processes import interlock, started
from tests.interlock.prometheus import scraping, until_found
from tests.resolver.forward.liar import lying
from tests.resolver.messages import query
from tests.store.servers import free_port


def queries(*rows: str) -> list[str]:
    """The queries in ``rows``, with a value for each of Grafana's variables."""
    found = [query for row in rows for panel in ROWS[row] for query in panel.queries.values()]
    return [query.replace(RATE, "30s").replace(JOB, 'job=~".+"') for query in found]


_numbers = count()


async def test_each_query_finds_series(tmp_path: Path) -> None:
    """Of `interlock up`, with an upstream that answers. The row of the mesh is evaluated in tests/mesh."""
    async with lying() as upstream:
        await asyncio.to_thread(_evaluate, tmp_path, str(upstream))


def _evaluate(directory: Path, upstream: str) -> None:
    dns, api = free_port(), free_port()
    with started(
        *interlock(
            "up", "--demo", "--state-dir", f"{directory}/state", "--upstream", upstream,
            "--dns-listen", f"127.0.0.1:{dns}", "--api-listen", f"127.0.0.1:{api}",
        )
    ) as process:  # fmt: skip
        process.read_until("api.railway.internal")
        with scraping(directory, {"interlock-up": f"127.0.0.1:{api}"}) as prometheus:
            wanted = queries("What users see", "What it depends on")
            until_found(prometheus, wanted, meanwhile=lambda: _look_up(dns))


def _look_up(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for name in ("api", f"small.n{next(_numbers)}.liar.example."):  # which is not in the cache
            sock.sendto(query(name, "A"), ("127.0.0.1", port))
            sock.recv(4096)
