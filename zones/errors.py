"""What can be wrong with a model, sorted by what the caller should do about it."""


class ZonesError(ValueError):
    """Base of this folder's errors.

    ``field`` names the part of the input that is at fault; it is ``""`` where no single part is. ``edit`` is the
    position of the edit that was refused, from 0, where it was one of several; else None.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.edit: int | None = None


class Invalid(ZonesError):
    """A value breaks a rule; the message says which rule and what would be right."""


class Conflict(ZonesError):
    """The value is well formed, but something that exists already stands in its way."""


class Missing(ZonesError):
    """The input names something that does not exist."""
