"""``interlock agent``: a setting that is missing or wrong is one line, before anything on the host is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interlock.processes import interlock, run_here, unprivileged

STORE = ("--redis", "unix:///nobody/there.sock")
PLACE = ("--host", "h1", "--endpoint", "192.0.2.1:51820")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (PLACE, "'interlock agent' needs a store: give --redis URL or set INTERLOCK_REDIS_URL"),
        ((*STORE, "--host", "h1"), "give --endpoint ADDRESS:PORT or set INTERLOCK_ENDPOINT"),
        ((*STORE, "--endpoint", "192.0.2.1:51820", "--host", ""), "give --host or set INTERLOCK_HOST"),
        ((*STORE, *PLACE, "--agent-dir", ""), "give --agent-dir or set INTERLOCK_AGENT_DIR"),
        ((*STORE, "--host", "h1", "--endpoint", "0.0.0.0:51820"), "--endpoint"),
        ((*STORE, *PLACE, "--wireguard", "magic"), "--wireguard"),
        ((*STORE, *PLACE, "--device", "a name that is too long"), "--device"),
        ((*STORE, *PLACE, "--region", "EU west"), "--region"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    status, out, err = run_here("agent", *arguments)
    assert (status, out, err.count("\n")) == (78, "", 1)
    assert said in err


def test_it_needs_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = interlock("agent", *STORE, *PLACE, "--state-dir", str(tmp_path / "state"))
    done = subprocess.run(unprivileged(*command), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == ["interlock: 'interlock agent' changes the network of its host: run it as root"]
    assert list(tmp_path.iterdir()) == []
