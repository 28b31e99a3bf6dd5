"""What can be wrong with a model, sorted by what the caller should do about it."""


class ZonesError(ValueError):
    """Base of this folder. ``field`` names the part of the input that is at fault, ``""`` for all of it."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Invalid(ZonesError):
    """A value breaks a rule; the message says which rule and what would be right."""


class Conflict(ZonesError):
    """The value is well formed, but something that exists already stands in its way."""


class Missing(ZonesError):
    """What was named does not exist."""
