"""Nuclei into a QuPath project through QuPath itself.

Java runs in a process of its own: it starts once per process and cannot be stopped, it prints to
standard output, and what it holds of one image is only given back when it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import nucliseg_qp
from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.outputs import make_folder
from nucliseg_qp.qupath.install import HOW_TO_FIX, find_qupath
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.request import Request, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nucliseg_qp.qupath.geojson import RGB
    from nucliseg_qp.qupath.results import ImageResult, WrittenImage

__all__ = ["check_folder", "java_environment", "last_words", "write_project"]

CHUNK_IMAGES = 25
"""Images one Java process takes: QuPath's memory grows with every image it opens."""
CHUNK_BYTES = 1 << 30
"""Bytes of nuclei one Java process takes, unless a single image has more."""


def write_project(
    root: Path, images: Sequence[ImageResult], classes: Sequence[tuple[str, RGB]]
) -> list[WrittenImage]:
    """Create a QuPath project, or add to one that exists, and put the nuclei into its images.

    An image that is not in the project yet is added.  Nuclei of an earlier run are replaced unless
    somebody reclassified, locked or redrew them; those that somebody deleted stay away.  Every
    image is read again after it was saved, and its nuclei are counted.

    Parameters
    ----------
    root : Path
        Folder of the project; a new project wants an empty one.
    images : sequence of ImageResult
        What to put into it.
    classes : sequence of (str, (int, int, int))
        Names and colours; a class the project has keeps the colour it has there.

    Returns
    -------
    list of WrittenImage
        In the order of ``images``; ``problem`` says why one was left as it was.

    Raises
    ------
    QuPathError
        When there is no QuPath, its process breaks down, or the project is broken, holds images
        that are not local files or leads out of its folder.
    OutputError
        When the folder cannot be written to, or is neither empty nor a project.
    """
    if find_qupath() is None:
        raise QuPathError("QuPath is not found", HOW_TO_FIX)
    check_folder(root)
    written: list[WrittenImage] = []
    for chunk in _chunks(images):
        written += _in_java(Request(root, tuple(chunk), tuple(classes)))
    return written


def check_folder(root: Path) -> None:
    """Refuse a folder that is neither empty nor a sound project, or what a killed run left of one.

    Raises
    ------
    QuPathError
        When the project is broken or leads out of its folder.
    OutputError
        When the folder holds something else or cannot be written to.
    """
    make_folder(root)
    folder = ProjectFolder(root)
    project = ProjectFile(folder)
    ours = folder.manifest(0).parent
    # Desktops leave hidden files in folders that people only looked into.
    foreign = [one.name for one in root.iterdir() if not one.name.startswith(".")]
    if project.is_new and foreign and not ours.is_dir():
        raise OutputError(
            f"{root} is not empty ({foreign[0]}) and holds no project.qpproj",
            "Choose the folder of a project, or a new folder.",
        )


def _chunks(images: Sequence[ImageResult]) -> Iterator[list[ImageResult]]:
    sizes = [sum(part.stat().st_size for part in _existing(image)) for image in images]
    before = [0, *accumulate(sizes)]
    numbered = [
        (max(place // CHUNK_IMAGES, before[place] // CHUNK_BYTES), image)
        for place, image in enumerate(images)
    ]
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [image for _, image in group]


def _existing(image: ImageResult) -> list[Path]:
    return [part for part in image.parts if part.is_file()]


def _in_java(request: Request) -> list[WrittenImage]:
    with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as temporary:
        folder = Path(temporary)
        question, answer, log = (folder / name for name in ("request.json", "answer.json", "log"))
        question.write_bytes(orjson.dumps(request.to_json()))
        module = "nucliseg_qp.qupath.java_process"
        command = [sys.executable, "-m", module, str(question), str(answer)]
        with log.open("wb") as output:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=java_environment(),
                check=False,
            )
        if ended.returncode or not answer.is_file():
            raise QuPathError(
                f"QuPath's process ended with {ended.returncode}: {last_words(log)}",
                "If it was short of memory, set PAQUO_JAVA_OPTS, for example to -Xmx8g.",
            )
        return read_answer(answer)


def java_environment() -> dict[str, str]:
    """Give the environment in which a process of ours with Java starts."""
    # The process must find this very package, also when it runs from a checkout.
    package = str(Path(nucliseg_qp.__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}


def last_words(log: Path) -> str:
    """Give the last line of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else "it said nothing"
