"""Annotated images from folders: `images/*.png` beside `points.json` and, if any, `masks/`.

`points.json` is `{image name: [[x, y, class or null], ...]}` in pixels of the image; masks are
16-bit instance labels. Where there are masks, they count: a nucleus's point is its centroid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LabelledImage", "centroids", "fold_names", "read_folder", "resized"]


@dataclass(frozen=True)
class LabelledImage:
    """An image and where its nuclei are.

    Attributes
    ----------
    name : str
        File name.
    image : NDArray[np.uint8]
        RGB (h, w, 3).
    points : NDArray[np.float64]
        (k, 2): x, y in pixels; the centre of pixel (0, 0) is (0.5, 0.5).
    labels : NDArray[np.int32] or None
        (h, w), 0 background, where there are masks.
    mpp : float or None
        um per pixel, where it is known.
    trusted : NDArray[np.bool_] or None
        (h, w), where the annotation counts; None is everywhere.
    """

    name: str
    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    labels: NDArray[np.int32] | None = None
    mpp: float | None = None
    trusted: NDArray[np.bool_] | None = None


def read_folder(folder: Path) -> list[LabelledImage]:
    """Read all annotated images of a folder, in alphabetical order.

    Raises
    ------
    InputError
        When there is no `points.json`, or an image it names is missing or unreadable.
    """
    import orjson

    path = folder / "points.json"
    try:
        points = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}", "Name a folder with points.json") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}", "Export it again") from error
    return [_read_one(folder, name, points[name]) for name in sorted(points)]


def _read_one(folder: Path, name: str, rows: list[list[object]]) -> LabelledImage:
    import cv2

    image = cv2.imread(str(folder / "images" / name), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"cannot read {folder / 'images' / name}", "Check points.json")
    rgb = np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)
    mask_path = folder / "masks" / name
    mask = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED) if mask_path.is_file() else None
    if mask is not None:
        labels = mask.astype(np.int32)
        return LabelledImage(name, rgb, centroids(labels), labels)
    points = np.array([[row[0], row[1]] for row in rows], np.float64).reshape(-1, 2)
    return LabelledImage(name, rgb, points)


def centroids(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (k, 2) x, y of the centroid of each label above 0, in order of the labels."""
    flat = labels.ravel()
    count = np.bincount(flat)
    rows, columns = np.indices(labels.shape)
    x = np.bincount(flat, columns.ravel() + 0.5) / np.maximum(count, 1)
    y = np.bincount(flat, rows.ravel() + 0.5) / np.maximum(count, 1)
    there = np.flatnonzero(count[1:]) + 1
    return np.stack([x[there], y[there]], axis=1)


def resized(item: LabelledImage, factor: float) -> LabelledImage:
    """Scale image, points and labels: the image by area when smaller, linear when larger."""
    import cv2

    height, width = item.image.shape[:2]
    size = max(8, round(width * factor)), max(8, round(height * factor))
    method = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(item.image, size, interpolation=method), np.uint8)
    scale = np.array([size[0] / width, size[1] / height])
    mpp = None if item.mpp is None else item.mpp / float(scale[0])
    labels, trusted = item.labels, item.trusted
    if labels is not None:
        labels = _nearest(labels.astype(np.float32), size).astype(np.int32)
    if trusted is not None:
        trusted = _nearest(trusted.astype(np.uint8), size) > 0
    return LabelledImage(item.name, image, item.points * scale, labels, mpp, trusted)


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    import cv2

    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))


def fold_names(names: Iterable[str], fold: int, folds: int = 3) -> tuple[str, ...]:
    """Name the images of a cross-validation fold: every third in alphabetical order."""
    return tuple(sorted(names)[fold::folds])
