"""Notifies the service manager of start and stop: the part of systemd's sd_notify(3) protocol that is needed here."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends ``state`` (``READY=1``, ``STOPPING=1``) to the service manager, if one is listening."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # @ stands for the abstract namespace of Linux
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return  # the process goes on serving without a service manager that listens
