"""Reference colours from examples: several a class, deaf to outliers and to wrong labels.

References begin as medians of groups of each class and move to where the share of the right class
under a soft nearest-reference rule is largest. The share is bounded, so that an example far on the
wrong side, most likely a slip, pulls at nothing (Seo and Obermayer, Soft learning vector
quantization, Neural Comput 2003, 15(7):1589-1604).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.palette.rules import NearestColour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["GROUPS", "cone_rgb", "fit_references", "without_outliers"]

GROUPS = (1, 2, 3, 4)
"""Numbers of references a class that are tried."""
_ROUNDS = 160
_FAR = 4.0
_MOST = 4000


def fit_references(
    points: Floats,
    truth: NDArray[np.int16],
    old: NearestColour,
    groups: int,
    fitted: NDArray[np.bool_],
) -> NearestColour:
    """Fit reference colours.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 3)
        Colours in the HSV cone, see `hsv_point`.
    truth : ndarray of int16, shape (n,)
        Their classes.
    old : NearestColour
        Where references of classes that are not fitted are taken from.
    groups : int
        References a class.
    fitted : ndarray of bool, shape (classes,)
        Which classes are fitted.
    """
    references, owners = [], []
    for owner in range(len(fitted)):
        mine = points[truth == owner]
        is_new = fitted[owner] and len(mine)
        own = (
            _medians(without_outliers(mine), groups)
            if is_new
            else old.references[old.owners == owner]
        )
        references.append(own)
        owners += [owner] * len(own)
    start, index = np.concatenate(references), np.array(owners, np.int16)
    moved = _moved(start, index, points, truth, fitted[index])
    return NearestColour(_inside_cone(moved), index)


def without_outliers(points: Floats) -> Floats:
    """Leave out what lies further from the median than four times the usual distance."""
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    near = distance <= _FAR * max(float(np.median(distance)), 1e-6)
    kept: Floats = points[near]
    return kept


def _medians(points: Floats, groups: int) -> Floats:
    """Give the medians of groups, found as k-means does, from a start without chance."""
    centres = np.median(points, axis=0)[None]
    for _ in range(min(groups, len(points) // 4) - 1):
        distance = np.linalg.norm(points[:, None] - centres[None], axis=2).min(axis=1)
        # The farthest of all may be a slip; the farthest but a few is not.
        order = np.argsort(distance, kind="stable")
        centres = np.concatenate([centres, points[order[int(0.95 * (len(points) - 1))]][None]])
    for _ in range(20):
        nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
        groups_now = [points[nearest == i] for i in range(len(centres))]
        centres = np.stack([np.median(g, axis=0) for g in groups_now if len(g)])
    return centres


def _moved(
    start: Floats,
    owners: NDArray[np.int16],
    points: Floats,
    truth: NDArray[np.int16],
    free: NDArray[np.bool_],
) -> Floats:
    if len(points) > _MOST:
        rows = np.random.default_rng(0).choice(len(points), _MOST, replace=False)
        points, truth = points[rows], truth[rows]
    references = start.copy()
    own = owners[None] == truth[:, None]
    width = _usual_square(references, own, points)
    for number in range(_ROUNDS):
        left = 1 - number / _ROUNDS
        offset = points[:, None] - references[None]
        square = (offset**2).sum(axis=2) / (width * (0.25 + 0.75 * left))
        share = np.exp(square.min(axis=1, keepdims=True) - square)
        share /= share.sum(axis=1, keepdims=True)
        right = (share * own).sum(axis=1, keepdims=True)
        pull = share * (own - right)
        step = (pull[..., None] * offset).sum(axis=0)
        weight = np.abs(pull).sum(axis=0) + 0.01 * len(points)
        references += np.where(free, 0.3 * left / weight, 0)[:, None] * step
    return references


def _usual_square(references: Floats, own: NDArray[np.bool_], points: Floats) -> float:
    """Give the usual squared distance of an example to the nearest reference of its class."""
    square = ((points[:, None] - references[None]) ** 2).sum(axis=2)
    nearest = np.where(own, square, np.inf).min(axis=1)
    return max(float(np.median(nearest)), 1e-4)


def _inside_cone(points: Floats) -> Floats:
    """Bring references back to colours that exist."""
    x, y, value = points.T
    saturation = np.hypot(x, y)
    scale = np.minimum(1.0, 1.0 / np.maximum(saturation, 1e-12))
    return np.stack([x * scale, y * scale, np.clip(value, 1e-3, 1.0)], axis=1)


def cone_rgb(points: Floats) -> Floats:
    """Give red, green and blue, 0 to 255, of points of the HSV cone, shape (n, 3)."""
    x, y, value = points.T
    saturation = np.minimum(np.hypot(x, y), 1.0)
    sixth = (np.degrees(np.arctan2(y, x)) % 360) / 60
    chroma = value * saturation
    # Distance of the hue from each primary decides how much of it there is.
    parts = [np.clip(np.abs((sixth + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    return np.stack([255 * (value - chroma + chroma * part) for part in parts], axis=1)
