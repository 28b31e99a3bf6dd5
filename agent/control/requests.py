"""The requests of the agent's control socket: a type for each, whose values are checked when it is decoded."""

from __future__ import annotations

import string

import msgspec
from msgspec import Struct

from agent.attach.attachment import key_of
from agent.errors import BadRequest

INTERFACE = "railnet0"  # the workload's link, unless the request names another

LONGEST_PATH, LONGEST_INTERFACE = 4095, 15  # PATH_MAX and IFNAMSIZ of Linux, each without the octet 0 at its end

_NOT_IN_INTERFACE = frozenset("/:\0" + string.whitespace)


class _Workload(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A workload; the fields without a sentence here are those of `agent.attach.attachment.Attachment`."""

    environment: str
    service: str
    instance: str
    netns: str
    resolv_conf: str | None = None
    interface: str = INTERFACE
    region: str | None = None
    build: bool = False
    """Whether the workload builds its service and does not run it. Such a workload is refused."""
    container: str | None = None

    def __post_init__(self) -> None:
        for name, path in (("netns", self.netns), ("resolv_conf", self.resolv_conf or "/")):
            if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "surrogatepass")) > LONGEST_PATH:
                raise BadRequest(
                    f"{name}: {path!r} is no absolute path of at most {LONGEST_PATH} octets: name the file as in"
                    " /run/netns/w1"
                )
        if not 1 <= len(self.interface) <= LONGEST_INTERFACE or set(self.interface) & _NOT_IN_INTERFACE:
            raise BadRequest(
                f"interface: {self.interface!r} cannot be the name of an interface: use 1 to {LONGEST_INTERFACE}"
                " characters, none of them a space, a slash or a colon, as in railnet0"
            )


class Attach(_Workload, frozen=True, tag_field="op", tag="attach"):
    """Attach a workload."""

    barrier: bool = True
    """Whether to wait until the other hosts reach the workload and answer its name (see `Attacher.attach`)."""
    replace: bool = False
    """Whether to take the place of a live workload that is attached as the same instance from another namespace."""


class Check(_Workload, frozen=True, tag_field="op", tag="check"):
    """Check that a workload is attached, and that nothing made for it is missing or changed."""


class Detach(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="detach"):
    """Detach a workload: the one with these three names, or the one of this container."""

    environment: str | None = None
    """The id of its environment; None where ``container`` is given."""
    service: str | None = None
    """The name that its service had when it was attached; None where ``container`` is given."""
    instance: str | None = None
    """The id of its instance; None where ``container`` is given."""
    container: str | None = None
    """The name that the CNI plugin gave it; None where the three names are given."""
    offline: bool = False
    """Whether to cut it off even if no control plane answers, and have its names withdrawn once one does."""

    def __post_init__(self) -> None:
        named = (self.environment, self.service, self.instance)
        if (self.container is None) == (None in named):
            raise BadRequest("name environment, service and instance, or a container, but not both")

    @property
    def key(self) -> str:
        """The key of the attachment, where its three names are given and no container."""
        return key_of(self.environment or "", self.service or "", self.instance or "")


class Collect(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="gc"):
    """Detach the workloads of containers that are gone. A workload that is not a container's stays attached."""

    keep: list[str]
    """The names of the containers that still exist, as the CNI plugin gave them."""
    within: str = ""
    """What the name of a container begins with that may be detached; with the empty text, any may."""


class Status(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="status"):
    """Say whether workloads can be attached now, and if not, why."""


class ShowMesh(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="mesh"):
    """Describe the mesh as this host sees it."""


class Examine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="examine"):
    """Give the facts about this host, or about what the fields name, with probes through the tunnel.

    The fields are those of `agent.examine.examiner.Question`.
    """

    environment: str | None = None
    service: str | None = None
    instance: str | None = None
    netns: str | None = None
    source: str | None = None
    target: str | None = None
    port: int | None = None


class Rotate(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="rotate"):
    """Take a new WireGuard key."""

    cut_off_peers: bool = False
    """Whether to do so though external peers have this host as their gateway, whose configurations hold the old key."""


class Leave(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="leave"):
    """Detach all workloads, remove everything that the agent made on this host, and end the agent."""


Request = Attach | Check | Detach | Collect | Status | ShowMesh | Examine | Rotate | Leave


def parse(line: bytes) -> Request:
    """The request in ``line``. Raises `BadRequest`."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the request cannot be read: {error}") from None


_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
