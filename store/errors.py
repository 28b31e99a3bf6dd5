"""What can go wrong with the store, sorted by what the caller should do about it."""


class StoreError(Exception):
    """Base of this folder's errors."""


class Unavailable(StoreError):
    """The store cannot be reached, or does not answer as it should: try again later."""


class Refused(Unavailable):
    """The store has answered, and refuses the command: a key of a wrong type, no memory, a right that is missing."""


class WrongKey(Refused):
    """A key of the store is not what it must be, so nothing that needs it can be done. The message names the key."""


class Unreplicated(Unavailable):
    """The write was made, but fewer replicas than were asked for have confirmed it: a failover may lose it."""


class TooManyWaiting(Unavailable):
    """More wait than may wait: send it again later."""


class BadBackup(StoreError):
    """A file is no backup, or a damaged one; or no backup could be made of the store."""


class NotEmpty(StoreError):
    """Something is in the store that a backup would be mixed with."""


class RevisionConflict(StoreError):
    """Another writer has committed first: read the environment again and decide again.

    ``expected`` is the revision that the commit expected, ``actual`` the newest one.
    """

    def __init__(self, environment: str, expected: int, actual: int) -> None:
        super().__init__(f"environment {environment!r} is at revision {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class NetworkTaken(StoreError):
    """Another environment has this network, or had it before it was deleted: draw another."""


class HostChanged(StoreError):
    """Another client has changed the host first: read it again and decide again."""


class LeaseNotHeld(StoreError):
    """The agent that asks does not hold the lease of its host: another agent does, or it has ended. Nothing changed.

    ``host`` is that host.
    """

    def __init__(self, message: str, host: str = "") -> None:
        super().__init__(message)
        self.host = host


class NotInvited(StoreError):
    """The token does not enrol the host: it was used, replaced, or its time is over. Make another one."""


class CredentialChanged(StoreError):
    """The credential of the host is not the one that was shown any more, or somebody else has changed it first."""


class KeyTaken(StoreError):
    """Another host has this public key, as its current or its next one: make a new key pair."""


class EndpointTaken(StoreError):
    """Another host has this endpoint: forget that host if it is gone, or use another address or port."""


class Corrupt(StoreError):
    """A value in the store breaks the rules of its type; the message names its key."""


class NetworkLost(Corrupt):
    """The network in which an environment is belongs to another one, by the store's list of owners: one is wrong."""
