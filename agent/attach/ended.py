"""What an agent says of an attach that has ended. Values only, as they go over a host's session, in JSON."""

from __future__ import annotations

from msgspec import Struct


class AttachStep(Struct, frozen=True, omit_defaults=True):
    """One step of an attach; `agent.attach.attacher` has what each does."""

    step: str
    """``record``, ``connect``, ``path``, ``ready``, ``answer`` or ``lookup``."""
    begins_ms: float
    """When it began, in milliseconds from the beginning of the attach: two steps run at once."""
    milliseconds: float | None = None
    """How long it took. None: it has failed, or was not finished because another one had failed."""
    lagging: tuple[str, ...] = ()
    """The hosts that it has waited for in vain."""


class AttachFacts(Struct, frozen=True, omit_defaults=True):
    """An attach that has ended."""

    environment: str
    """The environment of the instance."""
    service: str
    """Its service, by the name that it had then."""
    instance: str
    """The instance."""
    began: float
    """When the attach began, in Unix seconds."""
    milliseconds: float
    """How long it took, in all."""
    steps: tuple[AttachStep, ...]
    """Its steps, in the order in which they began."""
    address: str | None = None
    """The address of the instance. None: it has failed before there was one."""
    problem: str = ""
    """Why it has failed; empty if it has not."""
    failed: str = ""
    """The step that has failed; empty where none has."""
