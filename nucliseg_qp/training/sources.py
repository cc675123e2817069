"""An image with the points somebody annotated in it, whatever format they came in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Polygon = tuple[NDArray[np.float64], ...]

__all__ = ["IMAGE_SUFFIXES", "AnnotatedImage", "bare_name", "find_image", "point_rows"]

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".ome.tif", ".ome.tiff"),
    *(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms"),
)
"""Endings under which the image of an annotation is looked for."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file and its nuclei.

    Attributes
    ----------
    path : Path
        The image.
    annotation : Path
        The file the points came from, for messages.
    points : NDArray[np.float64]
        (k, 2): x, y in pixels of the full-resolution image, from its corner.
    classes : tuple of str or None
        Class of each point.
    areas : tuple of Polygon or None
        Polygons, each as its outer ring and its holes, (m, 2) in the same pixels, within which
        every nucleus is annotated; None is the whole image.
    size_px : tuple of int or None
        Width and height the annotation was made on, where it says so.
    group : str or None
        Slide or patient, where the source knows it.
    width_um : float or None
        Width of the image in um, where the source states it instead of a pixel size.
    notes : tuple of str
        What a person should know about this image, for the report.
    left_out : mapping of str to int
        Reason to number of what the reader left out.
    remarks : tuple of str
        What a person should know about the source as a whole; its first image carries it.
    """

    path: Path
    annotation: Path
    points: NDArray[np.float64]
    classes: tuple[str | None, ...]
    areas: tuple[Polygon, ...] | None = None
    size_px: tuple[int, int] | None = None
    group: str | None = None
    width_um: float | None = None
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def point_rows(
    path: Path, rows: Sequence[Sequence[object]], where: str = "point"
) -> tuple[NDArray[np.float64], tuple[str | None, ...]]:
    """Read rows of x, y and perhaps a class.

    Raises
    ------
    InputError
        Naming the file and the row, when a coordinate is missing or not a finite number.
    """
    points = np.empty((len(rows), 2))
    classes: list[str | None] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list | tuple) or len(row) < 2:
            raise _broken(path, where, number, f"is {row!r}, not x, y and a class")
        points[number - 1] = [_finite(path, where, number, value) for value in row[:2]]
        named = row[2] if len(row) > 2 else None
        classes.append(None if named in (None, "") else str(named))
    return points, tuple(classes)


def _finite(path: Path, where: str, number: int, value: object) -> float:
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise _broken(path, where, number, f"has the coordinate {value!r}")
    return result


def _broken(path: Path, where: str, number: int, what: str) -> InputError:
    return InputError(f"{path}: {where} {number} {what}", "Mend it, or remove it from the file")


def find_image(folders: Sequence[Path], name: str, annotation: Path) -> Path:
    """Find an image by its name, with or without its ending, in the first folder that has it.

    Raises
    ------
    InputError
        When no folder has it; the message names the annotation that wants it.
    """
    for folder in folders:
        endings = ("", *IMAGE_SUFFIXES, *(ending.upper() for ending in IMAGE_SUFFIXES))
        for ending in endings:
            path = folder / f"{name}{ending}"
            if path.is_file() and path != annotation:
                return path
    looked = " and ".join(str(folder) for folder in folders)
    raise InputError(
        f"{annotation} names the image '{name}', which is not in {looked}",
        "Put it there, or name its folder with --images",
    )


def bare_name(name: str) -> str:
    """Take the ending of an image off its name, ``.ome`` included: ``s1.ome.tif`` is ``s1``."""
    for ending in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    return name[:-4] if name.lower().endswith(".ome") else name
