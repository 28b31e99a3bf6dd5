"""The product with a resolver that is wrong on purpose: it answers in the order of arrival, whoever asks how much.

As `python -m interlock`, for the control of `test_dns_flood`.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from interlock.cli import main
from resolver.net.shield import Shield
from resolver.net.turns import SourceRate, Turns


def take_at_once(_turns: Turns, _source: bytes, turn: Callable[[], None]) -> bool:
    turn()
    return True


if __name__ == "__main__":
    with (
        patch.object(SourceRate, "take", lambda *_: True),
        patch.object(Turns, "put", take_at_once),
        patch.object(Turns, "between_steps", lambda _: None),
        patch.object(Shield, "look", lambda *_: None),
    ):
        main()
