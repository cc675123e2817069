"""Stain vectors of the reviewed slides, from the mean colours of their nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE, hsv_point
from nucliseg_qp.review.colours import cone_rgb, without_outliers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.review.judged import JudgedRows

    Floats = NDArray[np.float64]

__all__ = ["stain_vectors"]

_LEAST = 20
_LEAST_DENSITY = 0.15
_EDGE_PERCENT = 4.0
_LEAST_ANGLE = 0.15
"""In radians; nuclei of nearly one colour tell nothing about two stains."""


def stain_vectors(rows: JudgedRows, negative: int = 0) -> tuple[Floats, Floats] | None:
    """Estimate haematoxylin and DAB.

    The directions of the nuclei's optical densities lie in a plane; the stains are the edges of the
    fan they make there (Macenko et al., ISBI 2009, 1107-1110, on nuclei instead of pixels):
    haematoxylin the outer edge of the negative nuclei, DAB that of the others. Of each, nuclei far
    from the rest and then the outer 4 % are left out.

    Parameters
    ----------
    rows : JudgedRows
        Reviewed nuclei.
    negative : int
        The class whose nuclei lie at the edge of haematoxylin.

    Returns
    -------
    tuple of ndarray, each of shape (3,), or None
        Unit vectors; None when there are too few nuclei or one stain only.
    """
    if not {HUE, SATURATION, VALUE} <= rows.features.keys():
        return None
    rgb = cone_rgb(hsv_point(*(rows.features[name] for name in (HUE, SATURATION, VALUE))))
    density = -np.log10(np.maximum(rgb, 1) / 255)
    length = np.linalg.norm(density, axis=1)
    seen = length > _LEAST_DENSITY
    direction, blue = density[seen] / length[seen, None], rows.truth[seen] == negative
    if min(int(blue.sum()), int((~blue).sum())) < _LEAST:
        return None
    return _edges(without_outliers(direction[blue]), without_outliers(direction[~blue]))


def _edges(blue: Floats, brown: Floats) -> tuple[Floats, Floats] | None:
    """Give the outer edges of two groups of directions in the plane that holds both best."""
    plane = np.linalg.svd(np.concatenate([blue, brown]), full_matrices=False)[2][:2]
    plane *= np.sign(plane[0].sum())
    angles = [np.arctan2(*(group @ plane.T).T[::-1]) for group in (blue, brown)]
    turn = np.sign(np.median(angles[1]) - np.median(angles[0])) or 1.0
    low = np.percentile(turn * angles[0], _EDGE_PERCENT)
    high = np.percentile(turn * angles[1], 100 - _EDGE_PERCENT)
    if high - low < _LEAST_ANGLE:
        return None
    first, second = (
        np.maximum(np.cos(turn * a) * plane[0] + np.sin(turn * a) * plane[1], 1e-3)
        for a in (low, high)
    )
    return first / np.linalg.norm(first), second / np.linalg.norm(second)
