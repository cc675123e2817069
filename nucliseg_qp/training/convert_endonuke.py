"""The EndoNuke release (Naumov et al., Data 2022, 7(6):75), as its authors' own programs read it.

``dataset/images/<id>.png`` are tiles 100 um wide; ``dataset/labels/bulk/<expert>/<id>.txt`` holds
one expert's points, and ``dataset/labels/agreement/<study>/<expert>/<id>.txt`` those of several
experts on the same tile, some of whom are in two studies. A line is ``x y class``, in pixels;
class 0 is stroma, 1 epithelium, 2 other. Lists in ``master_ymls`` only repeat which files belong
together and are not needed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.sources import IMAGE_SUFFIXES, AnnotatedImage, find_image, point_rows

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
People = dict[str, "list[Path]"]
"""Files of each person on a tile: one a study."""


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
        Where several experts annotated a tile, a nucleus counts when more than this share of
        them marked it. What one person marked in any of several readings is one mark.

    Raises
    ------
    InputError
        With the file's name when a line is broken, a class unknown or an image missing.
    UsageError
        When an expert is not in the release.
    """
    root = endonuke_root(folder)
    if root is None:
        raise InputError(f"{folder} is not an EndoNuke release", "It needs images/ and labels/")
    every = _by_tile(root / "labels")
    _check_experts(root, every, experts)
    files = {name: _chosen(people, experts) for name, people in every.items()}
    left_out = _left_out(root / "images", files)
    for name in sorted((n for n, people in files.items() if people), key=lambda n: (len(n), n)):
        labels = list(files[name].values())
        image = find_image([root / "images"], name, labels[0][0])
        read = [[_read(file) for file in person] for person in labels]
        points, classes, notes = _merged(image, read, agreement)
        yield AnnotatedImage(
            image,
            labels[0][0],
            points,
            classes,
            width_um=TILE_UM,
            notes=notes,
            left_out=left_out,
        )
        left_out = {}


def _by_tile(folder: Path) -> dict[str, People]:
    found: dict[str, People] = defaultdict(dict)
    for file in sorted(folder.rglob("*.txt")):
        found[file.stem].setdefault(file.parent.name, []).append(file)
    return found


def _check_experts(root: Path, files: dict[str, People], experts: Sequence[str]) -> None:
    known = {person for people in files.values() for person in people}
    missing = [person for person in experts if person not in known]
    if missing:
        raise UsageError(
            f"--experts {' '.join(missing)}: not in {root / 'labels'}",
            f"It has {', '.join(sorted(known))}",
        )


def _chosen(people: People, experts: Sequence[str]) -> People:
    return {person: files for person, files in people.items() if not experts or person in experts}


def _left_out(images: Path, files: dict[str, People]) -> dict[str, int]:
    tiles = {path.stem for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    counted = {
        "tiles that only other experts marked": sum(not people for people in files.values()),
        "images without labels": len(tiles - files.keys()),
    }
    return {reason: number for reason, number in counted.items() if number}


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
    image: Path, read: list[list[Points]], agreement: float
) -> tuple[NDArray[np.float64], tuple[str | None, ...], tuple[str, ...]]:
    """Merge the readings of each person, then what the people agree upon."""
    if len(read) == len(read[0]) == 1:
        return *read[0][0], ()
    import cv2

    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
    width_px = 1 if pixels is None else pixels.shape[1]
    radius_px = AGREE_UM / TILE_UM * width_px
    people = [consensus(readings, radius_px, 0.0)[:2] for readings in read]
    if len(people) == 1:
        return *people[0], (f"{len(read[0])} readings of one expert were put together",)
    points, classes, left = consensus(people, radius_px, agreement)
    note = f"{len(people)} experts: {len(points)} nuclei agreed upon, {left} marked by too few"
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
        (k, 2) points and their classes, where more than ``share`` of the people agree, and the
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
    kept = [mark for mark in marks if len(mark) > share * len(read)]
    centres = np.array([np.mean([xy for xy, _ in mark], axis=0) for mark in kept]).reshape(-1, 2)
    names = tuple(_most_frequent([name for _, name in mark]) for mark in kept)
    return centres, names, len(marks) - len(kept)


def _most_frequent(names: list[str | None]) -> str | None:
    return max(dict.fromkeys(names), key=names.count)
