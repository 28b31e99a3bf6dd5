"""Where a resolver listens, and with how many processes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from interlock.process.cores import usable_cores
from interlock.settings.table import Settings
from interlock.settings.values import AUTO_WORKERS
from support.endpoints import Endpoint

log = logging.getLogger(__name__)


def listen_addresses(settings: Settings) -> Sequence[Endpoint]:
    """Where to serve DNS. Default addresses that this machine does not have are left out; configured ones never are."""
    if not settings.is_default("dns_listen"):
        return list(settings.dns_listen)
    usable = [endpoint for endpoint in settings.dns_listen if has_address(endpoint.host)]
    for endpoint in settings.dns_listen:
        if endpoint not in usable:
            log.warning("address_left_out", extra={"address": str(endpoint), "reason": "this machine does not have it"})
    return usable or list(settings.dns_listen)


def worker_processes(settings: Settings) -> int:
    """How many processes are to answer; 1: the process that does all else too."""
    return usable_cores() if settings.workers == AUTO_WORKERS else settings.workers


def has_address(host: str) -> bool:
    """Whether this machine has the address ``host``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
