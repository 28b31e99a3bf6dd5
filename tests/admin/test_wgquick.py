"""The configuration of an external peer: golden texts, and what its commands do on a machine that runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from admin.wgquick import PLACEHOLDER, Form, with_private_key, write_config
from tests import namespaces, worlds
from tests.namespaces import Namespace
from zones.edits import PutPeer
from zones.hosts import Host
from zones.keys import PublicKey
from zones.names import Name

ZONE = Name.parse("railway.internal")
KEY = PublicKey("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=")
GATEWAY = Host(
    id="h1", endpoint="192.0.2.1:51820", public_key=PublicKey("aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=")
)
ENVIRONMENT = worlds.build("production", 0x5B1E90C4, PutPeer("laptop", public_key=KEY, gateway="h1"))

WG_QUICK = r"""# laptop, a peer of the environment production, by way of the host h1
[Interface]
PrivateKey = <the private key that belongs to this peer's public key>
Address = fd12:5b1e:90c4::100/128
MTU = 1420
PostUp = resolvectl dns %i fd12:5b1e:90c4::10 2>/dev/null && resolvectl domain %i '~railway.internal' || printf 'nameserver fd12:5b1e:90c4::10\nsearch railway.internal\n' | resolvconf -a tun0.%i || echo 'no resolvectl, no resolvconf: for names under railway.internal, ask fd12:5b1e:90c4::10' >&2
PostDown = resolvconf -d tun0.%i 2>/dev/null || true

[Peer]
PublicKey = aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=
Endpoint = 192.0.2.1:51820
AllowedIPs = fd12:5b1e:90c4::/48
PersistentKeepalive = 25
"""  # noqa: E501 a golden text

APP = """[Interface]
PrivateKey = <the private key that belongs to this peer's public key>
Address = fd12:5b1e:90c4::100/128
MTU = 1420
DNS = fd12:5b1e:90c4::10, railway.internal

[Peer]
PublicKey = aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=
Endpoint = 192.0.2.1:51820
AllowedIPs = fd12:5b1e:90c4::/48
PersistentKeepalive = 25
"""


@pytest.mark.parametrize(("form", "text"), [("wg-quick", WG_QUICK), ("app", APP)])
def test_golden(form: Form, text: str) -> None:
    assert write_config(ENVIRONMENT, "laptop", GATEWAY, ZONE, form) == text


def test_the_zone_and_the_gateway_are_those_of_the_platform() -> None:
    gateway = replace(GATEWAY, endpoint="[2001:db8::1]:443")
    text = write_config(ENVIRONMENT, "laptop", gateway, Name.parse("mesh.test"), "app")
    assert "DNS = fd12:5b1e:90c4::10, mesh.test\n" in text
    assert "Endpoint = [2001:db8::1]:443\n" in text


@pytest.mark.parametrize("text", [WG_QUICK, APP])
def test_the_private_key_takes_its_place(text: str) -> None:
    whole = with_private_key(text, "c2VjcmV0+/c2VjcmV0=")
    assert whole == text.replace(PLACEHOLDER, "c2VjcmV0+/c2VjcmV0=")
    assert PLACEHOLDER not in whole


@pytest.mark.parametrize("text", ["", "<html>", "PrivateKey = a\nPrivateKey = b\n"])
def test_a_text_without_a_place_for_a_key(text: str) -> None:
    with pytest.raises(ValueError, match="no configuration of a peer"):
        with_private_key(text, "c2VjcmV0")


# Its commands, run as wg-quick runs them, on machines that have the one, the other, or neither

SAYS_WHAT_IT_IS_TOLD = """#!/bin/sh
echo "$(basename "$0") $*"
case "$*" in -a*) cat ;; esac
"""
WITHOUT_ITS_DAEMON = """#!/bin/sh
echo 'Failed to resolve interface' >&2
exit 1
"""
MACHINES = [
    (
        {"resolvectl": SAYS_WHAT_IT_IS_TOLD, "resolvconf": WITHOUT_ITS_DAEMON},
        "resolvectl dns wg9 fd12:5b1e:90c4::10\nresolvectl domain wg9 ~railway.internal\n",
        "",
    ),
    (
        {"resolvectl": WITHOUT_ITS_DAEMON, "resolvconf": SAYS_WHAT_IT_IS_TOLD},
        "resolvconf -a tun0.wg9\nnameserver fd12:5b1e:90c4::10\nsearch railway.internal\n",
        "",
    ),
    (
        {"resolvconf": SAYS_WHAT_IT_IS_TOLD},
        "resolvconf -a tun0.wg9\nnameserver fd12:5b1e:90c4::10\nsearch railway.internal\n",
        "",
    ),
    ({}, "", "for names under railway.internal, ask fd12:5b1e:90c4::10\n"),
    ({"resolvectl": WITHOUT_ITS_DAEMON, "resolvconf": WITHOUT_ITS_DAEMON}, "", "ask fd12:5b1e:90c4::10\n"),
]


@pytest.mark.parametrize(("programs", "printed", "warned"), MACHINES)
def test_its_commands_set_up_names(tmp_path: Path, programs: dict[str, str], printed: str, warned: str) -> None:
    up = hook("PostUp", programs, tmp_path)
    assert (up.returncode, up.stdout) == (0, printed), up.stderr
    assert up.stderr.endswith(warned)
    down = hook("PostDown", programs, tmp_path)
    assert (down.returncode, down.stderr) == (0, "")
    assert ("resolvconf -d tun0.wg9" in down.stdout) is (programs.get("resolvconf") == SAYS_WHAT_IT_IS_TOLD)


def hook(name: str, programs: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What the line ``name`` of the file does as wg-quick(8) runs it, on a machine that has ``programs``."""
    for tool in ("cat", "basename"):
        (directory / tool).unlink(missing_ok=True)
        (directory / tool).symlink_to(
            next(path for path in (Path("/bin", tool), Path("/usr/bin", tool)) if path.exists())
        )
    for program, script in programs.items():
        (directory / program).write_text(script)
        (directory / program).chmod(0o755)
    (line,) = [line for line in WG_QUICK.splitlines() if line.startswith(f"{name} = ")]
    command = line.partition("#")[0].removeprefix(f"{name} = ").replace("%i", "wg9")
    bash = ["/bin/bash", "-c", 'set -e -o pipefail; (eval "$1")', "hook", command]
    return subprocess.run(bash, env={"PATH": str(directory)}, capture_output=True, text=True, check=False)


# The whole file, read by wg-quick itself

PRIVATE_KEY = "YGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="
NAMESPACES = "interlock-peer"


def test_wg_quick_strips_its_own_lines(tmp_path: Path) -> None:
    text = with_private_key(WG_QUICK, PRIVATE_KEY)
    own = ("Address", "MTU", "PostUp", "PostDown")
    left = [line for line in text.splitlines() if not line.startswith(own)]
    assert wg_quick("strip", str(written(tmp_path, text))).rstrip("\n").split("\n") == left


@pytest.fixture
def elsewhere() -> Iterator[Namespace]:
    """A network of its own, with nothing in it, for a machine that has a WireGuard of some sort."""
    if os.getuid():
        pytest.skip("only root can make network namespaces: run the tests as root")
    if not (shutil.which("wireguard-go") and Path("/dev/net/tun").exists()):
        pytest.skip("no wireguard-go on this machine, or no /dev/net/tun: install the package wireguard-go")
    namespaces.sweep(NAMESPACES)
    space = namespaces.make(NAMESPACES, "laptop")
    yield space
    space.remove()


def test_wg_quick_brings_it_up(tmp_path: Path, elsewhere: Namespace) -> None:
    # Without its commands, which would set up the names of this machine; what they do is tested above.
    lines = [line for line in with_private_key(WG_QUICK, PRIVATE_KEY).splitlines() if not line.startswith("Post")]
    file = written(tmp_path, "\n".join([*lines, "# ▄▀█ as of a QR code"]))
    device = file.stem

    def inside(*command: str) -> str:
        return subprocess.run([*elsewhere.enter(), *command], check=True, capture_output=True, text=True).stdout

    wg_quick("up", str(file), inside=elsewhere)
    try:
        dump = inside("wg", "show", device, "dump").splitlines()
        assert dump[0].split("\t")[0] == PRIVATE_KEY
        peer, _, endpoint, allowed, *_, keepalive = dump[1].split("\t")
        assert (peer, endpoint, keepalive) == (GATEWAY.public_key, GATEWAY.endpoint, "25")
        assert allowed == "fd12:5b1e:90c4::/48"
        assert "inet6 fd12:5b1e:90c4::100/128" in inside("ip", "-6", "address", "show", device)
        assert "mtu 1420" in inside("ip", "link", "show", device)
        assert inside("ip", "-6", "route", "get", "fd12:5b1e:90c4:1::1").split("dev ")[1].split()[0] == device
    finally:
        wg_quick("down", str(file), inside=elsewhere)


def written(directory: Path, text: str) -> Path:
    """A file with ``text`` by a name that can be a device's, and is no other run's."""
    file = directory / f"peer{os.getpid()}.conf"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def wg_quick(*arguments: str, inside: Namespace | None = None) -> str:
    """What wg-quick(8) prints, with WireGuard in userspace, which every machine can have."""
    if not shutil.which("wg-quick"):
        pytest.skip("no wg-quick on this machine: install the package wireguard-tools")
    command = [*(inside.enter() if inside else ()), "wg-quick", *arguments]
    environ = {
        **os.environ,
        "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
        "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout
