"""Which nuclei are stained: by their class where it says so, else by DAB in a small disc.

The rule is that of "Positive cell detection" in QuPath, whose default threshold is a mean optical
density of 0.2, on a disc around the keypoint (Naumov et al., Data 2022, call it a probe).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.training.looks import QUPATH_DAB, QUPATH_HAEMATOXYLIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["STAINED_NAMES", "STAININGS", "staining_at", "staining_of"]

STAININGS = ("Negative", "Positive")

_DISC_UM = 1.5
_POSITIVE_OD = 0.2
STAINED_NAMES = {"Negative": 0, "Positive": 1, "1+": 1, "2+": 1, "3+": 1}
"""Names of classes that say it, with the index into `STAININGS`."""

_NAMED = {name.casefold(): index for name, index in STAINED_NAMES.items()}


def staining_at(
    image: NDArray[np.uint8], points: NDArray[np.float64], mpp: float
) -> NDArray[np.int64]:
    """Tell for each point whether the disc of 1.5 um around it is DAB-positive.

    Parameters
    ----------
    image : NDArray[np.uint8]
        RGB (h, w, 3).
    points : NDArray[np.float64]
        (k, 2 or more): x, y in pixels.
    mpp : float
        um per pixel.

    Returns
    -------
    NDArray[np.int64]
        (k,) index into `STAININGS`.
    """
    import cv2

    density = -np.log10(np.maximum(image, 1).astype(np.float32) / 255)
    stains = np.array([QUPATH_HAEMATOXYLIN, QUPATH_DAB])
    stains = np.vstack([stains, np.cross(*stains)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    dab = np.ascontiguousarray(density @ np.linalg.inv(stains)[:, 1].astype(np.float32))
    radius = max(1, round(_DISC_UM / mpp))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2).astype(np.float32)
    mean = cv2.filter2D(dab, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    column = np.clip(points[:, 0].astype(int), 0, image.shape[1] - 1)
    row = np.clip(points[:, 1].astype(int), 0, image.shape[0] - 1)
    return np.asarray(np.asarray(mean)[row, column] >= _POSITIVE_OD, np.int64)


def staining_of(classes: Sequence[str | None], fallback: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take the staining a class names (Negative, Positive, 1+, 2+, 3+), else the fallback, (k,).

    The last part of a name counts, as in QuPath; capitals and blanks do not matter.
    """
    last = [(name or "").rpartition(":")[2].strip().casefold() for name in classes]
    given = np.array([_NAMED.get(name, -1) for name in last], np.int64).reshape(-1)
    chosen: NDArray[np.int64] = np.where(given >= 0, given, fallback)
    return chosen
