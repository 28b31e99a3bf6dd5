"""Plots: lines over a logarithmic or a linear axis, as SVG, so that a printed run can be seen at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 48  # the margins; the names of the lines stand on the right
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
STEPS = 5  # of the vertical axis

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of some lines."""

    name: str
    """The name of its file, without the ending."""
    title: str
    """What is shown."""
    across: str
    """What the horizontal axis counts; it is logarithmic."""
    up: str
    """What the vertical axis counts, from 0."""
    lines: Mapping[str, Points]
    """The name of each line, and its points."""
    is_linear: bool = False
    """Whether the horizontal axis is linear instead; then it has steps in place of the values."""

    def write(self, directory: Path) -> Path:
        """Writes it into ``directory``; returns where."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.name}.svg"
        path.write_text(self.svg())
        return path

    def noted(self, directory: Path | None) -> tuple[str, ...]:
        """The note of a table that says where it is, once it is written into ``directory``; none without one."""
        return (f"The plot is {self.write(directory)}.",) if directory else ()

    def svg(self) -> str:
        """The plot."""
        points = [point for line in self.lines.values() for point in line]
        first, last = min(x for x, _ in points), max(x for x, _ in points)
        top = _round_up(max(y for _, y in points))
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

        def place(x: float, y: float) -> tuple[float, float]:
            if last <= first:
                share = 0.5
            elif self.is_linear:
                share = (x - first) / (last - first)
            else:
                share = math.log(x / first) / math.log(last / first)
            return LEFT + width * share, TOP + height * (1 - y / top)

        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
            ' font-size="12" fill="#57606a">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _text(LEFT, 20, self.title, size=14),
            _text(LEFT + width / 2, HEIGHT - 10, self.across, anchor="middle"),
            _text(LEFT - 8, TOP - 8, self.up, anchor="start"),
        ]
        for step in range(STEPS + 1):
            value = top * step / STEPS
            x, y = place(first, value)
            parts.append(f'<path d="M{x:.1f} {y:.1f}h{width}" stroke="#d0d7de"/>')
            parts.append(_text(x - 8, y + 4, f"{value:g}", anchor="end"))
        marks = [first + (last - first) * step / STEPS for step in range(STEPS + 1)] if self.is_linear else None
        for value in marks or sorted({x for x, _ in points}):
            x, y = place(value, 0)
            parts.append(_text(x, y + 18, f"{value:,g}", anchor="middle"))
        for number, (name, line) in enumerate(self.lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            placed = [place(*point) for point in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            if not self.is_linear:  # else there are too many points for a mark at each
                parts += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed)
            parts.append(_text(LEFT + width + 12, TOP + 12 + 18 * number, name, colour=colour))
        return "\n".join([*parts, "</svg>\n"])


def _round_up(value: float) -> float:
    """The next round number from ``value`` on: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= value)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#24292f") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )
