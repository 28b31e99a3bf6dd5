"""QR codes for a terminal: the wall around segno."""

from __future__ import annotations

import io

import segno

# Bright on black, whatever the terminal's own colours are: not every reader takes a code for one whose light and dark
# are exchanged.
_COLOURS, _COLOURS_END = "\x1b[97;40m", "\x1b[0m"


def draw(text: str) -> str:
    """``text`` as a QR code in lines of half blocks; 425 octets of it fit a terminal of 80 columns."""
    drawn = io.StringIO()
    segno.make_qr(text, error="l").terminal(drawn, compact=True)
    return "".join(f"{_COLOURS}{line}{_COLOURS_END}\n" for line in drawn.getvalue().splitlines())
