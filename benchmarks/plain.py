"""The same six steps written plainly, as the yardstick for what the engine saves.

One batch of 256 x 256 inputs after the other goes through an eager float32 U-Net of 5.1 GFLOP, one
input for each tile of 1024 px; then, tile by tile: stronger colours, Otsu's threshold of the tile,
opening, dilation, discs as seeds, cv2.watershed at full resolution; for every nucleus a mask as
large as the tile, under which the mean of the tile's HSV is taken, which is opened, and whose rim
is drawn into the tile; at last JSON. These are the steps and constants of the program from which
this project grew (github.com/tamgyen/nucliseg), without its limit of 252 nuclei in a tile.

The network has random weights, which costs the same as trained ones: the keypoints are the true
ones, so the panoptic quality is the best these masks can have.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

TILE_PX = 1024
INPUT_PX = 256
BATCH = 16
SEED_RADIUS_PX = 12
DILATIONS = 10
SATURATION, BRIGHTNESS = 2.4, 1.1
COLOURS = np.array([[8, 160, 110], [10, 190, 70], [13, 152, 149], [15, 87, 125], [114, 60, 198]])
BLUE = 4


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


def adjusted(image: np.ndarray) -> np.ndarray:
    """Give the tile with stronger colours, RGB."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32) / 255
    stronger = np.clip(hsv * (1, SATURATION, BRIGHTNESS), 0, 1)
    return cv2.cvtColor((stronger * 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def watershed(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Give labels 1 to n, 0 elsewhere, int32 (1024, 1024)."""
    strong = adjusted(image)
    _, bright = cv2.threshold(strong[..., 0], 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    square = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(1 - bright, cv2.MORPH_OPEN, square)
    wide = cv2.dilate(opened, square, iterations=DILATIONS)
    markers = np.where(wide == 0, 1, 0).astype(np.int32)
    for number, (x, y) in enumerate(points, start=2):
        cv2.circle(markers, (int(x), int(y)), SEED_RADIUS_PX, number, -1)
    return np.maximum(cv2.watershed(strong, markers) - 1, 0)


def feature(image: np.ndarray, mask: np.ndarray, left: int, top: int) -> dict | None:
    """Give one nucleus as GeoJSON, its class by the nearest of five colours; draw its outline."""
    mask = mask.astype(np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    mean = np.array(cv2.mean(hsv, mask=mask)[:3])
    kind = int(np.argmin(np.linalg.norm(COLOURS - mean, axis=1)))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=2)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    image[(mask - inner) > 0] = (255, 0, 0) if kind < BLUE else (0, 0, 255)
    if not contours:
        return None
    ring = (max(contours, key=len)[:, 0] + (left, top)).tolist()
    name = "Positive" if kind < BLUE else "Negative"
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {"objectType": "detection", "classification": {"name": name}},
    }
