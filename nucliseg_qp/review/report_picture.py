"""The review report at a glance, as one SVG: no library, no network, any browser opens it."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.review.report import AgainstEngine, MarginBin, ReviewReport

__all__ = ["report_svg"]

INK, PAPER, EDGE, GRID = "#1b2333", "#ffffff", "#8090b8", "#dfe4f0"
HALF = 0.5
"""Cells that hold more of a row are dark."""
DEEP_RGB = (38, 84, 160)
"""Of a cell that holds a whole row."""
LINES = {"class accuracy": "#2654a0", "precision": "#0f7b6c", "recall": "#b4541a"}
PANEL, SIDE, TOP = 320, 216, 64
"""Width of a part of the picture, of the square in it, and where that begins, in px."""
LEFT = 74
HIGHEST = (0.1, 0.2, 0.5, 1.0)
"""Ends of an axis whose fifths are round numbers."""
LETTER = 6.2
"""Width of a letter, in px."""
_DATE = len("2026-11-24")
_LABELS = 4
_LEGEND = (0, 92, 158)


def report_svg(found: ReviewReport) -> str:
    """Draw agreement with the engine over time, the confusion, and what the margin tells.

    Parameters
    ----------
    found : ReviewReport
        From `report`.
    """
    width, height = 3 * PANEL, TOP + SIDE + 70
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        'font-family="sans-serif" font-size="11" fill="{ink}" role="img" '
        'aria-label="How people and engine agree">'
    ).format(w=width, h=height, ink=INK)
    parts = [
        _box(0, 0, width, height, PAPER),
        *_over_time(found.engine, 0),
        *_confusion(found.engine, PANEL),
        *_margins(found.margins, 2 * PANEL),
    ]
    return str(head + Markup("\n").join(parts) + Markup("</svg>\n"))


def _over_time(rows: Sequence[AgainstEngine], left: int) -> list[Markup]:
    shares = {
        "class accuracy": [one.classes.accuracy for one in rows],
        "precision": [one.precision for one in rows],
        "recall": [one.recall for one in rows],
    }
    known = [share for line in shares.values() for share in line if isfinite(share)]
    lowest = min(0.5, int(10 * min(known, default=1.0)) / 10)
    parts = _frame(left, "Engine against person, by time", lowest, 1.0)
    if not rows:
        return [*parts, _text(left + LEFT + 10, TOP + 20, "no reviews")]
    x = _places(len(rows), left)
    for (name, line), start in zip(shares.items(), _LEGEND, strict=True):
        y = [TOP + SIDE * (1 - (share - lowest) / (1 - lowest)) for share in line]
        said = [f"{one.reviewer}, {one.collected[:_DATE]}: {name}" for one in rows]
        points = [point for point in zip(x, y, said, strict=True) if isfinite(point[1])]
        parts += _line(points, LINES[name])
        parts.append(_text(left + LEFT + start, TOP - 10, name, colour=LINES[name]))
    step, room = -(-len(rows) // _LABELS), SIDE / min(len(rows), _LABELS)
    for place, one in list(zip(x, rows, strict=True))[::step]:
        parts.append(_text(place, TOP + SIDE + 16, _fitting(one.reviewer, room), "middle"))
        parts.append(_text(place, TOP + SIDE + 30, one.collected[:_DATE], "middle", size=9))
    return parts


def _confusion(rows: Sequence[AgainstEngine], left: int) -> list[Markup]:
    names, table = _summed(rows)
    parts = [_title(left, "Classes: engine's row, person's column")]
    if not names:
        return [*parts, _text(left + LEFT, TOP + 20, "no class was looked at")]
    cell = SIDE / len(names)
    is_narrow = max(map(len, names)) * LETTER > cell
    for row, name in enumerate(names):
        middle = (row + 0.5) * cell
        # The last part of a class tells it from the others.
        shown = _fitting(name[::-1], LEFT)[::-1]
        parts.append(_text(left + LEFT - 6, TOP + middle + 4, shown, "end"))
        parts.append(_column_name(left + LEFT + middle, shown, is_narrow))
        for column, number in enumerate(table[row].tolist()):
            share = number / max(1, int(table[row].sum()))
            x, y = left + LEFT + column * cell, TOP + row * cell
            parts.append(_box(x, y, cell, cell, _shade(share), GRID))
            colour = PAPER if share > HALF else INK
            parts.append(_text(x + cell / 2, y + cell / 2 + 4, f"{number:,}", "middle", colour))
    return parts


def _column_name(x: float, name: str, is_narrow: bool) -> Markup:
    if not is_narrow:
        return _text(x, TOP + SIDE + 16, name, "middle")
    turn = Markup('<g transform="rotate(-40 {:.1f} {})">{}</g>')
    return turn.format(x, TOP + SIDE + 12, _text(x + 4, TOP + SIDE + 14, name, "end"))


def _summed(rows: Sequence[AgainstEngine]) -> tuple[list[str], NDArray[np.int64]]:
    """Add the confusions of all reviews; their classes may differ."""
    names = sorted({name for one in rows for name in one.classes.names})
    table = np.zeros((len(names), len(names)), np.int64)
    for one in rows:
        places = [names.index(name) for name in one.classes.names]
        if places:
            table[np.ix_(places, places)] += np.array(one.classes.confusion)
    return names, table


def _margins(bins: Sequence[MarginBin], left: int) -> list[Markup]:
    shares = [one.changed / one.nuclei for one in bins]
    highest = next(top for top in HIGHEST if top >= max(shares, default=0.0))
    parts = _frame(left, "Classes changed, by the engine's margin", 0.0, highest)
    if not bins:
        return [*parts, _text(left + LEFT + 10, TOP + 20, "no margins in these reviews")]
    wide = SIDE / len(bins)
    for number, (one, share) in enumerate(zip(bins, shares, strict=True)):
        tall, x = SIDE * share / highest, left + LEFT + number * wide
        title = (
            f"{one.changed} of {one.nuclei} nuclei, margin {one.lowest:.3g} to {one.highest:.3g}"
        )
        bar = _box(x + 2, TOP + SIDE - tall, wide - 4, tall, LINES["class accuracy"])
        parts.append(Markup("<g><title>{}</title>{}</g>").format(title, bar))
        parts.append(_text(x + wide / 2, TOP + SIDE + 14, f"{one.highest:.2g}", "middle", size=9))
    total = f"{sum(one.nuclei for one in bins):,} nuclei"
    parts.append(_text(left + LEFT, TOP - 10, f"{total}, smallest margins left", size=10))
    parts.append(
        _text(left + LEFT, TOP + SIDE + 30, "up to this margin, equally many each", size=9)
    )
    return parts


def _frame(left: int, title: str, lowest: float, highest: float) -> list[Markup]:
    parts = [_title(left, title)]
    for step in range(6):
        share = lowest + (highest - lowest) * step / 5
        y = TOP + SIDE * (1 - step / 5)
        parts.append(_box(left + LEFT, y, SIDE, 0.6, GRID))
        parts.append(_text(left + LEFT - 6, y + 4, f"{100 * share:.3g} %", "end"))
    return parts


def _places(count: int, left: int) -> list[float]:
    return [left + LEFT + SIDE * (number + 0.5) / count for number in range(count)]


def _line(points: Sequence[tuple[float, float, str]], colour: str) -> Iterable[Markup]:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    line = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.5"/>')
    dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="{}"><title>{}</title></circle>')
    yield line.format(way, colour)
    for x, y, said in points:
        yield dot.format(x, y, colour, _printable(said))


def _shade(share: float) -> str:
    mixed = (round(255 + (deep - 255) * share) for deep in DEEP_RGB)
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _title(left: int, text: str) -> Markup:
    return Markup('<text x="{}" y="24" font-size="13" font-weight="bold">{}</text>').format(
        left + 16, text
    )


def _box(x: float, y: float, width: float, height: float, fill: str, edge: str = "none") -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" stroke="{}"/>'
    ).format(x, y, width, height, fill, edge)


def _text(
    x: float, y: float, text: str, anchor: str = "start", colour: str = INK, size: int = 11
) -> Markup:
    return Markup(
        '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-size="{}">{}</text>'
    ).format(x, y, anchor, colour, size, _printable(text))


def _fitting(text: str, room_px: float) -> str:
    letters = max(3, int(room_px / LETTER))
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _printable(text: str) -> str:
    """Give text without control characters, which XML does not take."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
