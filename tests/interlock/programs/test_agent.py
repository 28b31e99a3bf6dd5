"""``interlock agent``: a setting that is missing or wrong is one line, before anything on the host is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interlock.processes import interlock, run_here, unprivileged

API = ("--api", "https://192.0.2.10:8443")
PLACE = ("--host", "h1", "--endpoint", "192.0.2.1:51820")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (PLACE, "where is the control plane? give --api https://ADDRESS:PORT or set INTERLOCK_API"),
        ((*PLACE, "--api", "http://192.0.2.10:8443"), "the control plane is spoken to by TLS"),
        ((*API, "--host", "h1"), "give --endpoint ADDRESS:PORT"),
        ((*API, "--endpoint", "192.0.2.1:51820", "--host", ""), "give --host or set INTERLOCK_HOST"),
        ((*API, *PLACE, "--agent-dir", ""), "give --agent-dir or set INTERLOCK_AGENT_DIR"),
        ((*API, "--host", "h1", "--endpoint", "0.0.0.0:51820"), "--endpoint"),
        ((*API, *PLACE, "--wireguard", "magic"), "--wireguard"),
        ((*API, *PLACE, "--device", "a name that is too long"), "--device"),
        ((*API, *PLACE, "--region", "EU west"), "--region"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    status, out, err = run_here("agent", *arguments)
    assert (status, out, err.count("\n")) == (78, "", 1)
    assert said in err


def test_it_needs_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = interlock("agent", *API, *PLACE, "--state-dir", str(tmp_path / "state"))
    done = subprocess.run(unprivileged(*command), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == ["interlock: 'interlock agent' changes the network of its host: run it as root"]
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_no_setting_of_it() -> None:
    status, _, err = run_here("agent", *API, *PLACE, "--redis", "redis://192.0.2.10:6379")
    assert status
    assert "--redis" in err
