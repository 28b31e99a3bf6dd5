"""How a request can fail in ways that are the API's own, sorted by whose fault it is.

What is wrong with a model is in `zones.errors`, with the store in `store.errors`; `problems` has the table that
turns all of them into answers.
"""


class AdminError(Exception):
    """Base of this folder."""


class Unauthenticated(AdminError):
    """There is no valid token; ``presented`` says whether there was one at all."""

    def __init__(self, message: str, *, presented: bool) -> None:
        super().__init__(message)
        self.presented = presented


class Forbidden(AdminError):
    """The token is valid, but not for this."""


class Malformed(AdminError):
    """The request cannot be read; ``field`` names the part at fault, ``""`` for all of it."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnsupportedMediaType(AdminError):
    """The body is not JSON, or does not say so."""


class PreconditionFailed(AdminError):
    """What ``If-Match`` or ``If-None-Match`` demands is not so."""


class RateLimited(AdminError):
    """Too many requests; ``wait`` is the seconds until the next one is welcome."""

    def __init__(self, message: str, *, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class SlowBody(AdminError):
    """The client did not send its body in time."""


class TimedOut(AdminError):
    """We did not finish in time."""


class BadTokenFile(AdminError):
    """The file of the root token cannot be trusted."""
