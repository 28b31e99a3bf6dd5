"""`interlock tail` finds the resolver of an installed host by itself, and says what is wrong with what was asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.interlock.processes import Running, interlock, run_here, started, wait_until
from tests.resolver.messages import query

INSTALLED = "/var/lib/interlock-resolver"


@pytest.fixture
def machine() -> Iterator[tuple[str, ...]]:
    """What to put before a command that is to run with a ``/var/lib`` of its own, in which a resolver is installed."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a mount namespace needs root, and unshare of the package util-linux")
    script = f"mount -t tmpfs none /var/lib && mkdir {INSTALLED} && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdout
        assert keeper.stdout.readline() == b"ready\n"
        yield ("nsenter", "--mount", "--target", str(keeper.pid), f"--wdns={Path.cwd()}", "--")
        keeper.kill()


@contextmanager
def serving(*machine: str) -> Iterator[int]:
    """``interlock up`` with a demo in the directory of an installed resolver; gives its DNS port."""
    with started(
        *machine,
        *interlock(
            "up", "--demo", "--state-dir", INSTALLED, "--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0",
            "--upstream", "none", "--log-format", "json",
        ),
    ) as process:  # fmt: skip
        wait_until(lambda: '"dns_listening"' in process.errors)
        process.read_until("api.railway.internal")
        events = [json.loads(line) for line in process.errors.splitlines() if line.startswith("{")]
        (listening,) = [event for event in events if event["event"] == "dns_listening"]
        yield int(listening["addresses"][0].rpartition(":")[2])


def ask(port: int, name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(query(name), ("127.0.0.1", port))
        sock.settimeout(5)
        sock.recv(4096)


def test_it_works_on_an_installed_host_without_a_variable(machine: tuple[str, ...]) -> None:
    with serving(*machine) as port, started(*machine, *interlock("tail", "--failed")) as tail:
        _ask_until_shown(port, tail)
        assert "NXDOMAIN" in tail.output
        assert "environment 'demo' has no name nosuch.railway.internal." in tail.output
        misspelt = subprocess.run(
            [*machine, *interlock("tail", "-e", "dmo")], capture_output=True, text=True, check=False
        )
        assert misspelt.returncode == 78
        assert "answers for no environment 'dmo': did you mean demo?" in misspelt.stderr


def _ask_until_shown(port: int, tail: Running) -> None:
    """The watcher may not be connected yet when the first look-ups are made."""

    def shown() -> bool:
        ask(port, "nosuch")
        return tail.read_more(0.1)

    wait_until(shown)


def test_without_a_resolver_it_names_where_it_looked(tmp_path: Path) -> None:
    status, _, err = run_here("tail", "--state-dir", str(tmp_path))
    assert status == 1
    assert f"start a resolver on this machine, or name its --state-dir (tried {tmp_path}/tail.sock: No such file" in err


def test_with_hosts_it_hears_by_the_admin_api(tmp_path: Path) -> None:
    command = interlock(
        "up", "--demo", "--state-dir", str(tmp_path), "--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0",
        "--upstream", "none", "--log-format", "json",
    )  # fmt: skip
    with started(*command) as process:
        process.read_until("api.railway.internal")
        wait_until(lambda: '"http_listening"' in process.errors)
        events = [json.loads(line) for line in process.errors.splitlines() if line.startswith("{")]
        at = {event["event"]: event for event in events}
        port = int(at["dns_listening"]["addresses"][0].rpartition(":")[2])
        api = ("--api", f"http://{at['http_listening']['address']}", "--state-dir", str(tmp_path))
        with started(*interlock("tail", "--hosts", "-e", "demo", "--failed", *api)) as tail:
            tail.read_until("heard: the control plane's own resolver")
            _ask_until_shown(port, tail)
            assert "nosuch.railway.internal. AAAA NXDOMAIN" in tail.output
            status, _, err = run_here("tail", "--hosts", "--token", "no-token", "--api", api[1])
            assert (status, "token is not valid" in err) == (1, True), err
            process.end(signal.SIGKILL)
            assert tail.wait() == 1
            assert "says no more" in tail.errors


def test_without_a_next_resolver_in_the_same_place_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    monkeypatch.setattr("interlock.commands.tail.STATE_DIRECTORIES", (first, other))
    monkeypatch.setattr("interlock.commands.tail.NEXT_DEADLINE", 0.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with listening_in(first) as listening, listening_in(other) as of_another:

        def answer() -> None:
            connection, _ = listening.accept()
            listening.close()
            with connection:
                connection.recv(4096)
                connection.sendall(b'{"skipped": 7}\n{"skip')  # and is killed

        answering = Thread(target=answer)
        answering.start()
        status, out, err = run_here("tail")
        answering.join()
        of_another.setblocking(False)
        with pytest.raises(BlockingIOError):
            of_another.accept()
    assert (status, out) == (1, "skipped: 7\n")
    assert "waiting for the next one" in err
    assert f"(tried {first}/tail.sock: Connection refused)" in err


@contextmanager
def listening_in(directory: Path) -> Iterator[socket.socket]:
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "tail.sock"))
        listening.listen()
        yield listening
