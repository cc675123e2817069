"""Training data from whatever is at hand: tell the format, read it, make tiles of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.outputs import image_stem
from nucliseg_qp.training.convert_endonuke import endonuke_root, read_endonuke
from nucliseg_qp.training.convert_points import read_masks, read_points
from nucliseg_qp.training.sources import AnnotatedImage, find_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from nucliseg_qp.qupath.truth import QuPathTruth

__all__ = ["Format", "each_once", "format_of", "read_source"]

Format = Literal["endonuke", "points", "masks", "geojson", "qupath"]

_FORMATS = "endonuke, points, masks, geojson or qupath"


def format_of(source: Path) -> Format:
    """Tell the format of annotations by what lies there.

    Raises
    ------
    InputError
        When it is missing, or is none of those that can be read.
    """
    if not source.exists():
        raise InputError(f"there is no {source}", "Check the path")
    checks = _OF_FILE if source.is_file() else _OF_FOLDER
    for kind, fits in checks.items():
        if fits(source):
            return kind
    raise InputError(f"{source} is none of {_FORMATS}", "See the page on training data")


def _ends(*endings: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(endings)


_OF_FILE: dict[Format, Callable[[Path], bool]] = {
    "qupath": _ends(".qpproj"),
    "geojson": _ends(".geojson", ".geojson.gz"),
    "points": _ends(".json", ".csv", ".tsv"),
}
_OF_FOLDER: dict[Format, Callable[[Path], bool]] = {
    "qupath": lambda folder: (folder / "project.qpproj").is_file(),
    "endonuke": lambda folder: endonuke_root(folder) is not None,
    "points": lambda folder: any((*folder.glob("points.json"), *folder.glob("*.csv"))),
    "masks": lambda folder: (folder / "masks").is_dir(),
    "geojson": lambda folder: bool(_geojson_files(folder)),
}


def read_source(
    source: Path,
    kind: Format | None = None,
    images: Path | None = None,
    experts: Sequence[str] = (),
    area: str | None = None,
) -> Iterator[AnnotatedImage]:
    """Read the annotated images of one source.

    Parameters
    ----------
    source : Path
        File or folder.
    kind : str, optional
        Its format; told by `format_of` when not given.
    images : Path, optional
        Folder of the images, if not beside the annotations.
    experts : sequence of str
        Of an EndoNuke release, only these people.
    area : str, optional
        Of QuPath's annotations, only those with this name or class.

    Raises
    ------
    InputError
        With the file's name when something is broken.
    QuPathError
        When a project cannot be read.
    UsageError
        When an option does not fit the format.
    """
    kind = kind or format_of(source)
    if experts and kind != "endonuke":
        raise UsageError(f"--experts is for EndoNuke, {source} is {kind}", "Leave it out")
    if area is not None and kind not in ("geojson", "qupath"):
        raise UsageError(f"--areas is for QuPath's files, {source} is {kind}", "Leave it out")
    if kind == "endonuke":
        return read_endonuke(source, experts)
    if kind == "points":
        return read_points(source, images)
    if kind == "masks":
        return read_masks(source, images)
    return _from_qupath(source, kind, images, area)


def each_once(images: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
    """Give annotated images on, and stop at one that came before.

    Its tiles would be written twice, with labels that contradict each other.

    Raises
    ------
    InputError
        With the image's name and both annotations.
    """
    seen: dict[Path, Path] = {}
    for image in images:
        place = image.path.resolve()
        if place in seen:
            where = " and in ".join(dict.fromkeys((str(seen[place]), str(image.annotation))))
            twice = "" if " and in " in where else "twice "
            raise InputError(f"{image.path} is annotated {twice}in {where}", "Name each image once")
        seen[place] = image.annotation
        yield image


def _from_qupath(
    source: Path, kind: Format, images: Path | None, area: str | None
) -> Iterator[AnnotatedImage]:
    from nucliseg_qp.qupath.truth import read_project, read_truth

    if kind == "qupath":
        root = source.parent if source.is_file() else source
        yield from (_annotated(truth, truth.image) for truth in read_project(root, area))
        return
    files = [source] if source.is_file() else _geojson_files(source)
    for file in files:
        folders = [images] if images else [file.parent, file.parent / "images", source / "images"]
        image = find_image(folders, image_stem(file), file)
        yield _annotated(read_truth(file, area), image)


def _annotated(truth: QuPathTruth, image: Path | None) -> AnnotatedImage:
    if image is None:
        raise InputError(f"{truth.file} belongs to no image file", "Name its image")
    return AnnotatedImage(
        image,
        truth.file,
        truth.points,
        truth.classes,
        areas=truth.areas,
        size_px=truth.size_px,
        notes=truth.notes,
        left_out=truth.left_out,
        remarks=truth.remarks,
    )


def _geojson_files(folder: Path) -> list[Path]:
    places = (folder, folder / "annotations", folder / "geojson", folder / "nuclei")
    found = {path for place in places for path in place.glob("*.geojson*") if path.is_file()}
    return sorted(path for path in found if path.name.endswith((".geojson", ".geojson.gz")))
