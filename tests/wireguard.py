"""Which WireGuard this machine has: its kernel's, wireguard-go, or both. Tests of either ask here."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests import namespaces
from tests.vm import machine

DEVICES = ("kernel", "userspace")
"""As the agent's setting names them."""

_PROBE = "interlock-wireguard"


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
