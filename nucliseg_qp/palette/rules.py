"""The two ways to tell classes apart: by reference colours and by optical density.

A rule maps measurement columns to the index of a class and to the margin by which that class won,
so that a reviewer can sort nuclei by doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "DAB_OD_MEAN",
    "HUE",
    "SATURATION",
    "VALUE",
    "NearestColour",
    "OpticalDensity",
    "Rule",
    "hsv_from_rgb",
    "hsv_point",
]

DAB_OD_MEAN = "Nucleus: DAB OD mean"
"""QuPath's name of the measurement that its own positive cell detection thresholds."""
HUE = "NucliSeg: Hue"
"""Mean hue of a nucleus in degrees, 0 to 360, averaged on the circle."""
SATURATION = "NucliSeg: Saturation"
"""Mean saturation of a nucleus, 0 to 1."""
VALUE = "NucliSeg: Value"
"""Mean value (brightness) of a nucleus, 0 to 1."""


class Rule(Protocol):
    """What a palette needs of a rule."""

    @property
    def measurements(self) -> tuple[str, ...]:
        """Names of the columns the rule reads."""
        ...

    def classify(
        self, features: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Give class index and margin of each nucleus, both of shape (n,).

        The index is -1 and the margin NaN where a column is NaN; every other margin is >= 0.
        """
        ...


@dataclass(frozen=True, eq=False)
class NearestColour:
    """The class of the reference colour nearest to the nucleus's mean HSV.

    Colours are compared as points (S cos H, S sin H, V) of the HSV cone by their L2 distance, so
    that hue is the circle it is and a grey has no hue. The margin is the distance to the nearest
    reference of any other class less the distance to the nearest reference of all, 0 to about 2.

    Parameters
    ----------
    references : ndarray of float64, shape (k, 3)
        Points of ``hsv_point``.
    owners : ndarray of int16, shape (k,)
        The class each reference stands for; every class owns at least one.
    """

    references: NDArray[np.float64]
    owners: NDArray[np.int16]
    measurements: tuple[str, ...] = (HUE, SATURATION, VALUE)

    def classify(
        self, features: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """See ``Rule.classify``."""
        hue, saturation, value = (features[name] for name in self.measurements)
        point = hsv_point(hue, saturation, value)
        distances = np.stack([self._distance(point, name) for name in np.unique(self.owners)])
        nearest, second = np.partition(distances, 1, axis=0)[:2]
        index = np.where(np.isnan(nearest), -1, distances.argmin(axis=0)).astype(np.int16)
        return index, (second - nearest).astype(np.float32)

    def _distance(self, point: NDArray[np.float64], owner: np.int16) -> NDArray[np.float64]:
        offsets = point[:, None] - self.references[self.owners == owner][None]
        distance: NDArray[np.float64] = np.sqrt((offsets**2).sum(axis=2)).min(axis=1)
        return distance


@dataclass(frozen=True, eq=False)
class OpticalDensity:
    """The class of the range into which a measured density falls.

    A nucleus exactly on a threshold gets the upper class, as in QuPath's PositiveCellDetection.
    The margin is the distance to the nearest threshold.

    Parameters
    ----------
    thresholds : ndarray of float64, shape (classes - 1,)
        Lower bound of the second and every further class, strictly increasing.
    measurement : str
        The column that is compared.
    """

    thresholds: NDArray[np.float64]
    measurement: str = DAB_OD_MEAN

    @property
    def measurements(self) -> tuple[str, ...]:
        """Names of the columns the rule reads."""
        return (self.measurement,)

    def classify(
        self, features: Mapping[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """See ``Rule.classify``."""
        # In double, as QuPath compares: float32(0.2) is a little more than 0.2.
        value = np.asarray(features[self.measurement], np.float64)
        index = np.searchsorted(self.thresholds, value, side="right").astype(np.int16)
        index[np.isnan(value)] = -1
        margin = np.abs(value[:, None] - self.thresholds[None]).min(axis=1)
        return index, margin.astype(np.float32)


def hsv_point(
    hue_degrees: NDArray[np.floating],
    saturation: NDArray[np.floating],
    value: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Place colours in the HSV cone: (S cos H, S sin H, V), shape (n, 3)."""
    angle = np.radians(np.asarray(hue_degrees, np.float64))
    return np.stack([saturation * np.cos(angle), saturation * np.sin(angle), value], axis=-1)


def hsv_from_rgb(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert colours to hue, saturation and value.

    Parameters
    ----------
    rgb : ndarray, shape (n, 3)
        Red, green and blue from 0 to 255.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Hue in degrees from 0 to 360 (0 for a grey), saturation and value from 0 to 1.
    """
    colours = np.asarray(rgb, np.float64) / 255
    value, smallest = colours.max(axis=-1), colours.min(axis=-1)
    chroma = value - smallest
    scale = np.where(chroma > 0, chroma, 1)
    red, green, blue = np.moveaxis(colours, -1, 0)
    sixth = np.select(
        [value == red, value == green],
        [(green - blue) / scale, 2 + (blue - red) / scale],
        4 + (red - green) / scale,
    )
    hue = np.where(chroma > 0, 60 * sixth % 360, 0)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    return np.stack([hue, saturation, value], axis=-1)
