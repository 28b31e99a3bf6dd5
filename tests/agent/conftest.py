"""What the tests of the agent share."""

from tests.agent.inside import space

__all__ = ["space"]
