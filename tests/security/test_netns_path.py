"""What a runtime names as a network namespace may be anything: the agent neither waits for it nor touches it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.system.namespaces import opened
from tests.waiting import DEADLINE


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_fifo_link(path: Path) -> None:
    os.mkfifo(path.with_suffix(".fifo"))
    path.symlink_to(path.with_suffix(".fifo"))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "make",
    [
        make_fifo, make_fifo_link, make_socket, make_device_link, Path.mkdir, Path.touch,
        lambda path: path.symlink_to(path), lambda path: path.symlink_to("/proc/self/ns/uts"), lambda _: None,
    ],
    ids=["FIFO", "link to a FIFO", "socket", "device", "folder", "file", "circle", "another namespace", "nothing"],
)  # fmt: skip
def test_what_is_no_namespace_is_refused_at_once(make: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "netns"
    make(path)
    refused: list[str] = []

    def name_it() -> None:
        try:
            with opened(str(path)):
                pass
        except AgentError as error:
            refused.append(str(error))

    thread = threading.Thread(target=name_it, daemon=True)  # which a FIFO would hold for ever
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert str(path) in refused[0]


def test_nobody_is_left_at_the_other_end_of_a_fifo(tmp_path: Path) -> None:
    path = tmp_path / "netns"
    os.mkfifo(path)
    with pytest.raises(AgentError), opened(str(path)):
        pass
    with pytest.raises(OSError, match="No such device"):  # ENXIO: nobody reads
        os.open(path, os.O_WRONLY | os.O_NONBLOCK)


def test_a_namespace_is_opened() -> None:
    with opened("/proc/self/ns/net") as namespace:
        assert os.fstat(namespace).st_ino == os.stat("/proc/self/ns/net").st_ino
