"""Small drawings for the page, as SVG inside of it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from nucliseg_qp.projects.entry import DAB_BINS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["class_bar", "dab_histogram", "thumbnail"]

THUMBNAIL_PX = 320
_QUALITY = 78


def class_bar(counts: Mapping[str, int], colours: Mapping[str, str]) -> Markup:
    """Draw the share of each class as one bar."""
    total, x = sum(counts.values()), 0.0
    parts = []
    for name, number in counts.items():
        width = 160 * number / total if total else 0.0
        parts.append(
            Markup('<rect x="{:.2f}" y="0" width="{:.2f}" height="12" fill="{}">').format(
                x, width, colours.get(name, "#999")
            )
            + Markup("<title>{}: {}</title></rect>").format(name or "unclassified", number)
        )
        x += width
    return _svg(160, 12, parts, "share of classes")


def dab_histogram(
    bins: Mapping[str, list[int]], colours: Mapping[str, str], width: int, height: int
) -> Markup:
    """Draw how many nuclei have which mean DAB density, classes on top of each other."""
    names = [name for name, values in bins.items() if any(values)]
    table = np.array([bins[name] for name in names]).reshape(len(names), len(DAB_BINS) - 1)
    highest = max(1, int(table.sum(axis=0).max(initial=0))) if names else 1
    step, parts = width / (len(DAB_BINS) - 1), []
    floor = np.zeros(table.shape[1])
    for name, values in zip(names, table, strict=True):
        for place in np.flatnonzero(values).tolist():
            top = height * (1 - (floor[place] + values[place]) / highest)
            tall = height * values[place] / highest
            parts.append(
                Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}"/>')
                .format(place * step, top, max(step - 0.5, 0.5), tall, colours.get(name, "#999"))
            )  # fmt: skip
        floor += values
    return _svg(width, height, parts, "mean DAB optical density, 0 to 2")


def thumbnail(path: Path) -> str:
    """Give a picture as a data URI, reduced; empty when there is none."""
    import cv2

    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        return ""
    factor = min(1.0, THUMBNAIL_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _svg(width: int, height: int, parts: list[Markup], title: str) -> Markup:
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        'role="img" aria-label="{t}">'
    ).format(w=width, h=height, t=title)
    return head + Markup("").join(parts) + Markup("</svg>")
