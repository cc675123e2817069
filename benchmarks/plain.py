"""The same six steps written plainly, as the yardstick for what the engine saves.

One batch of 256 x 256 inputs after the other goes through an eager float32 U-Net of 5.1 GFLOP, one
input for each tile of 1024 px; then, tile by tile: Otsu's threshold of the tile, opening, dilation,
discs as seeds, cv2.watershed at full resolution, and for every nucleus a mask as large as the tile,
from which its mean colour and its outline are taken; at last JSON.

The network has random weights, which costs the same as trained ones: the keypoints are the true
ones, so the panoptic quality is the best these masks can have.
"""

from __future__ import annotations

import colorsys
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

TILE_PX = 1024
INPUT_PX = 256
BATCH = 16
SEED_RADIUS_PX = 8


@dataclass
class PlainResult:
    """Labels of the tiles side by side, CPU ms by stage, features written."""

    labels: np.ndarray
    cpu_ms: dict[str, float] = field(default_factory=dict)
    nuclei: int = 0

    def add(self, stage: str, began: float) -> None:
        spent = (time.process_time() - began) * 1e3
        self.cpu_ms[stage] = self.cpu_ms.get(stage, 0.0) + spent


def analyse(slide, points: np.ndarray, net, out: Path, tiles: int) -> PlainResult:
    """Analyse a square of ``tiles`` x ``tiles`` tiles in the corner of a slide."""
    result = PlainResult(np.zeros((tiles * TILE_PX, tiles * TILE_PX), np.int64))
    places = [(x, y) for y in range(tiles) for x in range(tiles)]
    features = []
    for start in range(0, len(places), BATCH):
        began = time.process_time()
        images = [read(slide, *place) for place in places[start : start + BATCH]]
        result.add("reading", began)
        began = time.process_time()
        network(net, images)
        result.add("network", began)
        for (x, y), image in zip(places[start : start + BATCH], images, strict=True):
            features += one_tile(result, image, points, x * TILE_PX, y * TILE_PX)
    began = time.process_time()
    out.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    result.add("GeoJSON", began)
    result.nuclei = len(features)
    return result


def read(slide, x: int, y: int) -> np.ndarray:
    return slide.read_region((x * TILE_PX, y * TILE_PX), 0, (TILE_PX, TILE_PX))


def network(net, images: list[np.ndarray]) -> None:
    import torch

    small = [cv2.resize(image, (INPUT_PX, INPUT_PX)) for image in images]
    batch = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        net(batch)


def one_tile(result: PlainResult, image: np.ndarray, points: np.ndarray, left: int, top: int):
    began = time.process_time()
    inside = ((points >= (left, top)) & (points < (left + TILE_PX, top + TILE_PX))).all(axis=1)
    labels = watershed(image, points[inside] - (left, top))
    result.add("watershed", began)
    began = time.process_time()
    number = int(result.labels.max())
    part = result.labels[top : top + TILE_PX, left : left + TILE_PX]
    part[labels > 0] = labels[labels > 0] + number
    result.add("not counted", began)
    began = time.process_time()
    features = [feature(image, labels == k, left, top) for k in range(1, int(inside.sum()) + 1)]
    result.add("a mask as large as the tile for each nucleus", began)
    return [one for one in features if one is not None]


def watershed(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Give labels 1 to n, 0 elsewhere, int32 (1024, 1024)."""
    red = cv2.GaussianBlur(image[..., 0], (5, 5), 0)
    _, dark = cv2.threshold(red, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, disc)
    wide = cv2.dilate(opened, disc, iterations=3)
    markers = np.where(wide == 0, 1, 0).astype(np.int32)
    for number, (x, y) in enumerate(points, start=2):
        cv2.circle(markers, (int(x), int(y)), SEED_RADIUS_PX, number, -1)
    return np.maximum(cv2.watershed(np.ascontiguousarray(image), markers) - 1, 0)


def feature(image: np.ndarray, mask: np.ndarray, left: int, top: int) -> dict | None:
    """Give one nucleus as GeoJSON, its class by the hue of its mean colour."""
    drawn = mask.astype(np.uint8)
    contours, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    mean = image[mask].mean(axis=0) / 255
    hue = colorsys.rgb_to_hsv(*mean)[0]
    name = "Positive" if hue < 0.2 or hue > 0.9 else "Negative"
    ring = (max(contours, key=len)[:, 0] + (left, top)).tolist()
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {"objectType": "detection", "classification": {"name": name}},
    }
