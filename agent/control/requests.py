"""What can be asked of the agent on its local socket: each request a type, checked as it is read."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.attachment import key_of
from agent.errors import BadRequest

INTERFACE = "railnet0"

AbsolutePath = Annotated[str, Meta(pattern="^/[^\0]*$", max_length=4096)]
InterfaceName = Annotated[str, Meta(pattern="^[^/:\\s\0]{1,15}$")]  # IFNAMSIZ, and what the kernel refuses in it


class _Workload(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    environment: str
    service: str
    instance: str
    netns: AbsolutePath
    resolv_conf: AbsolutePath | None = None
    interface: InterfaceName = INTERFACE
    region: str | None = None
    build: bool = False
    container: str | None = None


class Attach(_Workload, frozen=True, tag_field="op", tag="attach"):
    """Attach a workload. Without ``barrier`` nobody waits until others can reach it (see `Attacher.attach`)."""

    barrier: bool = True


class Check(_Workload, frozen=True, tag_field="op", tag="check"):
    """Is it attached, just so?"""


class Detach(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="detach"):
    """Detach a workload, by its names or by its container's."""

    environment: str | None = None
    service: str | None = None
    instance: str | None = None
    container: str | None = None

    def __post_init__(self) -> None:
        named = (self.environment, self.service, self.instance)
        if (self.container is None) == (None in named):
            raise BadRequest("name environment, service and instance, or a container, and not both")

    @property
    def key(self) -> str:
        """What the attachment is known by, where no container is named."""
        return key_of(self.environment or "", self.service or "", self.instance or "")


class Collect(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="gc"):
    """Detach all containers' workloads but those of ``keep``; with ``within``, of those that are so called alone."""

    keep: list[str]
    within: str = ""  # what the containers' names begin with


class Status(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="status"):
    """Can workloads be attached now?"""


class ShowMesh(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="mesh"):
    """The mesh as this host sees it."""


class Rotate(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="rotate"):
    """Take a new key."""


class Leave(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="leave"):
    """Undo all that was made on this host, and end."""


Request = Attach | Check | Detach | Collect | Status | ShowMesh | Rotate | Leave


def parse(line: bytes) -> Request:
    """The request in ``line``. Raises `BadRequest`."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the request cannot be read: {error}") from None


_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
