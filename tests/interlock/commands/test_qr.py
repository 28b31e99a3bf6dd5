"""QR codes as they are drawn: compared with segno's matrix, and read by another program."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import segno

from interlock.commands.qr import draw

PIXELS = {" ": (1, 1), "▄": (1, 0), "▀": (0, 1), "█": (0, 0)}  # upper and lower half; 1 is dark
SCALE = 4  # pixels a module, as many as a reader needs to be sure


def dots(drawn: str) -> list[list[int]]:
    """The modules of a code as it was drawn, row by row, the quiet zone around it included; 1 is dark."""
    rows: list[list[int]] = []
    for line in drawn.splitlines():
        blocks = re.sub("\x1b\\[[0-9;]*m", "", line)
        rows += [[PIXELS[block][half] for block in blocks] for half in (0, 1)]
    return rows


def read(drawn: str) -> str:
    """What a phone would read of a code that was drawn."""
    program = shutil.which("zbarimg")
    if program is None:
        pytest.skip("no zbarimg on this machine, to read QR codes with: install the package zbar-tools")
    rows = [[pixel for dot in row for pixel in [dot] * SCALE] for row in dots(drawn) for _ in range(SCALE)]
    image = f"P1 {len(rows[0])} {len(rows)}\n" + "\n".join(" ".join(map(str, row)) for row in rows)
    found = subprocess.run(
        [program, "--quiet", "--raw", "--nodbus", "pbm:-"], input=image.encode(), capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr.decode()
    return found.stdout.decode().removesuffix("\n")


TEXTS = ["x", "[Interface]\nPrivateKey = a+/=\n", "y" * 425]


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_the_drawing_is_segnos_matrix(text: str) -> None:
    rows = dots(draw(text))
    code = [list(row) for row in segno.make_qr(text, error="l").matrix_iter(border=4)]
    assert rows[: len(code)] == code
    assert len(rows[0]) <= 80
    for line in draw(text).splitlines():
        assert re.fullmatch("\x1b\\[97;40m[ ▄▀█]+\x1b\\[0m", line)


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_another_program_reads_the_text(text: str) -> None:
    assert read(draw(text)) == text
