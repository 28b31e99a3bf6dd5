"""What is kept on the disk before a workload's files are changed. Real connections are in `tests/mesh`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from agent.attach.attachments import Attachments
from agent.attach.connection import Connections
from agent.errors import Failed
from agent.system import resolv_conf
from agent.system.netlink import Links
from tests.agent.worlds import ATTACHMENT, PLATFORM
from tests.waiting import DEADLINE, until

BEFORE = "nameserver 192.0.2.1\n"


class MeshWithoutLinks:
    """Stands for a mesh in a test that is about files alone; a kill between two of its steps can't be made at will."""

    platform = PLATFORM
    system: Any = SimpleNamespace(links=None)

    def __init__(self) -> None:
        self.being_removed: list[str] = []

    async def wait_until_applied(self) -> None: ...

    @contextmanager
    def removing(self, link: str) -> Iterator[None]:
        self.being_removed.append(link)
        yield
        self.being_removed.remove(link)


async def test_what_resolv_conf_held_is_kept_before_it_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is killed between the two would else remove the file of the workload when that is detached."""

    def is_killed(*_: object, **__: object) -> None:
        raise Failed("killed")

    monkeypatch.setattr(resolv_conf, "_write", is_killed)
    attachments = Attachments(tmp_path / "attachments")
    attachments.load()
    path = tmp_path / "resolv.conf"
    path.write_text(BEFORE)
    connections = Connections(MeshWithoutLinks(), attachments)  # type: ignore[arg-type]
    begun = await connections.begin(replace(ATTACHMENT, resolv_conf=str(path), resolv_conf_before=None))
    with pytest.raises(Failed, match="killed"):
        await connections.write_files(begun)
    next_agent = Attachments(tmp_path / "attachments")
    next_agent.load()
    (kept,) = next_agent
    assert kept.resolv_conf_before == BEFORE == path.read_text()
    assert os.listdir(tmp_path / "attachments") == [f"{kept.key}.json"]


async def test_the_loop_goes_on_while_a_link_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes tens of milliseconds for it, and others are to be attached meanwhile."""
    released = threading.Event()
    monkeypatch.setattr(Links, "remove", lambda *_: released.wait(DEADLINE))
    mesh = MeshWithoutLinks()
    connections = Connections(mesh, Attachments(tmp_path))  # type: ignore[arg-type]
    removing = asyncio.create_task(connections.remove(ATTACHMENT))
    await until(lambda: mesh.being_removed == [ATTACHMENT.link])
    released.set()  # which nobody would, were the loop held
    await removing
    assert mesh.being_removed == []
