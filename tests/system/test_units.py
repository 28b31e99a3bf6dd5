"""The units of deploy/ under a real systemd: a small Debian boots, and a script in it tries them.

The product in it is copied from the image.
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.system import containers, machines
from tests.system.containers import ROOT, CannotBuild

BOOT_DEADLINE = 90.0  # seconds; the script inside takes some ten of them

# A step prints its name, then the output that its test checks. The script goes on after a failure.
SCRIPT = r"""
    exec >/results/steps 2>&1
    export PATH=$PATH:/opt/interlock/bin
    step() { echo "[$1]"; }
    show() { systemctl show -P "$2" "interlock-$1"; }
    fill() {
        export INTERLOCK_STATE_DIR="/var/lib/interlock-$1"
        interlock env create production
        interlock service put api --environment production --port http:8080/tcp
        interlock instance put api a1 --environment production --state ready
    }
    ask() {
        for _ in $(seq 30); do
            found=$(dig @127.0.0.1 api.railway.internal AAAA +short +time=1 +tries=1) && [ "$found" ] && break
            sleep 0.1
        done
        echo "$found"
    }
    settings() { printf '%s\n' "$@" INTERLOCK_BIND=127.0.0.0/8=production >/etc/interlock/environment; }

    settings
    step up_starts
    systemctl start interlock-up; show up ActiveState
    step up_answers
    fill up >/results/up; ask
    step up_is_unprivileged
    grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$(show up MainPID)/status"
    step up_stops
    systemctl stop interlock-up; show up Result; show up ExecMainStatus; pgrep -c valkey-server

    systemctl start redis-server
    settings INTERLOCK_REDIS_URL=redis://127.0.0.1:6379/0
    step programs_start
    systemctl start interlock-admin interlock-resolver; show admin ActiveState; show resolver ActiveState
    step programs_answer
    fill admin >/results/admin; ask
    step programs_are_unprivileged
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$(show admin MainPID)/status"
    step killed_is_restarted
    kill -9 "$(show resolver MainPID)"; sleep 2; ask; show resolver NRestarts
    step programs_stop
    systemctl stop interlock-admin interlock-resolver; show admin Result; show resolver Result

    ip netns add web
    inside() { ip netns exec web dig +short +time=2 +tries=1 "$1.railway.internal" AAAA; }
    groupadd --system interlock
    install -D -m 0644 /opt/deploy/agent.conf /etc/systemd/system/interlock-resolver.service.d/agent.conf
    settings INTERLOCK_REDIS_URL=redis://127.0.0.1:6379/0 INTERLOCK_HOSTS_LISTEN=127.0.0.1:8443
    systemctl daemon-reload
    systemctl start interlock-admin
    (umask 077; interlock host enrol h1 >/etc/interlock/enrol 2>/dev/null)
    settings INTERLOCK_HOST=h1 INTERLOCK_ENDPOINT=192.0.2.1:51820 INTERLOCK_API=https://127.0.0.1:8443 \
        INTERLOCK_ENROL=@/etc/interlock/enrol
    step mesh_starts
    systemctl start interlock-agent interlock-resolver
    show agent ActiveState; show resolver ActiveState
    step mesh_attaches
    interlock attach -e production --service api --instance w1 --netns web | cut -d ' ' -f 2-
    step mesh_has_filters
    tc filter show dev interlock0 ingress | grep -o interlock- | uniq
    interlock mesh | grep -o 'no filters.*' | cut -c 1-300
    step mesh_answers
    inside w1.api
    step agent_has_few_capabilities
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' "/proc/$(show agent MainPID)/status"
    step agent_is_replaced
    rm /etc/interlock/enrol; before=$(pgrep wireguard-go); systemctl restart interlock-agent
    [ "$(pgrep wireguard-go)" = "$before" ] && echo the same tunnel; inside w1.api
    interlock attach -e production --service api --instance w1 --netns web | cut -d ' ' -f 2-
    step host_leaves
    interlock host leave
    for _ in $(seq 100); do [ "$(show agent ActiveState)" = inactive ] && break; sleep 0.1; done
    show agent ActiveState; show agent Result
    ip link show interlock0; nft list tables; pgrep wireguard-go; ls /var/lib/interlock-agent /etc/netns
    step mesh_stops
    systemctl stop interlock-admin interlock-resolver; show resolver Result
    rm -r /etc/systemd/system/interlock-resolver.service.d; systemctl daemon-reload

    settings INTERLOCK_DNS_LISTEN=nowhere INTERLOCK_REDIS_URL=redis://127.0.0.1:6379/0
    step wrong_setting_is_not_restarted
    systemctl start interlock-resolver; sleep 2; show resolver NRestarts; show resolver ExecMainStatus

    journalctl --no-pager -b -u 'interlock-*' >/results/journal 2>&1
    systemctl poweroff --no-block
"""
SCRIPT_UNIT = """
    [Unit]
    After=network.target dbus.service
    [Service]
    Type=oneshot
    ExecStart=/bin/sh /results/script
"""


pytestmark = pytest.mark.skipif(bool(reason := machines.why_not()), reason=f"no machine can be booted here: {reason}")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The output of each step of the script, by lines."""
    results = tmp_path_factory.mktemp("results")
    with containers.cache():
        try:
            containers.build_image()
            machines.make_system()
        except CannotBuild as error:
            pytest.skip(f"no machine can be made here: {error}")
        containers.copy_out("/opt/interlock", results)
        console = _boot(results)
    if not (results / "steps").exists():
        pytest.skip(f"no machine boots here: {console[-300:]}")
    text = (results / "steps").read_text()
    if (results / "journal").exists():
        print(text, (results / "journal").read_text())
    return {
        name: body.split("\n")[:-1] for name, body in re.findall(r"^\[(\w+)\]\n((?:(?!\[).*\n)*)", text, re.MULTILINE)
    }


def test_up_starts(steps: dict[str, list[str]]) -> None:
    assert steps["up_starts"] == ["active"]


def test_up_answers(steps: dict[str, list[str]]) -> None:
    _check_address(steps["up_answers"])


def test_up_is_unprivileged(steps: dict[str, list[str]]) -> None:
    status = _status(steps["up_is_unprivileged"])
    assert int(status["Uid"].split()[0]) > 60000  # systemd's range of dynamic users (systemd.exec(5))
    assert int(status["CapEff"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE (capabilities(7))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_up_stops_and_its_store_with_it(steps: dict[str, list[str]]) -> None:
    assert steps["up_stops"] == ["success", "0", "0"]


def test_the_programs_start(steps: dict[str, list[str]]) -> None:
    assert steps["programs_start"] == ["active", "active"]


def test_the_programs_answer(steps: dict[str, list[str]]) -> None:
    _check_address(steps["programs_answer"])


def test_the_admin_api_has_no_capability(steps: dict[str, list[str]]) -> None:
    status = _status(steps["programs_are_unprivileged"])
    assert int(status["CapEff"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_resolver_that_was_killed_is_restarted(steps: dict[str, list[str]]) -> None:
    *found, restarts = steps["killed_is_restarted"]
    _check_address(found)
    assert restarts == "1"


def test_the_programs_stop(steps: dict[str, list[str]]) -> None:
    assert steps["programs_stop"] == ["success", "success"]


def test_a_host_joins_the_mesh(steps: dict[str, list[str]]) -> None:
    assert steps["mesh_starts"] == ["active", "active"]


def test_a_workload_is_attached_and_answered(steps: dict[str, list[str]]) -> None:
    assert steps["mesh_attaches"][0] == "is attached, on railnet0 (MTU 1420)"
    assert steps["mesh_has_filters"] == ["interlock-"]
    _check_address(steps["mesh_answers"])


def test_the_agent_has_few_of_roots_capabilities(steps: dict[str, list[str]]) -> None:
    status = _status(steps["agent_has_few_capabilities"])
    allowed = {0, 1, 3, 12, 19, 21}  # CHOWN, DAC_OVERRIDE, FOWNER, NET_ADMIN, SYS_PTRACE, SYS_ADMIN (capabilities(7))
    assert int(status["CapEff"], 16) == sum(1 << number for number in allowed)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_an_agent_that_is_replaced_leaves_the_mesh_as_it_is(steps: dict[str, list[str]]) -> None:
    same, address, attached, *_ = steps["agent_is_replaced"]
    assert (same, address) == ("the same tunnel", steps["mesh_answers"][0])
    assert attached == "is attached already, on railnet0 (MTU 1420)"


def test_a_host_that_leaves_leaves_nothing(steps: dict[str, list[str]]) -> None:
    assert steps["host_leaves"] == [
        "left the mesh; 1 workloads were detached", "inactive", "success", 'Device "interlock0" does not exist.',
        "/etc/netns:", "", "/var/lib/interlock-agent:", "attachments",
    ]  # fmt: skip
    assert steps["mesh_stops"] == ["success"]


def test_a_wrong_setting_is_not_restarted(steps: dict[str, list[str]]) -> None:
    assert steps["wrong_setting_is_not_restarted"][-2:] == ["0", "78"]


def _check_address(lines: list[str]) -> None:
    assert len(lines) == 1, lines
    assert re.fullmatch(r"fd12:[0-9a-f:]+", lines[0])


def _status(lines: list[str]) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in lines)


def _boot(results: Path) -> str:
    """Boots the machine, which runs the script and powers off; gives the output of its console."""
    (results / "script").write_text(textwrap.dedent(SCRIPT))
    (results / "script.service").write_text(textwrap.dedent(SCRIPT_UNIT))
    (results / "etc").mkdir()
    system = "/etc/systemd/system"
    bound = {
        ROOT / "deploy" / f"interlock-{part}.service": f"{system}/interlock-{part}.service"
        for part in ("up", "resolver", "admin", "agent")
    }
    bound |= {
        ROOT / "deploy/interlock-resolver.service.d/agent.conf": "/opt/deploy/agent.conf",
        results / "script.service": f"{system}/script.service",
        results / "interlock": "/opt/interlock",
    }
    flags = [
        "--private-network", f"--bind={results}:/results", f"--bind={results / 'etc'}:/etc/interlock",
        "systemd.wants=script.service",
    ]  # fmt: skip
    command = machines.command(machines.SYSTEM.name, bound, *flags)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=BOOT_DEADLINE
        )
    except subprocess.TimeoutExpired as late:
        return f"not within {BOOT_DEADLINE} s: {late.stdout!r}"
    return done.stdout + done.stderr
