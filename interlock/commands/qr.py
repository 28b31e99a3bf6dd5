"""QR codes for a terminal: the adapter around segno."""

from __future__ import annotations

import io

import segno

# White on black, whatever colours the terminal has: not every reader recognizes a code whose light and dark modules are
# exchanged.
_COLOURS, _COLOURS_END = "\x1b[97;40m", "\x1b[0m"


def draw(text: str) -> str:
    """``text`` as a QR code in lines of half blocks; 425 octets of it fit a terminal of 80 columns."""
    drawn = io.StringIO()
    segno.make_qr(text, error="l").terminal(drawn, compact=True)
    return "".join(f"{_COLOURS}{line}{_COLOURS_END}\n" for line in drawn.getvalue().splitlines())
