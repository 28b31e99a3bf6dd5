"""What can go wrong with the control plane, sorted by what the caller should do about it."""

from __future__ import annotations


class ControlPlaneError(Exception):
    """Base of this folder's errors. The text is one line that says what is wrong and what to do."""


class Unavailable(ControlPlaneError):
    """No control plane can be reached, or does what was asked for: try again later. Perhaps it was done."""


class LeaseLost(ControlPlaneError):
    """Another agent is this host, and lives. Nothing was changed."""


class Conflict(ControlPlaneError):
    """Somebody else was first: look again, and decide again."""


class Missing(ControlPlaneError):
    """Something that the request names does not exist."""


class Invalid(ControlPlaneError):
    """The request breaks a rule of the model."""


class NotAllowed(ControlPlaneError):
    """What was asked for is well formed, and this host may not do it."""


class Taken(ControlPlaneError):
    """Another host has this key or this endpoint."""


class SessionLost(Unavailable):
    """The session has ended before the answer came."""


BY_KIND: dict[str, type[ControlPlaneError]] = {
    "unavailable": Unavailable,
    "lease": LeaseLost,
    "conflict": Conflict,
    "missing": Missing,
    "invalid": Invalid,
    "refused": NotAllowed,
    "taken": Taken,
}
"""The error for each kind of a `watcher.session.protocol.Failure`."""
