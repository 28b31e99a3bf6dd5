"""What ends a command: each error is one line for a person, and the exit status that goes with it."""

from __future__ import annotations

EX_CONFIG = 78  # sysexits.h: something is wrong with the configuration, so starting again will not help


class InterlockError(Exception):
    """Base of this folder. Its text is one line that says what is wrong and what to do."""

    exit_status = 1


class BadSetting(InterlockError):
    """A setting, a flag, a variable or the settings file is wrong."""

    exit_status = EX_CONFIG


class StateDirectoryUnusable(InterlockError):
    """The state directory cannot be made, written or locked."""


class EmbeddedStoreFailed(InterlockError):
    """The embedded store did not start, or has ended though nobody asked it to."""


class PartFailed(InterlockError):
    """A part of the process could not start; the reason is one that the operator can mend."""


class ApiUnreachable(InterlockError):
    """Nothing that speaks the admin API answered."""


class ApiRefused(InterlockError):
    """The admin API said no. ``status`` is the HTTP status code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AgentSilent(InterlockError):
    """No agent answered on this host."""


class AgentRefused(InterlockError):
    """The agent of this host said no."""


class CannotWrite(InterlockError):
    """A file that a command was to write cannot be written, or is there already."""


class Unfinished(InterlockError):
    """A command has done one thing and could not do the next; the message says how to have that too."""


class ServerSilent(InterlockError):
    """A DNS server that was asked gave no usable answer."""
