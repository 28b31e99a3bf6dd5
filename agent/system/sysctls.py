"""The settings of IPv6 of the network namespace that the calling thread is in, below ``/proc/sys``."""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import Failed

_SYSCTLS = Path("/proc/sys/net/ipv6/conf")
_FORWARDING = Path("all/forwarding")
_LONGEST = 16  # octets of a setting, which is a number

NEW_LINKS = "default"  # in place of a link: what each link that is added is given


def enable_ipv6(*links: str) -> None:
    """Switches IPv6 on for ``links``. Raises `Failed`."""
    for link in links:
        path = _disabling(link)
        try:
            if _read(path) != "0":
                path.write_text("0")
        except FileNotFoundError:
            continue  # there is no such link, or this kernel has no IPv6
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}: is /proc/sys writable for the agent?") from None


def has_ipv6(*links: str) -> bool:
    """Whether IPv6 is on for all of ``links``, as far as can be read."""
    try:
        return all(_read(_disabling(link)) == "0" for link in links)
    except OSError:
        return False


def enable_forwarding() -> bool:
    """Lets this host forward IPv6 packets; False if it did already. Raises `Failed`.

    Linux switches it for the whole host: an interface that learns its routes from router advertisements needs
    ``accept_ra=2`` from then on.
    """
    path = _SYSCTLS / _FORWARDING
    try:
        if _read(path) == "1":
            return False
        path.write_text("1")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}: is IPv6 switched off on this host?") from None
    return True


def _read(path: Path) -> str:
    # By system calls: each attach reads four settings, and a file object costs three times as much as the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST).decode("ascii").strip()
    finally:
        os.close(descriptor)


def _disabling(link: str) -> Path:
    return _SYSCTLS / link / "disable_ipv6"
