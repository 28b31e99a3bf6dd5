"""The same as `counted`, wrong on purpose: whoever writes an environment waits for nobody's turn.

As `python -m interlock`, for the control of `test_commit_fairness`.
"""

from __future__ import annotations

from contextlib import nullcontext
from unittest.mock import patch

from store.turns import Turns
from tests.security.programs.counted import run

if __name__ == "__main__":
    with patch.object(Turns, "taken", lambda *_: nullcontext()):
        run()
