"""What can go wrong with the store, sorted by what the caller should do about it."""


class StoreError(Exception):
    """Base of this folder."""


class Unavailable(StoreError):
    """The store cannot be reached or does not answer as it should: try again later."""


class RevisionConflict(StoreError):
    """Somebody else committed first: read the environment again and decide anew."""

    def __init__(self, environment: str, expected: int, actual: int) -> None:
        super().__init__(f"environment {environment!r} is at revision {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class NetworkTaken(StoreError):
    """Another environment has, or once had, this network: draw another."""


class HostChanged(StoreError):
    """Somebody else has changed the host first: read it again and decide anew."""


class KeyTaken(StoreError):
    """Another host has this public key, be it as the next one: make a key pair of one's own."""


class EndpointTaken(StoreError):
    """Another host is reached at this endpoint: forget that host, if it is gone, or use another address or port."""


class Corrupt(StoreError):
    """What the store holds breaks its own rules; the message names the key."""
