"""Sample projects: inside the wheel when installed, beside the package in a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.outputs import make_folder, whole_file

__all__ = ["PLACE", "WITH_PLACE", "Sample", "copy_sample", "list_samples"]

PLACE = "file:///nucliseg-qp-sample"
"""Stands in the projects for the folder that holds ``images`` and ``project``."""

WITH_PLACE = (".qpproj", ".json", ".geojson")
"""Endings of the files in which it stands."""

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "sample_projects", _PACKAGE.parent / "sample_projects")


@dataclass(frozen=True)
class Sample:
    """A sample project as people see it.

    Parameters
    ----------
    name : str
        By which it is copied.
    description : str
        The first sentence of its README.
    images : int
        Number of images.
    size_bytes : int
        Of all files.
    """

    name: str
    description: str
    images: int
    size_bytes: int


def list_samples() -> list[Sample]:
    """Describe the sample projects in the words of their own READMEs."""
    return [_describe(folder) for folder in _sample_folders().values()]


def copy_sample(name: str, folder: Path | str) -> Path:
    """Unpack a sample project; QuPath opens it where it is put.

    Parameters
    ----------
    name : str
        One of `list_samples`.
    folder : Path or str
        New or empty folder for its ``images``, ``project``, ``README.md`` and
        ``expected_counts.json``.

    Returns
    -------
    Path
        ``project.qpproj``.

    Raises
    ------
    UsageError
        When there is no such sample.
    OutputError
        When the folder is not empty or cannot be written to.

    Examples
    --------
    >>> from nucliseg_qp import copy_sample
    >>> project = copy_sample("er_scores", "my_er_scores")
    >>> sorted(path.name for path in (project.parents[1] / "images").iterdir())
    ['moderate.ome.tif', 'negative.ome.tif', 'strong.ome.tif', 'weak.ome.tif']
    """
    known = _sample_folders()
    if name not in known:
        raise UsageError(f"there is no sample {name!r}", f"There are: {', '.join(known)}.")
    target = make_folder(Path(folder)).resolve()
    if any(target.iterdir()):
        raise OutputError(f"{folder} is not empty", "Name a new folder.")
    for path in _files(known[name]):
        content = path.read_bytes()
        if path.suffix in WITH_PLACE:
            content = content.replace(PLACE.encode(), target.as_uri().encode())
        with whole_file(target / path.relative_to(known[name])) as partial:
            partial.write_bytes(content)
    return target / "project" / "project.qpproj"


def _sample_folders() -> dict[str, Path]:
    found = (path.parents[1] for one in _FOLDERS for path in one.glob("*/project/project.qpproj"))
    return {folder.name: folder for folder in sorted(found)}


def _describe(folder: Path) -> Sample:
    title, text, *_ = (folder / "README.md").read_text(encoding="utf-8").split("\n\n")
    return Sample(
        title.removeprefix("# "),
        " ".join(text.split()).partition(". ")[0].rstrip("."),
        sum(1 for _ in (folder / "images").iterdir()),
        sum(path.stat().st_size for path in _files(folder)),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
