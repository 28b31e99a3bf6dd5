"""Telling the service manager how things stand: systemd's sd_notify(3) protocol, all that we need of it."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends ``state`` (``READY=1``, ``STOPPING=1``) to the service manager, if one is listening."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # @ stands for Linux' abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return  # a manager that does not listen is no reason to stop serving
