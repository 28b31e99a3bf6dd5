"""deploy/README.md, command for command: three machines boot, and its blocks are typed on them, as they stand there.

A control plane and two hosts, to a connection by name. The wheels that pip would fetch lie ready, and Debian's packages
are in the machines; all else is what the guide says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.system import containers, machines
from tests.system.containers import CACHE, ROOT, CannotBuild
from tests.system.machines import Machine
from watcher.session.errors import BadToken
from watcher.session.token import EnrolmentToken

pytestmark = pytest.mark.skipif(bool(reason := machines.why_not()), reason=f"no machine can be booted here: {reason}")

GUIDE = ROOT / "deploy/README.md"
CONTROL, FIRST, SECOND = "control plane", "h1", "h2"
ADDRESSES = {CONTROL: "192.0.2.10", FIRST: "192.0.2.1", SECOND: "192.0.2.2"}
LEFT_OUT = {"a machine with a resolver alone"}
# As the machines' Python, for what is needed differs from one release to the next.
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", "/usr/bin/python3")


def blocks() -> list[tuple[str, str]]:
    """The blocks of the guide, in their order: where each is typed, and its text."""
    found: list[tuple[str, str]] = []
    for where, text in re.findall(r"(?<=\n\n)    # on (?:the )?(.*)\n((?:    .*\n)+)", GUIDE.read_text()):
        found.append((where, "".join(line.removeprefix("    ") for line in text.splitlines(keepends=True))))
    return found


def test_the_guide_says_where_each_block_is_typed() -> None:
    section = GUIDE.read_text().partition("\n## On machines with systemd\n")[2].partition("\n## ")[0]
    starts = re.findall(r"\n\n    (.*)", section)
    assert len(starts) == len(blocks()) > 6
    assert all(start.startswith("# on ") for start in starts), starts
    assert {where for where, _ in blocks()} == {"each machine", *ADDRESSES, *LEFT_OUT}


@pytest.mark.timeout(900)  # the system of the machines is made once, and three machines install the product
def test_a_newcomer_who_follows_it_has_a_connection_by_name(tmp_path: Path) -> None:
    with containers.cache():
        try:
            machines.make_system()
        except CannotBuild as error:
            pytest.skip(f"no machine can be made here: {error}")
        wheels = _wheels()
    with ExitStack() as stack:
        there = dict(_booted(stack, tmp_path, wheels))
        tokens: list[str] = []
        printed = ""
        for where, text in blocks():
            if where == "each machine":
                _each(there, text)
            elif where == CONTROL:
                tokens += _tokens(there[CONTROL].type(text))
            elif where == FIRST:
                there[FIRST].type(text, f"{tokens[0]}\n")
                if "ip netns" not in text:  # "and the same on h2"
                    there[SECOND].type(_for_second(text), f"{tokens[1]}\n")
                if "http.server" in text:
                    there[FIRST].until("ip netns exec api ss -Hltn sport = :8080 | grep -q .")
            elif where == SECOND:
                printed = there[SECOND].type(text)
        assert "Directory listing for /" in printed, printed
        _check(there)


def _check(there: dict[str, Machine]) -> None:
    """What the guide promises beside that."""
    control, first, second = (there[name] for name in ADDRESSES)
    listed = control.type("interlock host list --json")
    assert listed.count('"live": true') == 2, listed
    # Monitoring, on another machine, reaches the agent and the resolver of a host.
    for port in (8082, 8083):
        figures = control.type(f"curl --silent --show-error --max-time 10 http://{ADDRESSES[FIRST]}:{port}/metrics")
        assert "\ninterlock_" in figures
    for machine in (control, first, second):
        # The services' users can run what root has installed, and no log has the root token.
        machine.type("setpriv --reuid 65534 --regid 65534 --clear-groups /opt/interlock/bin/interlock version")
        assert machine.type("systemctl list-units --failed --plain --no-legend 'interlock-*'") == ""
    root_token = control.type("cat /var/lib/interlock-admin/admin.token").strip()
    assert len(root_token) > 20
    assert root_token not in control.type("journalctl --no-pager --boot")


def _booted(stack: ExitStack, directory: Path, wheels: Path) -> Iterator[tuple[str, Machine]]:
    cable = stack.enter_context(machines.cable())
    made = {}
    for name, address in ADDRESSES.items():
        own = directory / name.replace(" ", "-")
        clone = own / "clone"
        clone.mkdir(parents=True)
        _clone(clone)
        machine = Machine(own.name, address, cable, own, clone=clone, wheels=wheels)
        made[name] = stack.enter_context(machine)
    for name, machine in made.items():
        machine.boot()
        yield name, machine


def _each(there: dict[str, Machine], text: str) -> None:
    with ThreadPoolExecutor(len(there)) as pool:
        list(pool.map(lambda machine: machine.type(text), there.values()))


def _tokens(printed: str) -> Iterator[str]:
    """The enrolment tokens among what was printed."""
    for word in printed.split():
        with suppress(BadToken):
            EnrolmentToken.parse(word)
            yield word


def _for_second(text: str) -> str:
    return text.replace("INTERLOCK_HOST=h1", "INTERLOCK_HOST=h2").replace(
        ADDRESSES[FIRST] + ":", ADDRESSES[SECOND] + ":"
    )


def _clone(directory: Path) -> None:
    """Copies the tracked files of this repository, as they are now, into ``directory``."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone, so nothing says which files are tracked")
    packing = subprocess.run(
        ["tar", "--null", "--files-from=-", "--ignore-failed-read", "-c"],
        cwd=ROOT, input=listed.stdout, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "-C", str(directory), "-x"], input=packing.stdout, check=True)


def _wheels() -> Path:
    """A folder with the wheels that the locks name, fetched once by this machine's pip."""
    made = CACHE / "wheels"
    env = {**os.environ, "PIP_FIND_LINKS": str(made)}  # what is there already is not fetched again
    for lock in ("requirements.lock", "requirements-build.lock"):
        wanted = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(ROOT / lock)]
        command = [*PIP, "download", "--quiet", "--dest", str(made), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=machines.DEADLINE, env=env)
        if done.returncode:
            pytest.skip(f"pip cannot fetch what {lock} names: {done.stderr.strip()[-300:]}")
    return made
