"""What can be wrong with a snapshot."""


class SnapshotError(Exception):
    """Base of this module's errors. The text says what is wrong."""


class SnapshotUnusable(SnapshotError):
    """A snapshot cannot be read, is not whole, or is not of this source. The process starts without it."""


class SnapshotTooLarge(SnapshotError):
    """What is served is larger than a snapshot may be. The one on disk stays."""
