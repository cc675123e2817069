"""From colours to stains: optical densities split into haematoxylin and DAB as QuPath does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.config import StainSettings

__all__ = ["STAIN_COLUMNS", "STAIN_NAMES", "STAIN_STATISTICS", "StainMatrix"]

STAIN_NAMES = ("Hematoxylin", "DAB")
"""QuPath's spelling, in the order of the columns of ``StainMatrix.concentrations``."""
STAIN_STATISTICS = ("mean", "sum", "std dev", "max", "min", "range")
"""What is measured of each stain, in the order of QuPath's WatershedCellDetection."""
STAIN_COLUMNS = tuple(
    f"Nucleus: {stain} OD {statistic}" for stain in STAIN_NAMES for statistic in STAIN_STATISTICS
)
"""Names of the measurements of the stains of a nucleus, as QuPath spells and orders them."""

_SMALLEST_SINE = 0.02
"""Stain vectors within about one degree of each other cannot be told apart."""


@dataclass(frozen=True, eq=False)
class StainMatrix:
    """The two stains of a slide and the transform that tells how much of each a pixel holds.

    The numbers are those of QuPath 0.6 (``ColorDeconvolutionStains``, ``ColorTransformer``): the
    vectors are scaled to length 1, the third stain is their cross product (QuPath's "Residual"),
    densities times the inverse matrix come from tables of 256 entries in double precision, and
    each concentration is rounded to float32 once, at the end. They are not clipped: a pixel of
    the other stain's colour has a negative concentration.

    Parameters
    ----------
    hematoxylin, dab : ndarray of float64, shape (3,)
        Red, green and blue part of each stain's optical density, of any length.
    background : ndarray of float64, shape (3,)
        Red, green and blue of empty glass, 0 to 255.

    Raises
    ------
    UsageError
        When a vector has no length or both have the same direction.

    References
    ----------
    Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution,
    Anal Quant Cytol Histol 2001, 23(4):291-299.
    """

    hematoxylin: NDArray[np.float64]
    dab: NDArray[np.float64]
    background: NDArray[np.float64]
    vectors: NDArray[np.float64] = field(init=False)
    """Unit vectors of haematoxylin, DAB and the residual, a row each, shape (3, 3)."""
    inverse: NDArray[np.float64] = field(init=False)
    """Densities (red, green, blue) times this are concentrations, shape (3, 3)."""
    _products: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Complete and invert the matrix."""
        first, second = _unit(self.hematoxylin, "hematoxylin"), _unit(self.dab, "dab")
        cross = np.cross(first, second)
        if np.linalg.norm(cross) < _SMALLEST_SINE:
            raise UsageError(
                "stains.hematoxylin and stains.dab have the same direction",
                "Give two different stain vectors.",
            )
        vectors = np.stack([first, second, _unit(cross, "residual")])
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "inverse", np.linalg.inv(vectors))
        products = self.inverse.T[:, :, None] * _density_table(self.background)[None]
        object.__setattr__(self, "_products", products)

    @classmethod
    def from_settings(cls, settings: StainSettings) -> StainMatrix:
        """Take vectors and background from the ``[stains]`` table of the settings."""
        return cls(
            np.asarray(settings.hematoxylin, np.float64),
            np.asarray(settings.dab, np.float64),
            np.asarray(settings.background, np.float64),
        )

    def concentrations(
        self, rgb: NDArray[np.uint8], *, residual: bool = False
    ) -> NDArray[np.float32]:
        """Give the optical density of each stain.

        Parameters
        ----------
        rgb : ndarray of uint8, shape (n, 3) or (h, w, 3)
            Pixels.
        residual : bool
            Give the third stain too.

        Returns
        -------
        ndarray of float32, shape (..., 2) or (..., 3)
            Haematoxylin, DAB and, if wanted, the residual; dimensionless, may be negative.
        """
        planes = self.planes(rgb.reshape(-1, 3), residual=residual)
        return np.ascontiguousarray(planes.T).reshape(*rgb.shape[:-1], len(planes))

    def planes(self, pixels: NDArray[np.uint8], *, residual: bool = False) -> NDArray[np.float32]:
        """Give the same as ``concentrations`` for pixels (n, 3), a row a stain: (2 or 3, n)."""
        import cv2

        planes = np.zeros((3 if residual else 2, len(pixels)), np.float32)
        if len(pixels):
            channels = cv2.split(np.ascontiguousarray(pixels)[None])
            for plane, tables in zip(planes, self._products, strict=False):
                red, green, blue = map(cv2.LUT, channels, tables)
                plane[:] = (red + green + blue).reshape(-1)
        return planes


def _unit(vector: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    if not (np.isfinite(length) and length > 0):
        raise UsageError(
            f"stains.{name} = {vector.tolist()} has no direction",
            "Give red, green and blue of its optical density.",
        )
    return vector / length


def _density_table(background: NDArray[np.float64]) -> NDArray[np.float64]:
    # ColorDeconvolutionHelper.makeOD: black is taken as 1, brighter than the glass as 0.
    value = np.maximum(np.arange(256.0), 1)
    table: NDArray[np.float64] = np.maximum(0, -np.log10(value / background[:, None]))
    return table
