"""The servers that benchmarks compare, by name: Interlock, a peer or `bare`, ready to answer from one environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import bare, product, worlds
from bench.peers import PEERS, running_peer
from bench.processes import Process
from zones.model import Environment


@contextmanager
def started(name: str, directory: Path, core: int, served: Environment) -> Iterator[tuple[Process, int]]:
    """The server ``name`` on ``core`` with the names of ``served``; gives it and its port."""
    directory.mkdir()
    if name in PEERS:
        with running_peer(PEERS[name], directory, core, served) as server:
            yield server
        return
    if name == bare.NAME:
        with bare.running_bare(directory, core, len(served.services)) as (process, port):
            product.wait_until_serving(process, port, worlds.service_name(1))
            yield process, port
        return
    with product.running_store(directory) as url:
        worlds.fill(url, [served])
        with product.running_resolver(url, directory, core, product.LISTENING[name], source_rate=product.NO_RATE) as (
            process,
            port,
        ):
            product.wait_until_serving(process, port, worlds.service_name(1))
            yield process, port
