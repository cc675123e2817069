"""The EndoNuke release (Naumov et al., Data 2022, 7(6):75), as its authors' own programs read it.

``dataset/images/<id>.png`` are tiles 100 um wide; ``dataset/labels/bulk/<expert>/<id>.txt`` holds
one expert's points, and ``dataset/labels/agreement/<study>/<expert>/<id>.txt`` those of several
experts on the same tile. A line is ``x y class``, in pixels; class 0 is stroma, 1 epithelium, 2
other. Lists in ``master_ymls`` only repeat which files belong together and are not needed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.sources import AnnotatedImage, find_image, point_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["consensus", "endonuke_root", "read_endonuke"]

TILE_UM = 100.0
"""Width of a tile, in um (the paper, section 2.2)."""

AGREE_UM = 2.5
"""Experts mean the same nucleus when their points are no further apart; mean radius is 3 um."""

_CLASSES = ("stroma", "epithelium", "other")

Points = tuple["NDArray[np.float64]", tuple[str | None, ...]]


def endonuke_root(folder: Path) -> Path | None:
    """Find the folder with ``images`` and ``labels`` of a release; None when it is not one."""
    for root in (folder, folder / "dataset", folder / "data" / "dataset"):
        if (root / "images").is_dir() and any((root / "labels").rglob("*.txt")):
            return root
    return None


def read_endonuke(
    folder: Path, experts: Sequence[str] = (), agreement: float = 0.5
) -> Iterator[AnnotatedImage]:
    """Read every annotated tile of a release.

    Parameters
    ----------
    folder : Path
        Of the unpacked archive.
    experts : sequence of str
        Only these (``ptg1`` to ``ptg3`` are pathologists, ``stud1`` to ``stud4`` students);
        all when empty.
    agreement : float
        Where several experts annotated a tile, a nucleus counts when at least this share of
        them marked it.

    Raises
    ------
    InputError
        With the file's name when a line is broken, a class unknown or an image missing.
    """
    root = endonuke_root(folder)
    if root is None:
        raise InputError(f"{folder} is not an EndoNuke release", "It needs images/ and labels/")
    files = _by_tile(root / "labels", experts)
    if not files:
        raise InputError(f"no expert of {', '.join(experts)} is in {root / 'labels'}", "See there")
    for name, labels in sorted(files.items(), key=lambda pair: (len(pair[0]), pair[0])):
        image = find_image([root / "images"], name, labels[0])
        points, classes, notes = _merged(image, [_read(file) for file in labels], agreement)
        yield AnnotatedImage(image, labels[0], points, classes, width_um=TILE_UM, notes=notes)


def _by_tile(folder: Path, experts: Sequence[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*.txt")):
        if not experts or file.parent.name in experts:
            found[file.stem].append(file)
    return found


def _read(file: Path) -> Points:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error})", "Unpack the archive again") from None
    rows = [line.split() for line in lines if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3 or row[2] not in ("0", "1", "2"):
            raise InputError(
                f"{file}: line {number} is {' '.join(row)!r}", "A line is x, y and a class 0 to 2"
            )
    points, classes = point_rows(file, rows, "line")
    return points, tuple(_CLASSES[int(number or 0)] for number in classes)


def _merged(
    image: Path, read: list[Points], agreement: float
) -> tuple[NDArray[np.float64], tuple[str | None, ...], tuple[str, ...]]:
    if len(read) == 1:
        return *read[0], ()
    import cv2

    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
    width_px = 1 if pixels is None else pixels.shape[1]
    points, classes, left = consensus(read, AGREE_UM / TILE_UM * width_px, agreement)
    note = f"{len(read)} experts: {len(points)} nuclei agreed upon, {left} marked by too few"
    return points, classes, (note,)


def consensus(
    read: Sequence[Points], radius_px: float, share: float
) -> tuple[NDArray[np.float64], tuple[str | None, ...], int]:
    """Merge what several people annotated on the same image.

    People are matched one by one with the nuclei collected so far (one to one, within the
    radius); a nucleus lies at the mean of its marks and has their most frequent class.

    Returns
    -------
    tuple
        (k, 2) points and their classes, where at least ``share`` of the people agree, and the
        number of nuclei that fewer marked.
    """
    marks: list[list[tuple[NDArray[np.float64], str | None]]] = []
    for points, classes in read:
        centres = np.array([np.mean([xy for xy, _ in mark], axis=0) for mark in marks])
        pairs = match_points(centres.reshape(-1, 2), points, radius_px)
        for known, new in pairs:
            marks[known].append((points[new], classes[new]))
        fresh = np.setdiff1d(np.arange(len(points)), pairs[:, 1])
        marks += [[(points[row], classes[row])] for row in fresh]
    kept = [mark for mark in marks if len(mark) >= share * len(read)]
    centres = np.array([np.mean([xy for xy, _ in mark], axis=0) for mark in kept]).reshape(-1, 2)
    names = tuple(_most_frequent([name for _, name in mark]) for mark in kept)
    return centres, names, len(marks) - len(kept)


def _most_frequent(names: list[str | None]) -> str | None:
    return max(dict.fromkeys(names), key=names.count)
