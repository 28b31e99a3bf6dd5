"""Makes the transcript: runs the script on an ``interlock up`` of its own, and takes out what differs each time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from store.credentials import Enrolment
from store.store import Store
from tests.admin.api import make_host
from tests.interlock.processes import ROOT, interlock, run_here, started
from tests.interlock.transcript.script import SCRIPT, File, Section, Step
from tests.interlock.transcript.terminal import COLUMNS, typed
from tests.worlds import lease_of

PAGE = ROOT / "docs" / "command-line.md"
HEAD = """\
# The command line

What a new user types, on a terminal of 80 columns, and what is seen: every command, and every usual mistake. This page
is made by running the commands on an `interlock up`, and a test keeps it true; only addresses, times and secrets are
made up. After each command that fails stands its exit status: 1 for an error that may pass, 78 for a mistake in what
was typed, 130 for a no.

One verb means one thing at every noun. Elsewhere than on a terminal nothing is asked, cut or coloured, and `--json` is
for programs. `eval "$(interlock completion bash)"` completes commands, flags, and the names of environments, services,
instances, records, peers, hosts and tokens (`zsh` and `fish` too).
"""
LEASE = 3_600_000  # milliseconds; longer than the transcript takes
TOKEN_ID = "3f9a0c71d2e8"
LISTS = re.compile(r" (list|ls|get|show)\b(?!.*--json)")  # commands whose output has to fit the terminal
NETWORKS = ("5b1e:90c4", "3c07:a1d2", "9e4b:17f0", "c2a6:44e8")
ALWAYS_THE_SAME = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d(:[\d.:]+)?Z", "2026-01-31T12:00Z"),
    (r"\d+(\.\d+)? ms\b", "0.2 ms"),
    (r"interlock(_[a-z]+)?_[A-Za-z0-9_-]{40,}", r"interlock\1_…"),
    (r"\bilk?e?_[A-Za-z0-9_.:-]{30,}", "il_…"),
    (r"(document +16777216 +)\d+", r"\g<1>58"),
    (r"[A-Za-z0-9+/]{20,42}…", "mK7kaWTRG5Wm6uM0Sg3m9zM6rKJxGKi…"),
    (r"[A-Za-z0-9+/]{43}=", "mK7kaWTRG5Wm6uM0Sg3m9zM6rKJxGKiIN0Ou5m3eq3k="),
    (r"\bid: \d+", "id: 4711"),
)


@dataclass
class Names:
    """What differs each time, and what stands for it."""

    fixed: dict[str, str] = field(default_factory=dict)
    """What it is → what stands for it."""
    networks: dict[str, str] = field(default_factory=dict)
    """The bits of each network → those that stand for them."""
    token: str = ""
    """The id of the token that was made."""

    def clean(self, text: str) -> str:
        """``text`` with what is always the same in place of what is not."""
        for actual, shown in self.fixed.items():
            text = text.replace(actual, shown)
        for pattern, shown in ALWAYS_THE_SAME:
            text = re.sub(pattern, shown, text)
        return re.sub(r"fd12:([0-9a-f]{1,4}:[0-9a-f]{1,4})(?=:)", self._network, text)

    def _network(self, found: re.Match[str]) -> str:
        bits = found[1]
        if bits not in self.networks:
            self.networks[bits] = NETWORKS[len(self.networks)]
        return f"fd12:{self.networks[bits]}"


def make_transcript() -> tuple[str, bool]:
    """The page, as it should be, and whether its columns are straight: a network may be drawn that is written short."""
    with tempfile.TemporaryDirectory() as directory, _platform(Path(directory)) as names:
        page = HEAD + "".join(_section(section, names) for section in SCRIPT)
    return page, all(len(bits) == len(NETWORKS[0]) for bits in names.networks)


def _section(section: Section, names: Names) -> str:
    text = f"\n## {section.title}\n" + (f"\n{section.text}\n" if section.text else "")
    block: list[str] = []
    for step in section.steps:
        if isinstance(step, Step) and step.note:
            text, block = text + _block(block) + f"\n{step.note}\n", []
        block += _file(step) if isinstance(step, File) else _step(step, names)
    return text + _block(block)


def _block(lines: list[str]) -> str:
    return "\n```console\n" + "\n".join(lines) + "\n```\n" if lines else ""


def _file(file: File) -> list[str]:
    Path(file.name).write_text(file.content)
    return [f"$ cat {file.name}", *file.content.splitlines()]


def _step(step: Step, names: Names) -> list[str]:
    status, shown = typed(step.typed.replace("TOKEN-ID", names.token), step.answers)
    if step.typed.startswith("interlock token create"):
        names.token = json.loads(run_here("token", "list", "-e", "shop", "--json")[1])["tokens"][0]["id"]
        names.fixed[names.token] = TOKEN_ID
    if LISTS.search(step.typed):
        assert [line for line in shown.splitlines() if len(line) > COLUMNS and not line.startswith("interlock: ")] == []
    lines = names.clean(shown.strip("\n")).splitlines()
    return [f"$ {step.typed.replace('TOKEN-ID', TOKEN_ID)}", *lines, *([f"# exit status {status}"] * bool(status))]


@contextmanager
def _platform(directory: Path) -> Iterator[Names]:
    """An ``interlock up``, the variables that commands find it by, and two hosts."""
    state = directory / "state"
    up = interlock(
        "up", "--state-dir", str(state), "--dns-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--bind",
        "127.0.0.1/32=shop",
    )  # fmt: skip
    with started(*up) as process:
        welcome = process.read_until("Stop ")
        api = _found(r"API +(http://\S+)", welcome)
        dns = _found(r"dns_listening.*?(127\.0\.0\.1:\d+)", process.errors)
        names = Names({f"{directory}/": "", api: "http://127.0.0.1:18081", dns: "127.0.0.1:10053"})
        asyncio.run(_add_hosts(f"unix://{state}/store.sock"))
        environ = {
            "INTERLOCK_API": api, "INTERLOCK_STATE_DIR": "state", "INTERLOCK_DNS_LISTEN": dns,
            "COLUMNS": str(COLUMNS), "NO_COLOR": "1",
        }  # fmt: skip
        with _at(directory), mock.patch.dict(os.environ, _without_ours(os.environ) | environ, clear=True):
            yield names


async def _add_hosts(url: str) -> None:
    store = Store(url)
    for number in (1, 2):
        await store.hosts.register(make_host(number, region="eu"))
    await store.leases.renew(lease_of("h1"), LEASE)
    await store.credentials.invite("h1", Enrolment("d", 1 << 50, None))
    await store.credentials.enrol("h1", "d", "f" * 64, 0)
    await store.close()


@contextmanager
def _at(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(before)


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("INTERLOCK_")}


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.DOTALL)
    assert found, text
    return found[1]
