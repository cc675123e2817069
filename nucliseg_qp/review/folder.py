"""The review file: a folder with ``review.json`` and one GeoJSON an image, that travels.

``review.json`` holds the checksum of every GeoJSON, so that one that was edited or belongs to
another review is refused by its name.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.errors import InputError, OutputError
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.verdicts import CHANGES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["Review", "read_review", "write_review"]

FORMAT, VERSION = "nucliseg-qp review", 1
_AGAIN = "Collect it again with `nucliseg-qp review collect`."


@dataclass(frozen=True)
class Review:
    """What one person decided in one project.

    Parameters
    ----------
    reviewer : str
        Who.
    collected : str
        When, ISO 8601.
    project : str
        Name of the project's folder.
    images : tuple of ImageReview
        Those with nuclei of a run.
    notes : tuple of str
        What a person should know.
    problems : tuple of str
        Just collected: why images could not be read; in the folder they are among the notes.
    conflicts : tuple of dict
        Of a merged review: what was left out because two people disagree.
    """

    reviewer: str
    collected: str
    project: str
    images: tuple[ImageReview, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    conflicts: tuple[dict[str, Any], ...] = field(default=())

    @property
    def looked_at(self) -> int:
        """Number of nuclei somebody decided about."""
        return sum(len(image) for image in self.images)


def write_review(folder: Path, review: Review, files: Sequence[Path]) -> Path:
    """Write a review folder; ``files`` are the corrections of its images, in their order.

    Returns
    -------
    Path
        ``review.json``.

    Raises
    ------
    OutputError
        When the folder holds something else, or cannot be written.
    """
    target = folder / "review.json"
    if folder.is_dir() and any(folder.iterdir()) and not target.is_file():
        raise OutputError(f"{folder} is not an empty folder", "Choose a new one with -o.")
    make_folder(folder / "images")
    listed = []
    for image, file in zip(review.images, files, strict=True):
        name = f"images/{image.entry}.geojson"
        with whole_file(folder / name) as partial:
            shutil.copyfile(file, partial)
        listed.append(_listed(image, name, _sha256(file)))
    with whole_file(target) as partial:
        partial.write_bytes(orjson.dumps(_content(review, listed), option=orjson.OPT_INDENT_2))
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(review: Review, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "program": f"nucliseg_qp {__version__}",
        "reviewer": review.reviewer,
        "collected": review.collected,
        "project": review.project,
        "images": listed,
        "notes": [*review.notes, *review.problems],
        "conflicts": list(review.conflicts),
    }


def _listed(image: ImageReview, file: str, sha256: str) -> dict[str, Any]:
    names = {one.id: one.name for one in image.annotations}
    decided = Counter(zip(image.annotation.tolist(), image.change.tolist(), strict=True))
    annotations = [
        {
            "id": one,
            "name": names.get(one, ""),
            "counts": {change: decided[one, change] for change in CHANGES},
        }
        for one in dict.fromkeys(image.annotation.tolist())
    ]
    return {
        "entry": image.entry,
        "image": image.name,
        "uris": list(image.uris),
        "width_px": image.width_px,
        "height_px": image.height_px,
        "ledger": image.ledger,
        "nuclei_of_run": image.nuclei_of_run,
        "looked_at": len(image),
        "not_looked_at": image.nuclei_of_run - int((image.change != "added").sum()),
        "reviewed_areas": len(image.areas),
        "counts": image.counts,
        "annotations": annotations,
        "file": file,
        "sha256": sha256,
    }


def read_review(folder: Path) -> Review:
    """Read a review folder, or the ``review.json`` in it.

    Raises
    ------
    InputError
        Naming the file, when it is missing, of another format or version, or was edited.
    """
    path = folder if folder.name == "review.json" else folder / "review.json"
    content = _load(path)
    try:
        images = tuple(_image(path.parent, one) for one in content["images"])
        return Review(
            reviewer=str(content["reviewer"]),
            collected=str(content["collected"]),
            project=str(content["project"]),
            images=images,
            notes=tuple(str(note) for note in content.get("notes", ())),
            conflicts=tuple(content.get("conflicts", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!r})", _AGAIN) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path.parent} is no review: it has no review.json",
            "Give a folder that `nucliseg-qp review collect` wrote.",
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", _AGAIN) from None
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error})", _AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a review of this program", _AGAIN)
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} is of version {content.get('version')!r}, this program reads {VERSION}",
            "Update nucliseg-qp, or collect it again.",
        )
    return content


def _image(folder: Path, listed: dict[str, Any]) -> ImageReview:
    path = folder / str(listed["file"])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} lies outside of the review", _AGAIN)
    try:
        found = _sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", _AGAIN) from None
    if found != listed["sha256"]:
        raise InputError(f"{path} was edited after it was collected", _AGAIN)
    image = read_corrections(path)
    if (image.entry, image.ledger) != (listed["entry"], listed["ledger"]):
        raise InputError(f"{path} belongs to another image or run", _AGAIN)
    return image
