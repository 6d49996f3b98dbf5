"""Plots as SVG files that read well on a light and on a dark page."""

from __future__ import annotations

import html
import math
import pathlib

#: Colours that are told apart on white and on black, and by people who see few colours.
COLOURS = ("#0f7b6c", "#d1741f", "#6e5bd0", "#c2417c", "#2f81c9", "#8a8f98")
STYLE = """
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}
.small{font-size:11px}.grid{stroke:#8c959f;stroke-opacity:.35}.axis{stroke:#8c959f}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}}
"""


class Canvas:
    """Elements of a picture, in pixels from the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, anchor: str = "start", small: bool = False) -> None:
        """A line of text; ``anchor`` is start, middle or end."""
        kind = ' class="small"' if small else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{html.escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line of a class of the style."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def dot(self, x: float, y: float, colour: str, hollow: bool = False, hint: str = "") -> None:
        """A point; a hollow one is something that did not happen."""
        fill = f'fill="none" stroke="{colour}" stroke-width="1.6"' if hollow else f'fill="{colour}"'
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {fill}><title>{html.escape(hint)}</title></circle>'
        )

    def save(self, path: pathlib.Path) -> None:
        """Writes the file."""
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{html.escape(self.title)}</title>'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([head, f"<style>{STYLE}</style>", *self.parts, "</svg>"]) + "\n")


def legend(canvas: Canvas, names: list[str], x: float, y: float, width: float) -> None:
    """Names with their colours, in as many lines as they need."""
    at = x
    for name, colour in zip(names, COLOURS):
        length = 30 + 7.2 * len(name)
        if at > x and at + length > x + width:
            at, y = x, y + 18
        canvas.dot(at + 5, y - 4, colour)
        canvas.text(at + 14, y, name)
        at += length


def delays(
    path: pathlib.Path, title: str, names: list[str], rows: list[tuple[str, list[float]]], least: float, most: float
) -> None:
    """One line per change, one dot per detector at its median delay; hollow, on the right edge, for a missed change."""
    left, right, top, step = 150, 100, 62, 20
    height = top + step * len(rows) + 44
    canvas = Canvas(760, height, title)
    span = canvas.width - left - right

    def x(value: float) -> float:
        return left + span * math.log(value / least) / math.log(most / least)

    legend(canvas, names, 8, 18, canvas.width - 16)
    bottom = top + step * len(rows) - 6
    tick = least
    while tick <= most:
        for value in (tick, 3 * tick):
            if value <= most:
                canvas.line(x(value), top - 12, x(value), bottom, "grid")
                canvas.text(x(value), bottom + 16, f"{value:,.0f}", "middle", small=True)
        tick *= 10
    canvas.text(left + span / 2, bottom + 34, "rows from the change to the alarm, median", "middle", small=True)
    edge = canvas.width - 40
    canvas.text(edge, bottom + 16, "missed", "middle", small=True)
    for i, (label, values) in enumerate(rows):
        y = top + step * i
        canvas.text(left - 10, y + 4, label, "end")
        canvas.line(left, y, canvas.width - 8, y, "grid")
        for j, (value, colour) in enumerate(zip(values, COLOURS)):
            nudge = 1.6 * (j - (len(values) - 1) / 2)
            if math.isfinite(value):
                canvas.dot(x(min(max(value, least), most)), y + nudge, colour, hint=f"{names[j]}: {value:,.0f}")
            elif not math.isnan(value):
                canvas.dot(edge + 3 * nudge, y, colour, hollow=True, hint=f"{names[j]}: missed")
    canvas.save(path)


def tradeoff(path: pathlib.Path, title: str, points: list[tuple[str, float, float, int, bool]]) -> None:
    """False alarms in 10,000 rows against the share of changes found.

    ``points``: name, false alarms, share, colour, and whether it is drawn hollow.
    """
    left, right, top, bottom = 56, 24, 28, 330
    canvas = Canvas(760, 380, title)
    # Zero has a place of its own on the logarithmic axis.
    least, most, zero = 0.01, 100.0, left + 40
    start = zero + 46

    def x(rate: float) -> float:
        if rate <= 0:
            return zero
        shown = min(max(rate, least), most)
        return start + (canvas.width - right - start) * math.log(shown / least) / math.log(most / least)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.line(left, y(share), canvas.width - right, y(share), "grid")
        canvas.text(left - 8, y(share) + 4, f"{share:.0%}", "end", small=True)
    canvas.text(zero, bottom + 18, "none", "middle", small=True)
    for power in range(-2, 3):
        canvas.line(x(10.0**power), top, x(10.0**power), bottom, "grid")
        canvas.text(x(10.0**power), bottom + 18, f"{10.0**power:g}", "middle", small=True)
    canvas.text(
        (left + canvas.width) / 2, bottom + 38, "false alarms in 10,000 clean rows of a column", "middle", small=True
    )
    canvas.text(8, 16, "changes found", small=True)
    # What a label must not cover: left, right and middle height.
    taken = [(x(rate) - 6, x(rate) + 6, y(share)) for _, rate, share, _, _ in points]
    for name, rate, share, colour, hollow in points:
        px, py = x(rate), y(share)
        canvas.dot(px, py, COLOURS[colour % len(COLOURS)], hollow, f"{name}: {rate:.2f} in 10,000, {share:.0%} found")
        begin, width = px + 9, 6.3 * len(name)
        middle = py
        while any(abs(middle - other) < 12 and begin < high and low < begin + width for low, high, other in taken):
            middle += 3
        taken.append((begin, begin + width, middle))
        canvas.text(begin, middle + 4, name, small=True)
    canvas.save(path)
