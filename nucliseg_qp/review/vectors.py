"""Stain vectors of the reviewed slides, from the mean colours of their nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE, hsv_point
from nucliseg_qp.review.colours import cone_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.review.judged import JudgedRows

    Floats = NDArray[np.float64]

__all__ = ["stain_vectors"]

_LEAST = 20
_EDGE_PERCENT = 4.0
_LEAST_ANGLE = 0.15
"""In radians; nuclei of nearly one colour tell nothing about two stains."""


def stain_vectors(rows: JudgedRows, negative: int = 0) -> tuple[Floats, Floats] | None:
    """Estimate haematoxylin and DAB.

    The nuclei's optical densities lie in a plane; the stains are the edges of the fan they make
    there, of which the outer 4 % are left out (Macenko et al., ISBI 2009, 1107-1110, on nuclei
    instead of pixels).

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
    density = density[np.linalg.norm(density, axis=1) > 0.15]
    blue = rows.truth == negative
    if min(len(density), int(blue.sum()), int((~blue).sum())) < _LEAST:
        return None
    plane = np.linalg.svd(density, full_matrices=False)[2][:2]
    plane *= np.sign(plane[0].sum())
    flat = density @ plane.T
    angles = np.arctan2(flat[:, 1], flat[:, 0])
    low, high = np.percentile(angles, [_EDGE_PERCENT, 100 - _EDGE_PERCENT])
    if high - low < _LEAST_ANGLE:
        return None
    edges = [np.maximum(np.cos(a) * plane[0] + np.sin(a) * plane[1], 1e-3) for a in (low, high)]
    # Haematoxylin takes red light, DAB blue.
    first, second = sorted((e / np.linalg.norm(e) for e in edges), key=lambda v: v[2] - v[0])
    return first, second
