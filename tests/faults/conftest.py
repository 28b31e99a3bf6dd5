"""What the tests of faults share."""

from tests.faults.hosts import hosts

__all__ = ["hosts"]
