"""What somebody decided about the nuclei of one image, as columns; no files, no QuPath."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ADDED",
    "CHANGES",
    "CONFIRMED",
    "DELETED",
    "RECLASSIFIED",
    "REDRAWN",
    "Annotation",
    "ImageReview",
    "OpenNucleus",
]

RECLASSIFIED, REDRAWN, CONFIRMED, ADDED, DELETED = CHANGES = (
    "reclassified",
    "redrawn",
    "confirmed",
    "added",
    "deleted",
)
"""What can have been decided; a nucleus without a row was not looked at."""


@dataclass(frozen=True)
class Annotation:
    """An annotation of an image.

    Parameters
    ----------
    id, name, class_name : str
        As in QuPath.
    nuclei : int
        Detections directly in it.
    """

    id: str
    name: str
    class_name: str
    nuclei: int


@dataclass(frozen=True)
class OpenNucleus:
    """A nucleus nobody looked at, one of the least sure.

    Parameters
    ----------
    id : str
        UUID.
    x, y : float
        Centre in pixels of the full-resolution image.
    class_name : str
        The engine's.
    margin : float
        By how much that class won.
    annotation : str
        Id of the annotation it lies in; empty for none.
    """

    id: str
    x: float
    y: float
    class_name: str
    margin: float
    annotation: str


@dataclass(frozen=True)
class ImageReview:
    """The decisions of one person about one image: ``n`` rows, a row a nucleus looked at.

    Parameters
    ----------
    entry, name : str
        Number and name of the image in its project.
    uris : tuple of str
        Its files.
    width_px, height_px : int
        Size of the full-resolution image.
    mpp : float or None
        Pixel size in um, where QuPath knows it.
    ledger : str
        Hash of what the run put there: the same nuclei have the same hash.
    nuclei_of_run : int
        Number of nuclei the run put there.
    ids : tuple of str
        UUIDs.
    change : ndarray of str, shape (n,)
        One of ``CHANGES``.
    class_before, class_now : ndarray of str, shape (n,)
        The engine's and the person's class; empty for none (added, deleted).
    confirmed_by : ndarray of str, shape (n,)
        ``lock`` or ``area`` for confirmed nuclei, else empty.
    annotation : ndarray of str, shape (n,)
        Id of the annotation it lies in; empty for none.
    xy : ndarray of float64, shape (n, 2)
        Centre; NaN where it is not known.
    measurements : dict of str to ndarray of float32, shape (n,)
        NaN where there is none.
    areas : tuple of dict
        GeoJSON geometries in which every nucleus was looked at.
    classes : dict of str to int
        All detections of the image by class.
    annotations : tuple of Annotation
        Of the image.
    open : tuple of OpenNucleus
        The least sure of those nobody looked at.
    """

    entry: str
    name: str
    uris: tuple[str, ...]
    width_px: int
    height_px: int
    mpp: float | None
    ledger: str
    nuclei_of_run: int
    ids: tuple[str, ...]
    change: NDArray[np.str_]
    class_before: NDArray[np.str_]
    class_now: NDArray[np.str_]
    confirmed_by: NDArray[np.str_]
    annotation: NDArray[np.str_]
    xy: NDArray[np.float64]
    measurements: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    areas: tuple[Mapping[str, Any], ...] = ()
    classes: dict[str, int] = field(default_factory=dict)
    annotations: tuple[Annotation, ...] = ()
    open: tuple[OpenNucleus, ...] = ()

    def __len__(self) -> int:
        """Give the number of nuclei somebody decided about."""
        return len(self.ids)

    @property
    def counts(self) -> dict[str, int]:
        """Number of nuclei by what was decided."""
        return {name: int((self.change == name).sum()) for name in CHANGES}

    @property
    def mass_deletion(self) -> bool:
        """Tell whether most nuclei are gone, which is a cleared image and not a judgement."""
        gone = int((self.change == DELETED).sum())
        return gone > 20 and 2 * gone > self.nuclei_of_run

    def judged(self) -> NDArray[np.bool_]:
        """Tell which nuclei have a class of the engine and one of the person, (n,)."""
        return np.asarray((self.class_before != "") & (self.class_now != ""), np.bool_)

    def take(self, rows: NDArray[np.bool_]) -> ImageReview:
        """Give the review with some of its rows."""
        index = np.flatnonzero(rows)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            change=self.change[index],
            class_before=self.class_before[index],
            class_now=self.class_now[index],
            confirmed_by=self.confirmed_by[index],
            annotation=self.annotation[index],
            xy=self.xy[index],
            measurements={name: column[index] for name, column in self.measurements.items()},
        )
