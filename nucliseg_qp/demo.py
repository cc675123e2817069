"""The demonstration: a real and a synthetic image, through to a QuPath project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.annotate import annotate_images
from nucliseg_qp.batch import Job, SilentWatcher
from nucliseg_qp.config import Settings
from nucliseg_qp.detect import detect_images
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.outputs import OutputFolder, make_folder, whole_file
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.qupath.install import choose_writer

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from nucliseg_qp.batch import ImageOutcome, Watcher
    from nucliseg_qp.qupath.install import Writer

__all__ = ["DemoLine", "DemoResult", "run_demo"]

REAL_MPP = 0.5
"""The sample image states no pixel size; 20x fits the size of its nuclei."""
SYNTHETIC_PX = 2048
SYNTHETIC_MPP = 0.25
SYNTHETIC_SEED = 20
SYNTHETIC_NUCLEI_PER_TILE = 300.0


@dataclass(frozen=True)
class DemoLine:
    """Counts of one image beside the truth, where it is known."""

    image: str
    nuclei: int
    true_nuclei: int | None
    positive_percent: float
    true_positive_percent: float | None


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Parameters
    ----------
    lines : list of DemoLine
        One an image.
    project : Path
        Folder of the QuPath project.
    writer : str
        How the project was written.
    pictures : list of Path
        Previews with outlines.
    outcomes : list of ImageOutcome
        How each image ended, in both runs.
    """

    lines: list[DemoLine]
    project: Path
    writer: Writer
    pictures: list[Path]
    outcomes: list[ImageOutcome]


def run_demo(folder: Path, watcher: Watcher | None = None) -> DemoResult:
    """Make the images, find their nuclei, and write results and a QuPath project.

    Parameters
    ----------
    folder : Path
        Gets ``images``, ``results`` and ``project``.
    watcher : Watcher, optional
        Told about the progress.

    Raises
    ------
    OutputError
        When the folder cannot be written to.
    """
    watcher = watcher or SilentWatcher()
    make_folder(folder / "images")
    real = folder / "images" / "ihc_colon.ome.tif"
    synthetic = folder / "images" / "synthetic_ki67.ome.tif"
    watcher.stage("making the images", 2)
    _write_real(real)
    watcher.advance()
    truth = _write_synthetic(synthetic)
    watcher.advance()
    job, writer = Job(Engine.start(Settings()), Scope()), choose_writer()
    found = detect_images([real, synthetic], folder / "results", job, watcher)
    put = annotate_images([real, synthetic], folder / "project", job, writer, watcher)
    out = OutputFolder(folder / "results")
    return DemoResult(
        lines=[_line(found[0], None), _line(found[1], truth)],
        project=folder / "project",
        writer=writer,
        pictures=[out.preview("ihc_colon"), out.preview("synthetic_ki67")],
        outcomes=[*found, *put],
    )


def _write_real(path: Path) -> None:
    import tifffile
    from skimage.data import immunohistochemistry

    size = {"PhysicalSizeX": REAL_MPP, "PhysicalSizeY": REAL_MPP}
    unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    with whole_file(path) as partial:
        tifffile.imwrite(
            partial,
            immunohistochemistry(),  # type: ignore[no-untyped-call]
            ome=True,
            photometric="rgb",
            tile=(256, 256),
            compression="zlib",
            metadata={"axes": "YXS", **size, **unit},
        )


def _write_synthetic(path: Path) -> NDArray[np.int8]:
    from nucliseg_qp.training.slides import write_slide

    truth = write_slide(
        path, SYNTHETIC_PX, SYNTHETIC_PX, SYNTHETIC_MPP, SYNTHETIC_SEED, SYNTHETIC_NUCLEI_PER_TILE
    )
    x, y = truth.points.T
    inside = (x >= 0) & (x < SYNTHETIC_PX) & (y >= 0) & (y < SYNTHETIC_PX)
    classes: NDArray[np.int8] = truth.classes[inside]
    return classes


def _line(outcome: ImageOutcome, truth: NDArray[np.int8] | None) -> DemoLine:
    return DemoLine(
        image=outcome.path.name,
        nuclei=outcome.nuclei,
        true_nuclei=None if truth is None else len(truth),
        positive_percent=outcome.scores.positive_percent,
        true_positive_percent=None if truth is None else float(100 * (truth > 0).mean()),
    )
