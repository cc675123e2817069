"""Corrections as the script inside QuPath writes them, without QuPath."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.palette.rules import hsv_from_rgb
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.folder import Review, write_review

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"Negative": (110, 110, 170), "Positive": (120, 80, 60)}


def nucleus(number: int, change: str, before: str, now: str, **more) -> dict:
    """Give one feature; ``rgb`` becomes its colour measurements, ``by`` tells who confirmed."""
    x, y = 20.0 + 20 * (number % 20), 20.0 + 20 * (number // 20)
    rgb = more.get("rgb", COLOURS.get(now or before, (100, 100, 100)))
    hue, saturation, value = hsv_from_rgb(np.array([rgb]))[0].tolist()
    measured = {
        "NucliSeg: Hue": hue,
        "NucliSeg: Saturation": saturation,
        "NucliSeg: Value": value,
        "Nucleus: DAB OD mean": more.get("dab", 0.1 if now == "Negative" else 0.5),
        "NucliSeg: Class margin": more.get("margin", 0.2),
    }
    corners = [[x - 5, y - 5], [x + 5, y - 5], [x + 5, y + 5], [x - 5, y + 5], [x - 5, y - 5]]
    about = {"objectType": "detection", "change": change, "class_before": before}
    if change == "deleted":
        geometry = {"type": "Point", "coordinates": [x, y]}
    else:
        geometry = {"type": "Polygon", "coordinates": [corners]}
        about |= {"classification": {"name": now, "color": [1, 2, 3]}, "measurements": measured}
    if change == "confirmed":
        about["confirmed_by"] = more.get("by", "lock")
    if change == "added":
        del about["class_before"], about["measurements"]
    return {"type": "Feature", "id": f"id-{number}", "geometry": geometry, "properties": about}


def area(x: float, y: float, side: float) -> dict:
    """Give a reviewed square."""
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature", "id": "area", "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "name": "Reviewed", "change": "reviewed"},
    }  # fmt: skip


def write_sent(path: Path, features: list[dict], **head) -> Path:
    """Write a file of corrections."""
    changes = [one["properties"]["change"] for one in features]
    names = ("reclassified", "redrawn", "confirmed", "added", "deleted")
    told = {
        "format": 2, "image": "a.png", "entry": "1", "uris": [], "width_px": 500,
        "height_px": 500, "mpp": 0.5, "ledger": "0123456789abcdef", "nuclei_of_run": 400,
        "counts": {name: changes.count(name) for name in names},
    } | head  # fmt: skip
    rows = ",\n".join(json.dumps(one) for one in features)
    text = '{"type":"FeatureCollection","nucliseg":' + json.dumps(told) + ',"features":[\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + rows + "\n]}\n", encoding="utf-8")
    return path


def make_review(folder: Path, images: dict[str, list[dict]], who: str = "Anna", **head) -> Review:
    """Write a review of images by name."""
    files = [
        write_sent(folder.with_name(f"{folder.name} {number}.geojson"), features,
                   image=name, entry=str(number), **head)
        for number, (name, features) in enumerate(images.items(), start=1)
    ]  # fmt: skip
    review = Review(who, head.get("collected", "2026-01-01T00:00:00+00:00"), "project",
                    tuple(read_corrections(file) for file in files))  # fmt: skip
    write_review(folder, review, files)
    return review


MIXED = [
    nucleus(1, "reclassified", "Positive", "Negative"),
    nucleus(2, "confirmed", "Positive", "Positive"),
    nucleus(3, "confirmed", "Negative", "Negative", by="area"),
    nucleus(4, "deleted", "Negative", ""),
    nucleus(5, "added", "", "Positive"),
    nucleus(6, "redrawn", "Positive", "Positive"),
]
"""One nucleus of each decision."""
