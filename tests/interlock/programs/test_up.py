"""`interlock up` as its users run it: a real process, real ports, and the files that it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from resolver.client import Answer, ask
from tests.interlock.processes import (
    NOBODY,
    Running,
    get,
    interlock,
    run,
    run_here,
    started,
    stores_in,
    unprivileged,
    wait_until,
)
from tests.interlock.prometheus import promtool
from zones.names import Name
from zones.records import RRType

LISTEN = ("--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--upstream", "none")


@dataclass(frozen=True, slots=True)
class Up:
    """A running `interlock up`, with methods that use it."""

    process: Running
    state: Path
    welcome: str

    @property
    def dns(self) -> tuple[str, int]:
        match = re.search(r"dig @(\S+) -p (\d+)", self.welcome)
        assert match
        return match[1], int(match[2])

    @property
    def api(self) -> str:
        match = re.search(r"API +(http://\S+)", self.welcome)
        assert match
        return match[1]

    def ask(self, name: str, rtype: RRType = RRType.AAAA) -> Answer:
        return ask(self.dns, Name.parse(f"{name}.railway.internal"), rtype)

    def call(self, *arguments: str) -> str:
        """What the client command prints; it must succeed."""
        status, out, err = run_here(*arguments, "--state-dir", str(self.state), "--api", self.api)
        assert status == 0, err
        return out

    def refused(self, *arguments: str) -> str:
        """The one line that the client command prints when it fails."""
        status, out, err = run_here(*arguments, "--state-dir", str(self.state), "--api", self.api)
        assert (status, out, err.count("\n")) == (1, "", 1)
        return err

    def get(self, path: str) -> tuple[int, str]:
        return get(self.api + path)

    def metric(self, sample: str) -> float:
        match = re.search(rf"^{re.escape(sample)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(match[1]) if match else -1.0


@contextmanager
def up(state: Path, *arguments: str, environ: dict[str, str] | None = None, demo: bool = True) -> Iterator[Up]:
    command = interlock("up", *LISTEN, "--state-dir", str(state), *(["--demo"] if demo else []), *arguments)
    with started(*command, environ=environ) as process:
        yield Up(process, state, process.read_until("Ctrl-C"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One process for all tests that do not change it."""
    with up(tmp_path_factory.mktemp("demo"), "--bind", "127.0.0.1=demo", "--log-format", "json") as running:
        yield running


def test_what_the_welcome_says_works(demo: Up) -> None:
    token = (demo.state / "admin.token").read_text().strip()
    assert token not in demo.welcome  # which a container's log keeps
    assert token not in demo.process.errors
    assert str(demo.state / "admin.token") in demo.welcome
    assert demo.get("/openapi.json")[0] == 200
    assert len(demo.ask("api").records) == 2
    assert all("\tfd12:" in record.replace(" ", "\t") for record in demo.ask("api").records)
    assert demo.ask("api", RRType.A).rcode == "NOERROR"
    assert demo.ask("nosuch").rcode == "NXDOMAIN"
    assert "postgres.railway.internal." in demo.ask("db").records[0]


def test_its_files_are_private(demo: Up) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in demo.state.iterdir()}
    assert modes == {
        "admin.token": 0o600, "lock": 0o600, "store": 0o700, "store.log": 0o600, "store.sock": 0o600,
        "tail.sock": 0o600,
    }  # fmt: skip


def test_health_and_metrics(demo: Up) -> None:
    assert demo.get("/livez") == (200, "ok\n")
    assert demo.get("/readyz")[0] == 200
    assert "[+]watcher ok" in demo.get("/readyz?verbose")[1]
    before = demo.metric('interlock_queries_total{rcode="NXDOMAIN",scope="environment",transport="udp",type="AAAA"}')
    demo.ask("nosuch")
    after = demo.metric('interlock_queries_total{rcode="NXDOMAIN",scope="environment",transport="udp",type="AAAA"}')
    assert after == max(before, 0) + 1
    assert demo.metric('interlock_environment_revision{environment="demo"}') >= 2
    assert demo.metric('interlock_part_up{part="store"}') == 1


def test_strangers_do_not_learn_from_metrics_which_environments_there_are(demo: Up) -> None:
    passed_on = {"X-Forwarded-For": "192.0.2.1"}
    token = {"Authorization": f"Bearer {(demo.state / 'admin.token').read_text().strip()}"}
    shown = {}
    for who, headers in (("this machine", {}), ("a stranger", passed_on), ("root", passed_on | token)):
        with urlopen(Request(f"{demo.api}/metrics", headers=headers)) as reply:
            shown[who] = reply.read().decode()
    assert 'environment="demo"' in shown["this machine"]
    assert 'environment="demo"' in shown["root"]
    assert 'environment="' not in shown["a stranger"]
    assert "interlock_commits_total " in shown["a stranger"]
    assert 'scope="environment"' in shown["a stranger"] or 'scope="environment"' not in shown["root"]


def test_prometheus_takes_its_metrics(demo: Up) -> None:
    demo.ask("api")
    checked = promtool("check", "metrics", stdin=demo.get("/metrics")[1])
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_session_of_commands(demo: Up) -> None:
    network = json.loads(demo.call("env", "create", "shop", "--json"))["network"]
    assert re.search(rf"^shop +{network} +yes +no +1$", demo.call("env", "get", "shop"), re.MULTILINE)
    demo.call("env", "isolate", "shop")
    assert re.search(rf"^shop +{network} +yes +yes +2$", demo.call("env", "list"), re.MULTILINE)
    demo.call("env", "open", "shop")
    shop = ("-e", "shop")
    demo.call("service", "put", "cart", "--port", "http:8080", "--port", "dns:53/udp", *shop)
    made = json.loads(demo.call("instance", "put", "cart", "c1", "--region", "eu", *shop, "--json"))
    demo.call("instance", "put", "cart", "c2", "--state", "starting", *shop)
    demo.call("record", "put", "pay", "cname", "cart.railway.internal.", "--ttl", "30", *shop)

    assert "cart" in demo.call("service", "list", *shop)
    assert "http:8080/tcp dns:53/udp  2" in demo.call("service", "get", "cart", *shop)
    assert re.search(rf"c1 +{made['address']} +ready +eu", demo.call("instance", "list", "cart", *shop))
    assert re.search(r"pay +CNAME +30 +cart\.railway\.internal\.", demo.call("record", "list", *shop))

    explanation = demo.call("explain", "pay", *shop)
    assert explanation.startswith("pay.railway.internal. AAAA in shop: NOERROR\n")
    assert made["address"] in explanation
    assert "✓ instances    1 of 2 instances ready (1 unmanaged); left out: c2 (starting)" in explanation
    assert json.loads(demo.call("explain", "carts", *shop, "--json"))["rcode"] == "NXDOMAIN"

    demo.call("service", "rename", "cart", "basket", "--overlap", "60", *shop)
    demo.call("instance", "delete", "basket", "c2", *shop)
    assert json.loads(demo.call("service", "list", *shop, "--json"))["services"][0]["former_names"][0]["name"] == "cart"

    token = json.loads(demo.call("token", "create", "ci", *shop, "--json"))
    assert "basket" in demo.call("service", "list", *shop, "--token", token["token"])
    demo.call("token", "delete", token["id"], *shop)
    assert token["id"] not in demo.call("token", "list", *shop)

    assert re.search(r"shop .* no ", demo.call("env", "disable", "shop"))
    assert re.search(r"shop .* yes ", demo.call("env", "enable", "shop"))
    demo.call("record", "delete", "pay", "CNAME", *shop)
    demo.call("service", "delete", "basket", *shop)
    demo.call("env", "delete", "shop")
    assert "shop" not in demo.call("env", "list")


def test_long_lists_have_all_pages(demo: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock import client

    monkeypatch.setattr(client, "PAGE", 1)
    token = (demo.state / "admin.token").read_text().strip()
    listed = client.Client(demo.api, token).get_all("environments", "demo", "services", of="services")
    assert [service["name"] for service in listed["services"]] == ["api", "postgres", "web"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("env", "get", "nosuch"), "there is no environment 'nosuch'"),
        (("env", "disable", "nosuch"), "there is no environment 'nosuch'"),
        (("env", "create", "Bad"), "'Bad' is not an environment id"),
        (("service", "put", "up", "-e", "demo"), "'up' is reserved"),
        (("service", "put", "x", "--port", "1:1", "-e", "demo"), "'1' is not a port name"),
        (("instance", "put", "nosuch", "a", "-e", "demo"), "no service 'nosuch'"),
        (("record", "put", "db", "CNAME", "relative", "-e", "demo"), "is not an absolute name"),
        (("explain", "api", "-e", "nosuch"), "there is no environment 'nosuch'"),
        (("env", "list", "--token", "wrong"), "the token is not valid, or no longer"),
    ],
)
def test_what_the_api_refuses_is_one_line(demo: Up, arguments: tuple[str, ...], said: str) -> None:
    assert said in demo.refused(*arguments)


def test_query_asks_the_server(demo: Up) -> None:
    server = "{}:{}".format(*demo.dns)
    answer = json.loads(run_here("query", "api", "--server", server, "--json")[1])
    assert (answer["rcode"], len(answer["records"])) == ("NOERROR", 2)
    assert "status: NXDOMAIN" in run_here("query", "nosuch", "A", "--tcp", "--server", server)[1]


def test_tail_shows_look_ups(demo: Up) -> None:
    command = interlock("tail", "--json", "--name", "tailed.railway.internal", "--state-dir", str(demo.state))
    with started(*command) as tail:

        def has_printed() -> bool:
            demo.ask("tailed")
            return tail.read_more()

        wait_until(has_printed)
        line = json.loads(tail.read_until("tailed").splitlines()[0])
        assert (line["name"], line["rcode"], line["environment"]) == ("tailed.railway.internal.", "NXDOMAIN", "demo")


def test_logs_are_json_and_hold_no_secret(demo: Up) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in demo.process.errors.splitlines()]
    assert {"loaded", "dns_listening", "http_listening", "ready"} <= {line["event"] for line in lines}
    assert (demo.state / "admin.token").read_text().strip() not in demo.process.errors


def test_a_second_process_on_the_same_directory_is_refused(demo: Up) -> None:
    second = run(*interlock("up", *LISTEN, "--state-dir", str(demo.state)))
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"interlock: state directory {demo.state} is in use by process {demo.process.pid}:"
        " stop that one, or choose another directory with --state-dir\n"
    )


@contextmanager
def not_ignored(number: signal.Signals) -> Iterator[None]:
    """Programs that are started meanwhile do not ignore ``number``, though these tests may, as under nohup(1)."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_parts(tmp_path: Path, number: signal.Signals) -> None:
    with not_ignored(number), up(tmp_path) as running:
        assert stores_in(tmp_path)
        assert running.process.end(number) == 0
        assert not stores_in(tmp_path)
        assert "Traceback" not in running.process.errors
        assert (tmp_path / "store.log").read_text().rstrip().endswith("bye bye...")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(running.dns, 1)
    assert not (tmp_path / "store.sock").exists()


def test_it_has_its_data_after_a_kill(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.call("env", "create", "kept")
        address = running.ask("api").records
        running.process.end(signal.SIGKILL)
    wait_until(lambda: not stores_in(tmp_path))
    with up(tmp_path) as again:
        assert "kept" in again.call("env", "list")
        assert sorted(again.ask("api").records) == sorted(address)
        # Loading the demo again changes nothing; the token is the same, and is not shown again.
        assert json.loads(again.call("env", "get", "demo", "--json"))["revision"] == 2
        assert (tmp_path / "admin.token").read_text().strip() not in again.welcome


def test_a_store_that_crashes_is_restarted_and_answers_go_on(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        (pid,) = stores_in(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert len(running.ask("api").records) == 2
        wait_until(lambda: running.metric('interlock_part_restarts_total{part="store"}') == 1)
        wait_until(lambda: running.get("/readyz")[0] == 200)
        running.call("env", "create", "afterwards")
        assert re.search("part_failed +part=store", running.process.errors)
        assert "Traceback" not in running.process.errors
        assert running.process.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(("flag", "kind"), [("--dns-listen", "UDP"), ("--dns-listen", "TCP"), ("--api-listen", "HTTP")])
def test_a_busy_port_is_one_line(tmp_path: Path, flag: str, kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "UDP" else socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind != "UDP":
            taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(*interlock("up", *LISTEN, flag, where, "--state-dir", str(tmp_path)))
    *_logged, line = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert line.startswith(f"interlock: cannot listen on {where} ({kind}): Address already in use: ")
    assert line.endswith(flag)
    assert "Traceback" not in ended.stderr
    assert not stores_in(tmp_path)


def test_an_ordinary_user_can_run_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    if not os.getuid():
        os.chown(state, NOBODY, NOBODY)
    with started(*unprivileged(*interlock("up", *LISTEN, "--demo", "--state-dir", str(state)))) as process:
        running = Up(process, state, process.read_until("Ctrl-C"))
        assert len(running.ask("api").records) == 2
        assert (state / "admin.token").stat().st_uid == (os.getuid() or NOBODY)
        assert process.end(signal.SIGTERM) == 0


def test_another_users_directory_is_one_line() -> None:
    ended = run(*unprivileged(*interlock("up", *LISTEN, "--state-dir", "/usr")))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"interlock: state directory /usr cannot be used: .* may not write to it: .*\n", ended.stderr)


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("x" * 40)
    (tmp_path / "admin.token").chmod(0o644)
    ended = run(*interlock("up", *LISTEN, "--state-dir", str(tmp_path)))
    assert ended.returncode == 1
    assert "has mode 0644, so others may have read the root token" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_service_manager_is_notified(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with up(tmp_path / "state", environ=environ) as running:
            assert manager.recv(100) == b"READY=1"
            assert (tmp_path / "state" / "admin.token").read_text().strip() not in running.welcome
            running.process.end(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"


def test_without_the_demo_clients_are_refused(tmp_path: Path) -> None:
    with started(*interlock("up", *LISTEN, "--log-format", "json", "--state-dir", str(tmp_path))) as process:
        assert "--demo" in process.read_until("Ctrl-C")
        listening = next(line for line in process.errors.splitlines() if "dns_listening" in line)
        _host, port = json.loads(listening)["addresses"][0].split(":")
        answer = ask(("127.0.0.1", int(port)), Name.parse("api.railway.internal"), RRType.AAAA)
        assert answer.rcode == "REFUSED"


def test_names_are_answered_from_the_snapshot_while_the_store_is_damaged(tmp_path: Path) -> None:
    snapshot = tmp_path / "up.snapshot"
    with up(tmp_path) as running:
        records = sorted(running.ask("api").records)
        address = records[0].split()[-1]
        wait_until(lambda: snapshot.exists() and address in snapshot.read_text(errors="replace"))
        assert running.process.end(signal.SIGTERM) == 0
    (file,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(file.read_bytes()[:60] + b"x" * 30 + file.read_bytes()[90:])
    command = interlock("up", *LISTEN, "--state-dir", str(tmp_path), "--demo", "--log-format", "json")
    with started(*command) as process:
        wait_until(lambda: "http_listening" in process.errors)

        def log(event: str) -> list[dict[str, Any]]:
            return [line for line in map(json.loads, process.errors.splitlines()) if line["event"] == event]

        host, _, port = log("dns_listening")[0]["addresses"][0].rpartition(":")

        def served() -> list[str]:
            return sorted(ask((host, int(port)), Name.parse("api.railway.internal"), RRType.AAAA).records)

        wait_until(lambda: [one.split()[-1] for one in served()] == [one.split()[-1] for one in records])
        wait_until(lambda: bool(log("part_failed")))
        reason = log("part_failed")[0]["reason"]
        assert f"{file} is damaged" in reason
        # Mended while the process runs: the store is started again, and as it has lost its data nothing is withdrawn.
        mended = subprocess.run(reason.partition(" with: ")[2], shell=True, input="y\n", capture_output=True, text=True)
        assert "Successfully truncated" in mended.stdout, mended
        wait_until(lambda: bool(log("store_started") and log("withdrawal_held")))
        assert [one.split()[-1] for one in served()] == [one.split()[-1] for one in records]
        assert process.end(signal.SIGTERM) == 0
