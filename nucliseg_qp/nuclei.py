"""The one table that travels through all steps: nuclei as columns, never as little objects."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["ID_NAMESPACE", "Nuclei", "nucleus_ids"]

ID_NAMESPACE = uuid.UUID("5f0d6f2e-7c0b-5c1e-9d0c-6e75636c6569")
"""Namespace of the uuid5 every nucleus gets; never change it, or re-runs lose track of edits."""


@dataclass(frozen=True)
class Nuclei:
    """``n`` nuclei of one image.

    Coordinates are pixels of the full-resolution image with the centre of the first pixel at
    (0.5, 0.5), as in QuPath.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Keypoints.
    score : ndarray of float32, shape (n,)
        Score of the keypoint, 0 to 1.
    ring_xy : ndarray of float64, shape (m, 2)
        Vertices of all outlines one after the other, x before y, each ring open (the first vertex
        is not repeated).
    ring_start : ndarray of int64, shape (n + 1,)
        Outline ``i`` is ``ring_xy[ring_start[i]:ring_start[i + 1]]``.
    class_names : tuple of str
        Names of the classes, ``class_index`` points into it.
    class_index : ndarray of int16, shape (n,)
        Class of each nucleus, -1 for none.
    measurements : dict of str to ndarray of float32, shape (n,)
        Columns in the order they are shown; NaN where a value does not exist.
    simple : bool
        Every outline is known to be a valid polygon on QuPath's grid of 0.01 px, as tracing makes
        them; then nobody needs to check.

    Examples
    --------
    >>> from nucliseg_qp import Engine, Region, Scope, find_nuclei, load_settings, open_slide
    >>> engine = Engine.start(load_settings())
    >>> with open_slide("ki67_synthetic/images/high.ome.tif") as slide:
    ...     nuclei = find_nuclei(slide, engine, Scope(Region(0, 0, 400, 400)))
    >>> positive = nuclei.take(nuclei.class_index == nuclei.class_names.index("Positive"))
    >>> len(positive) == nuclei.counts()["Positive"]
    True
    >>> bool(positive.measurements["Nucleus: DAB OD mean"].mean() > 0.2)
    True
    >>> nuclei.ring(0).shape[1]
    2
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    score: NDArray[np.float32]
    ring_xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    class_index: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    measurements: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    simple: bool = False

    def __len__(self) -> int:
        """Give the number of nuclei."""
        return len(self.x)

    @classmethod
    def empty(cls, class_names: tuple[str, ...] = ()) -> Nuclei:
        """Give a table without rows."""
        none = np.empty(0)
        return cls(
            x=none,
            y=none,
            score=none.astype(np.float32),
            ring_xy=np.empty((0, 2)),
            ring_start=np.zeros(1, np.int64),
            class_names=class_names,
            class_index=none.astype(np.int16),
        )

    def ring(self, index: int) -> NDArray[np.float64]:
        """Give the outline of one nucleus, shape (k, 2), not closed."""
        return self.ring_xy[self.ring_start[index] : self.ring_start[index + 1]]

    def rings(self) -> Iterator[NDArray[np.float64]]:
        """Give the outlines one after the other, each of shape (k, 2)."""
        for start, stop in zip(self.ring_start[:-1], self.ring_start[1:], strict=True):
            yield self.ring_xy[start:stop]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Nuclei:
        """Give the table of the chosen rows, by index (order kept) or by mask."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, np.int64)
        size = np.diff(self.ring_start)[index]
        start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        vertex = np.arange(start[-1]) + np.repeat(self.ring_start[index] - start[:-1], size)
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            score=self.score[index],
            ring_xy=self.ring_xy.take(vertex, axis=0),
            ring_start=start,
            class_index=self.class_index[index] if len(self.class_index) else self.class_index,
            measurements={name: column[index] for name, column in self.measurements.items()},
        )

    def with_classes(self, names: tuple[str, ...], index: NDArray[np.int16]) -> Nuclei:
        """Give the table with classes, ``index`` of shape (n,)."""
        return replace(self, class_names=names, class_index=index)

    def with_measurements(self, columns: dict[str, NDArray[np.float32]]) -> Nuclei:
        """Give the table with further measurement columns behind those it has."""
        return replace(self, measurements={**self.measurements, **columns})

    def counts(self) -> dict[str, int]:
        """Count the nuclei of each class, in the order of ``class_names``."""
        found = np.bincount(
            self.class_index[self.class_index >= 0], minlength=len(self.class_names)
        )
        return {name: int(number) for name, number in zip(self.class_names, found, strict=True)}

    @classmethod
    def concatenate(cls, parts: Sequence[Nuclei]) -> Nuclei:
        """Put tables with the same classes and columns one behind the other."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return parts[0] if parts else cls.empty()
        first = filled[0]
        sizes = np.concatenate([np.diff(part.ring_start) for part in filled])
        return cls(
            x=np.concatenate([part.x for part in filled]),
            y=np.concatenate([part.y for part in filled]),
            score=np.concatenate([part.score for part in filled]),
            ring_xy=np.concatenate([part.ring_xy for part in filled]),
            ring_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            class_names=first.class_names,
            class_index=np.concatenate([part.class_index for part in filled]),
            measurements={
                name: np.concatenate([part.measurements[name] for part in filled])
                for name in first.measurements
            },
            simple=all(part.simple for part in filled),
        )


def nucleus_ids(image_name: str, nuclei: Nuclei) -> list[str]:
    """Give each nucleus the UUID by which QuPath and a later run recognise it.

    Parameters
    ----------
    image_name : str
        Name of the image, so that nuclei of two images never share an id.
    nuclei : Nuclei
        Their keypoints are used at 0.01 px, the grid of QuPath's GeoJSON.

    Returns
    -------
    list of str
        Version 5 UUIDs (RFC 9562) in the order of the table: the same image and keypoints give
        the same ids on every machine.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import nucleus_ids, read_geojson
    >>> found = read_geojson(Path("results/nuclei/low.geojson.gz"))
    >>> ids = nucleus_ids("low.ome.tif", found.nuclei)
    >>> len(set(ids)) == len(found.nuclei)
    True
    """
    prefix = ID_NAMESPACE.bytes + image_name.encode()
    keys = np.rint(np.stack([nuclei.x, nuclei.y], axis=1) * 100).astype(np.int64).tolist()
    return _uuids5([prefix + b"/%d/%d" % (x, y) for x, y in keys])


def _uuids5(data: list[bytes]) -> list[str]:
    # The same as uuid.uuid5, at a tenth of its time: a slide has a million nuclei.
    hashes = b"".join(hashlib.sha1(one, usedforsecurity=False).digest()[:16] for one in data)
    number = np.frombuffer(bytearray(hashes), np.uint8).reshape(-1, 16)
    number[:, 6] = number[:, 6] & 0x0F | 0x50
    number[:, 8] = number[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(number.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    # Groups of digits with dashes between them, and a blank between two numbers.
    text = np.insert(digits, [8, 12, 16, 20, 32], np.frombuffer(b"---- ", np.uint8), axis=1)
    return text.tobytes().decode("ascii").split()
