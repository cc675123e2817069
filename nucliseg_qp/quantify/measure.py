"""All measurements of the nuclei of a tile, in QuPath's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE
from nucliseg_qp.palette.stains import STAIN_COLUMNS
from nucliseg_qp.quantify.shape import SHAPE_COLUMNS, measure_shapes
from nucliseg_qp.quantify.stain import measure_stains

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.palette.stains import StainMatrix

__all__ = ["DETECTION_PROBABILITY", "MEASUREMENT_COLUMNS", "measure_nuclei"]

DETECTION_PROBABILITY = "Detection probability"
"""QuPath's name for the score of a detection, as its StarDist and InstanSeg extensions write it."""

MEASUREMENT_COLUMNS = (
    *SHAPE_COLUMNS,
    *STAIN_COLUMNS,
    DETECTION_PROBABILITY,
    HUE,
    SATURATION,
    VALUE,
)
"""Names of all columns of ``measure_nuclei``, in order."""


def measure_nuclei(
    rgb: NDArray[np.uint8],
    labels: NDArray[np.int32],
    nuclei: Nuclei,
    stains: StainMatrix,
    mpp_x: float | None = None,
    mpp_y: float | None = None,
) -> Nuclei:
    """Measure shape, stain and colour of each nucleus of a tile.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
        The tile at the resolution of the outlines.
    labels : ndarray of int32, shape (h, w)
        Row ``i`` of the table is label ``i + 1``.
    nuclei : Nuclei
        Their outlines in pixels of the full-resolution image.
    stains : StainMatrix
        Stain vectors and background.
    mpp_x, mpp_y : float, optional
        Width and height in um of a pixel of the full-resolution image; without a height pixels
        are squares, without both lengths are in pixels.

    Returns
    -------
    Nuclei
        The same nuclei with ``MEASUREMENT_COLUMNS``; NaN in the stain columns of a nucleus whose
        label has no pixel.
    """
    columns = measure_shapes(nuclei.ring_xy, nuclei.ring_start, mpp_x, mpp_y)
    columns |= measure_stains(rgb, labels, len(nuclei), stains)
    columns[DETECTION_PROBABILITY] = nuclei.score
    return nuclei.with_measurements({name: columns[name] for name in MEASUREMENT_COLUMNS})
