"""The errors that end a command: each is one line for a person, and has an exit status."""

from __future__ import annotations

EX_CONFIG = 78  # sysexits.h: the configuration is wrong, so starting again will not help


class InterlockError(Exception):
    """Base of the errors of this package. Its text is one line that says what is wrong and what to do."""

    exit_status = 1


class BadSetting(InterlockError):
    """A setting, a flag, a variable or the settings file is wrong."""

    exit_status = EX_CONFIG


class StateDirectoryUnusable(InterlockError):
    """The state directory cannot be made, written or locked."""


class EmbeddedStoreFailed(InterlockError):
    """The embedded store did not start, or has ended by itself."""


class PartFailed(InterlockError):
    """A part of the process could not start, for a reason that the operator can remove."""


class ApiUnreachable(InterlockError):
    """The admin API did not answer, or what answered is not the admin API."""


class ApiRefused(InterlockError):
    """The admin API refused a request.

    ``status`` is the HTTP status code, ``kind`` the end of the problem's type (RFC 9457), as ``conflict``. ``field`` is
    the part of the request that is at fault. Both are empty where the API names none.
    """

    def __init__(self, message: str, status: int, kind: str = "", field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.field = field


class AgentSilent(InterlockError):
    """No agent answered on this host."""


class AgentRefused(InterlockError):
    """The agent of this host refused a request."""


class CannotWrite(InterlockError):
    """A file that a command was to write cannot be written, or exists already."""


class Unfinished(InterlockError):
    """A command has done its first step and failed in the second; the message says how to make up for that."""


class TookTooLong(InterlockError):
    """What a command waits for has not come in time; what it did before stays done."""


class BadManifest(InterlockError):
    """A document of environments breaks a rule; the message names its line."""

    exit_status = EX_CONFIG


class ServerSilent(InterlockError):
    """A DNS server gave no usable answer, or a resolver has no query log."""


class FilterRefused(InterlockError):
    """What a command asked to see cannot be in the query log: an environment or an rcode that does not exist."""

    exit_status = EX_CONFIG  # unlike 1, for which no resolver was there to ask


class NoSnapshot(InterlockError):
    """There is no snapshot, one that cannot be used, or none that has what was asked for."""


class StoreUnreachable(InterlockError):
    """The store did not answer, or refused the command."""


class BackupUnusable(InterlockError):
    """A file is no backup, or a damaged one."""


class StoreDamaged(InterlockError):
    """Something that the store holds is damaged, and a person must decide what is to count."""


class SandboxFailed(InterlockError):
    """A host of the sandbox did not start, or a command on it has failed."""


class NoSandbox(InterlockError):
    """No hosts of a sandbox can be made on this machine; the message says what it lacks."""
