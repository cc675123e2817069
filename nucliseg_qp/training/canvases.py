"""Canvases to cut training crops from: real and synthetic fields at the network's resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucliseg_qp.training.clutter import with_red_cells, with_smudges
from nucliseg_qp.training.data import LabelledImage, resized
from nucliseg_qp.training.fluorescence import fluorescence_to_hdab, recolour_haematoxylin
from nucliseg_qp.training.looks import random_look
from nucliseg_qp.training.synthetic import Field, draw_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "Canvas",
    "CanvasBank",
    "CanvasSource",
    "FluorescenceSource",
    "RecolouredSource",
    "SyntheticSource",
    "TileSource",
    "canvas_of",
]

_BORDER_STRIP_UM = 2.5
_TYPICAL_NUCLEUS_UM = 8.5
_SMALLEST_VISIBLE = 0.3
_RED_CELL_SHARE = 0.3


@dataclass(frozen=True)
class Canvas:
    """A square field, its nuclei, and where its annotation can be trusted.

    Attributes
    ----------
    rgbw : NDArray[np.uint8]
        (side, side, 4): red, green, blue and a weight, 255 where the annotation counts.
    points : NDArray[np.float32]
        (k, 2): x, y in pixels; some may lie outside.
    labels : NDArray[np.int32] or None
        (side, side), 0 background, where there are masks.
    """

    rgbw: NDArray[np.uint8]
    points: NDArray[np.float32]
    labels: NDArray[np.int32] | None = None


class CanvasSource(Protocol):
    """Something that draws a new canvas whenever asked."""

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw a square canvas of this side at this resolution."""


@dataclass(frozen=True)
class TileSource:
    """Annotated images as they are, at varied zoom.

    Parameters
    ----------
    items
        The images.
    width_um
        Width in um of every image that does not know its own pixel size; None where unknown, then
        the median nucleus is taken to be `_TYPICAL_NUCLEUS_UM` wide, give or take.
    """

    items: Sequence[LabelledImage]
    width_um: float | None = None

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw one image at a zoom near the true one."""
        item = self.items[int(rng.integers(len(self.items)))]
        if item.mpp is not None:
            item_mpp = item.mpp
        elif self.width_um is None:
            item_mpp = _guess_mpp(item.labels, rng)
        else:
            item_mpp = self.width_um / item.image.shape[1]
        return canvas_of(item, item_mpp / mpp * _zoom(rng), side_px, _BORDER_STRIP_UM / mpp, rng)


@dataclass(frozen=True)
class RecolouredSource:
    """Haematoxylin tissue with masks, as H-DAB with some nuclei positive."""

    items: Sequence[LabelledImage]

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw one image in new stains."""
        item = self.items[int(rng.integers(len(self.items)))]
        field = recolour_haematoxylin(item.image, _labels(item), rng, random_look(rng))
        return _from_field(field, _guess_mpp(field.labels, rng), side_px, mpp, rng)


@dataclass(frozen=True)
class FluorescenceSource:
    """Fluorescence images with masks, as H-DAB."""

    items: Sequence[LabelledImage]

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw one image as absorbing stain."""
        item = self.items[int(rng.integers(len(self.items)))]
        intensity = item.image.max(axis=2)
        field = fluorescence_to_hdab(intensity, _labels(item), rng, random_look(rng))
        return _from_field(field, _guess_mpp(field.labels, rng), side_px, mpp, rng)


@dataclass(frozen=True)
class SyntheticSource:
    """Fields painted from nothing."""

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw a new field; nuclei that others hide almost fully do not count."""
        zoomed_mpp = mpp / _zoom(rng)
        field = draw_field(rng, (side_px, side_px), zoomed_mpp, random_look(rng))
        weight = np.full((side_px, side_px, 1), 255, np.uint8)
        hidden = _hidden(field)
        numbers = np.flatnonzero(hidden) + 1
        weight[np.isin(field.labels, numbers)] = 0
        rgbw = np.concatenate([field.image, weight], axis=2)
        return Canvas(rgbw, field.points[~hidden].astype(np.float32), field.labels)


class CanvasBank:
    """Canvases of several sources, renewed one by one while training goes on.

    Parameters
    ----------
    sources
        Source and its share of the crops, by name.
    side_px, mpp
        Of the canvases.
    capacity
        Most canvases kept per source; then the oldest makes room.
    seed
        Of all choices.
    smudges
        Share of the canvases that get specks and pale blurs.
    """

    def __init__(
        self,
        sources: dict[str, tuple[CanvasSource, float]],
        side_px: int,
        mpp: float,
        capacity: int,
        seed: int,
        smudges: float = 0.0,
    ) -> None:
        self._sources = [source for source, _ in sources.values()]
        shares = np.array([share for _, share in sources.values()], float)
        self._shares = shares / shares.sum()
        self._side_px, self._mpp, self._capacity = side_px, mpp, capacity
        self._smudges = smudges
        self._rng = np.random.default_rng(seed)
        self._kept: list[list[Canvas]] = [[] for _ in self._sources]
        self._drawn = [0] * len(self._sources)

    def reseed(self, seed: int) -> None:
        """Make all choices from here on with another seed."""
        self._rng = np.random.default_rng(seed)

    def renew(self) -> None:
        """Draw one canvas of a source chosen by share."""
        self._renew(int(self._rng.choice(len(self._sources), p=self._shares)))

    def fill(self, count: int) -> None:
        """Draw `count` canvases of every source."""
        for _ in range(count):
            for index in range(len(self._sources)):
                self._renew(index)

    def sample(self, count: int) -> list[Canvas]:
        """Choose canvases, sources by their share; call `fill` first."""
        chosen = self._rng.choice(len(self._sources), size=count, p=self._shares)
        return [self._kept[i][int(self._rng.integers(len(self._kept[i])))] for i in chosen]

    def _renew(self, index: int) -> None:
        canvas = self._sources[index].draw(self._rng, self._side_px, self._mpp)
        if self._rng.random() < _RED_CELL_SHARE:
            canvas = with_red_cells(canvas, self._rng, self._mpp)
        if self._rng.random() < self._smudges:
            canvas = with_smudges(canvas, self._rng, self._mpp)
        kept = self._kept[index]
        if len(kept) < self._capacity:
            kept.append(canvas)
        else:
            kept[self._drawn[index] % self._capacity] = canvas
        self._drawn[index] += 1


def canvas_of(
    item: LabelledImage, factor: float, side_px: int, strip_px: float, rng: np.random.Generator
) -> Canvas:
    """Scale an image and cut a square from it; a smaller image is continued by mirroring.

    Along the image's border, where cut nuclei are annotated or not by chance, the weight is 0.
    """
    item = resized(item, factor)
    height, width = item.image.shape[:2]
    strip = round(strip_px)
    weight = np.zeros((height, width, 1), np.uint8)
    weight[strip : height - strip, strip : width - strip] = 255
    if item.trusted is not None:
        weight[~item.trusted] = 0
    rgbw = np.concatenate([item.image, weight], axis=2)
    left, top = (_origin(rng, length, side_px) for length in (width, height))
    columns, rows = _mirrored(width, left, side_px), _mirrored(height, top, side_px)
    points = _mirrored_points(item.points, (width, height), (left, top), side_px)
    labels = None if item.labels is None else np.ascontiguousarray(item.labels[rows][:, columns])
    return Canvas(np.ascontiguousarray(rgbw[rows][:, columns]), points, labels)


def _origin(rng: np.random.Generator, length: int, side: int) -> int:
    low, high = sorted((0, length - side))
    return int(rng.integers(low, high + 1))


def _mirrored(length: int, start: int, side: int) -> NDArray[np.int64]:
    index = np.arange(start, start + side) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def _mirrored_points(
    points: NDArray[np.float64], size: tuple[int, int], origin: tuple[int, int], side: int
) -> NDArray[np.float32]:
    copies = points
    for axis in range(2):
        period = 2 * size[axis]
        turns = range((origin[axis] - period) // period, (origin[axis] + side) // period + 2)
        flipped = copies.copy()
        flipped[:, axis] *= -1
        step = np.zeros(2)
        step[axis] = period
        copies = np.concatenate(
            [part + turn * step for turn in turns for part in (copies, flipped)]
        )
        near = copies[:, axis] - origin[axis]
        copies = copies[(near > -32) & (near < side + 32)]
    return np.asarray(copies - np.array(origin), np.float32)


def _labels(item: LabelledImage) -> NDArray[np.int32]:
    if item.labels is None:
        return np.zeros(item.image.shape[:2], np.int32)
    return item.labels


def _zoom(rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(0.0, 0.15)))


def _guess_mpp(labels: NDArray[np.int32] | None, rng: np.random.Generator) -> float:
    """Guess um per pixel from the median nucleus; images without any get 0.5."""
    typical_um = float(np.clip(_TYPICAL_NUCLEUS_UM * np.exp(rng.normal(0.0, 0.22)), 5.5, 16.0))
    areas = np.bincount(labels.ravel())[1:] if labels is not None else np.zeros(0)
    areas = areas[areas > 0]
    if not len(areas):
        return 0.5
    return typical_um / float(2.0 * np.sqrt(np.median(areas) / np.pi))


def _from_field(
    field: Field, field_mpp: float, side_px: int, mpp: float, rng: np.random.Generator
) -> Canvas:
    item = LabelledImage("", field.image, field.points, field.labels)
    return canvas_of(item, field_mpp / mpp, side_px, _BORDER_STRIP_UM / mpp, rng)


def _hidden(field: Field) -> NDArray[np.bool_]:
    """Tell which nuclei show too little of themselves, or not at their own centre."""
    count = len(field.points)
    area = np.bincount(field.labels.ravel(), minlength=count + 1)[1 : count + 1]
    height, width = field.labels.shape
    column = np.clip(field.points[:, 0].astype(int), 0, width - 1)
    row = np.clip(field.points[:, 1].astype(int), 0, height - 1)
    covered = field.labels[row, column] != np.arange(1, count + 1)
    small = area < _SMALLEST_VISIBLE * np.median(area) if count else np.zeros(0, bool)
    return np.asarray((covered & small) | (area < 12), bool)
