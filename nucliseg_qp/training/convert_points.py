"""Point lists and instance masks, as people and other programs leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.training.data import centroids
from nucliseg_qp.training.sources import (
    IMAGE_SUFFIXES,
    AnnotatedImage,
    bare_name,
    find_image,
    point_rows,
)
from nucliseg_qp.training.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_masks", "read_points"]

_MASK_SUFFIXES = (".png", ".tif", ".tiff")
_EXPORT = "Export it again"


def read_points(path: Path, images: Path | None = None) -> Iterator[AnnotatedImage]:
    """Read a point list.

    Parameters
    ----------
    path : Path
        ``points.json`` (``{image: [[x, y, class or null], ...]}``), a CSV with the columns
        ``image``, ``x``, ``y`` and perhaps ``class`` and ``group``, or a folder that holds one.
        x and y are pixels from the image's corner.
    images : Path, optional
        Where the images are, if not beside the list or in ``images/`` beside it.

    Raises
    ------
    InputError
        With the file's name when the list is broken or an image is missing.
    """
    file = _point_file(path) if path.is_dir() else path
    folders = [images] if images else [file.parent / "images", file.parent]
    read = _rows_json if file.suffix.lower() == ".json" else _rows_csv
    listed = read(file)
    if not listed:
        raise InputError(f"{file} names no annotated image", _EXPORT)
    for name, (rows, group) in sorted(listed.items()):
        points, classes = point_rows(file, rows, f"{name}, point")
        image = find_image(folders, name, file)
        yield AnnotatedImage(image, file, points, classes, group=group)


def _point_file(folder: Path) -> Path:
    lists = [folder / "points.json", *sorted(folder.glob("*.csv"))]
    found = [file for file in lists if file.is_file()]
    if len(found) == 1:
        return found[0]
    seen = "neither points.json nor a CSV" if not found else f"{len(found)} point lists"
    raise InputError(f"{folder} holds {seen}", "Name the list itself")


Rows = dict[str, tuple[list[list[object]], str | None]]


def _rows_json(file: Path) -> Rows:
    import orjson

    try:
        content = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})", "Check the path") from None
    except orjson.JSONDecodeError as error:
        raise InputError(f"{file} is not JSON ({error}); NaN is none", _EXPORT) from None
    if not isinstance(content, dict) or not all(isinstance(x, list) for x in content.values()):
        raise InputError(f"{file} is not {{image: [[x, y, class], ...]}}", _EXPORT)
    return {str(name): (rows, None) for name, rows in content.items()}


def _rows_csv(file: Path) -> Rows:
    found: Rows = {}
    for row in read_table(file, ("image", "x", "y")):
        rows, group = found.setdefault(row["image"], ([], row.get("group") or None))
        if group != (row.get("group") or None):
            raise InputError(f"{file} gives {row['image']} two groups", "One image is one slide's")
        rows.append([row["x"], row["y"], row.get("class") or row.get("classification")])
    return found


def read_masks(
    folder: Path, images: Path | None = None, masks: Path | None = None
) -> Iterator[AnnotatedImage]:
    """Read instance masks: a nucleus's point is the centroid of its label.

    Parameters
    ----------
    folder : Path
        Holds ``masks/`` (PNG or TIFF, 8 to 32 bits, 0 is background) and ``images/`` with the
        same names.
    images, masks : Path, optional
        Other places of the two.

    Raises
    ------
    InputError
        With the file's name when an image has no mask, or a mask has another size than its image
        (see `convert`), is a colour picture, or is binary, or two files have one name.
    """
    places = images or folder / "images", masks or folder / "masks"
    pictures = _by_name(places[0], IMAGE_SUFFIXES)
    found = _by_name(places[1], _MASK_SUFFIXES)
    for name, path in pictures.items():
        if name not in found:
            raise InputError(f"{path} has no mask in {places[1]}", "Add it, or remove the image")
    lonely = sorted(found.keys() - pictures.keys())
    if lonely:
        raise InputError(f"{found[lonely[0]]} has no image in {places[0]}", "Add it")
    remarks = tuple(f"{path} is no image that is read: left out" for path in _others(places[0]))
    for name, path in pictures.items():
        labels = _labels(found[name])
        points, size_px = centroids(labels), (labels.shape[1], labels.shape[0])
        unnamed = (None,) * len(points)
        yield AnnotatedImage(path, found[name], points, unnamed, size_px=size_px, remarks=remarks)
        remarks = ()


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "It must hold one file an image")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(suffixes):
            name = bare_name(path.name)
            if name in found:
                raise InputError(f"{found[name]} and {path.name} are both {name}", "Rename one")
            found[name] = path
    return found


def _others(folder: Path) -> list[Path]:
    """List what somebody may have meant as an image: neither hidden nor left by the system."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and not path.name.lower().endswith((*IMAGE_SUFFIXES, ".db", ".ini"))
    ]


def _labels(path: Path) -> NDArray[np.int32]:
    import cv2

    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise InputError(f"{path} cannot be read as an image", _EXPORT)
    whole = np.issubdtype(mask.dtype, np.integer) or bool((mask == np.round(mask)).all())
    if mask.ndim != 2 or not whole or (mask.size and mask.min() < 0):
        raise InputError(
            f"{path} is not an instance mask ({mask.dtype}, {mask.ndim} dimensions)",
            "It needs one channel of whole numbers, 0 for the background",
        )
    labels = mask.astype(np.int32)
    pieces = cv2.connectedComponents((labels > 0).astype(np.uint8))[0] - 1
    if pieces > 1 and len(np.unique(labels[labels > 0])) == 1:
        raise InputError(
            f"{path} is a binary mask ({pieces} pieces of one number)",
            "Give every nucleus a number of its own",
        )
    return labels
