"""Which WireGuard this machine has: its kernel's, wireguard-go, or both. Tests of either ask here."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests import namespaces
from tests.vm import machine

DEVICES = ("kernel", "userspace")
"""As the agent's setting names them."""
VARIABLE = "TEST_WIREGUARD"
"""The variable that leaves one of them to the tests: `make vm-test` sets it to ``kernel``."""

_PROBE = "interlock-wireguard"


def available() -> list[str]:
    """Those that the tests of whole meshes run on here."""
    if os.getuid() != 0:
        return []
    return [device for device in DEVICES if os.environ.get(VARIABLE, device) == device and not why_not(device)]


def params() -> list[ParameterSet]:
    """Each of `DEVICES` as a parameter of the tests of one device; one that is missing here is skipped.

    The kernel's is left out where the guest of `tests/vm` runs the same tests with it.
    """
    if os.getuid() != 0:
        return [pytest.param(device) for device in DEVICES]  # the tests themselves say that they need root
    found = {device: why_not(device) for device in DEVICES if device != "kernel" or not is_left_to_guest()}
    return [
        pytest.param(device, marks=pytest.mark.skipif(bool(reason), reason=reason)) for device, reason in found.items()
    ]


def is_left_to_guest() -> bool:
    """Whether the tests that need the WireGuard of a kernel are run in the guest of `tests/vm`, and not here."""
    return os.getuid() == 0 and bool(why_not("kernel")) and not machine.why_not()


def why_not(device: str) -> str:
    """What keeps this machine, on which we are root, from WireGuard by ``device``; empty if nothing does."""
    return _why_no_kernel() if device == "kernel" else _why_no_userspace()


def why_neither() -> str:
    """What keeps this machine from both; empty if there is one."""
    reasons = [why_not(device) for device in DEVICES]
    return " and ".join(reasons) if all(reasons) else ""


@cache
def _why_no_kernel() -> str:
    namespaces.sweep(_PROBE)
    space = namespaces.make(_PROBE, "probe")  # a link goes with its namespace, so nothing is left behind
    try:
        made = subprocess.run(
            ["ip", "-n", space.name, "link", "add", "wg0", "type", "wireguard"], capture_output=True, check=False
        )
    finally:
        space.remove()
    if made.returncode == 0:
        return ""
    missing = machine.why_not()
    elsewhere = f"nor is there the guest of tests/vm: {missing}" if missing else "tests/vm runs this on one that has"
    return f"the kernel of this machine has no WireGuard; {elsewhere}"


def _why_no_userspace() -> str:
    if not shutil.which("wireguard-go", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return "not installed: wireguard-go (tests/setup installs it)"
    return "" if Path("/dev/net/tun").exists() else "no /dev/net/tun, which wireguard-go needs"
