"""Make the sample projects: images with known truth, a QuPath project with the nuclei found.

    python sample_projects/make_samples.py er_scores FOLDER
    python sample_projects/make_samples.py --renew

The first form makes one anew elsewhere, through QuPath where it is installed.  The second, which
needs QuPath, renews the projects and expected counts that are kept here; run it after a change of
the model or of a default.  Everything is made from seeds: images are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucliseg_qp.annotate import annotate_images
from nucliseg_qp.batch import Job
from nucliseg_qp.config import load_settings
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.projects.job import EntryOutcome, ProjectJob
from nucliseg_qp.projects.run import annotate_project
from nucliseg_qp.projects.samples import PLACE, WITH_PLACE
from nucliseg_qp.projects.scope import ProjectScope
from nucliseg_qp.quantify.scores import GRADES, score_counts
from nucliseg_qp.qupath.install import choose_writer
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.training.looks import Look, plain_look
from nucliseg_qp.training.slides import SlideTruth, write_slide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nucliseg_qp.batch import ImageOutcome
    from nucliseg_qp.qupath.install import Writer

__all__ = ["SAMPLES", "SampleImage", "SampleProject", "expected_path", "make_sample"]

HERE = Path(__file__).parent
MPP = 0.25
MATCH_PX = 12.0
"""A nucleus that was found is a drawn one when their centres are no farther apart."""
CIRCLE_PX = 11.0
"""Radius with which the reviewer draws a nucleus that was missed."""
KEPT = ("project.qpproj", "classifiers/*", "data/*/data.qpdata", "data/*/summary.json",
        "nucliseg/*.json", "nucliseg/*.ledger.gz", "nucliseg/results/*.json",
        "nucliseg/corrections/*")  # fmt: skip
"""What a project needs; thumbnails and the like QuPath makes again."""


@dataclass(frozen=True)
class SampleImage:
    """One image to draw: ``write_slide``'s seed and density, and what differs in its look."""

    name: str
    seed: int
    nuclei_per_tile: float
    look: dict[str, Any] = field(default_factory=dict)
    size_px: int = 768


@dataclass(frozen=True)
class SampleProject:
    """Images, the palette they are classified by, and whether somebody reviewed them."""

    images: tuple[SampleImage, ...]
    palette: str = "hsv"
    reviewed: bool = False


def _ki67(name: str, seed: int, density: float, positive: float) -> SampleImage:
    return SampleImage(name, seed, density, {"positive_fraction": positive})


def _er(name: str, seed: int, positive: float, *grades: float) -> SampleImage:
    look = {"positive_fraction": positive, "grade_mix": grades, "jpeg_quality": 0}
    return SampleImage(name, seed, 300, look, size_px=576)


_PALE = {"positive_fraction": 0.4, "dab_od": ((0.1, 0.14), (0.14, 0.2), (0.2, 0.6))}
SAMPLES: Mapping[str, SampleProject] = {
    "ki67_synthetic": SampleProject(
        (
            _ki67("low", 101, 200, 0.08),
            _ki67("medium", 102, 300, 0.25),
            _ki67("high", 103, 400, 0.6),
        )
    ),
    "er_scores": SampleProject(
        (
            _er("negative", 201, 0.03, 1, 0, 0),
            _er("weak", 202, 0.5, 0.8, 0.2, 0),
            _er("moderate", 203, 0.75, 0.25, 0.6, 0.15),
            _er("strong", 204, 0.95, 0.05, 0.25, 0.7),
        ),
        palette="dab-intensity",
    ),
    "review_round_trip": SampleProject(
        tuple(SampleImage(n, s, 350, _PALE, 576) for n, s in (("first", 301), ("second", 302))),
        palette="dab",
        reviewed=True,
    ),
}
"""By name; a folder of that name holds README, expected counts and project."""


def expected_path(sample: str) -> Path:
    """Give where the counts of a sample are kept."""
    return HERE / sample / "expected_counts.json"


def make_sample(sample: str, folder: Path, writer: Writer | None = None) -> dict[str, Any]:
    """Write ``images`` and ``project`` into a folder.

    Parameters
    ----------
    sample : str
        One of `SAMPLES`.
    folder : Path
        Where to.
    writer : {"paquo", "files"}, optional
        How the project is written; through QuPath where it is found.  Only then is it reviewed.

    Returns
    -------
    dict
        By image file: ``truth`` and ``found``, each the number of nuclei of every class, for graded
        classes ``truth_scores`` and ``found_scores``, of a reviewed sample what was ``changed``.
    """
    wanted, writer = SAMPLES[sample], writer or choose_writer()
    images, project = make_folder(folder / "images"), folder / "project"
    truths = {images / f"{one.name}.ome.tif": one for one in wanted.images}
    drawn = {path: _draw(path, one) for path, one in truths.items()}
    settings = load_settings(None, {"classes": {"palette": wanted.palette}})
    engine = Engine.start(settings)
    outcomes: Sequence[ImageOutcome] = (
        _annotate_project(project, list(drawn), engine)
        if writer == "paquo"
        else annotate_images(list(drawn), project, Job(engine), writer)
    )
    counts = {
        path.name: _counts(truth, engine.palette.names, outcome.counts)
        for (path, truth), outcome in zip(drawn.items(), outcomes, strict=True)
    }
    if wanted.reviewed and writer == "paquo":
        changed = _review(project, {path.name: truth for path, truth in drawn.items()})
        counts = {name: {**one, "changed": changed[name]} for name, one in counts.items()}
    return counts


def _annotate_project(root: Path, images: list[Path], engine: Engine) -> list[EntryOutcome]:
    """Make a project of images and find the nuclei of each, as a whole project is annotated."""
    make_folder(root)
    project = ProjectFile(ProjectFolder(root))
    for path in images:
        project.add(path)
    project.save()
    return annotate_project(ProjectJob(root, engine, ProjectScope()))


def _draw(path: Path, image: SampleImage) -> SlideTruth:
    look: Look = replace(plain_look(), **image.look)
    size = image.size_px
    return write_slide(path, size, size, MPP, image.seed, image.nuclei_per_tile, look)


def _counts(
    truth: SlideTruth, names: tuple[str, ...], outcome: Mapping[str, int]
) -> dict[str, Any]:
    x, y = truth.points.T
    inside = (x >= 0) & (x < truth.width_px) & (y >= 0) & (y < truth.height_px)
    grades = truth.classes[inside].clip(max=len(names) - 1)
    drawn = {name: int((grades == number).sum()) for number, name in enumerate(names)}
    found = {name: outcome.get(name, 0) for name in names}
    counts: dict[str, Any] = {"truth": drawn, "found": found}
    if set(GRADES) <= set(names):
        counts |= {"truth_scores": _scores(drawn), "found_scores": _scores(found)}
    return counts


def _scores(counts: dict[str, int]) -> dict[str, float]:
    scores = score_counts(counts)
    return {
        "positive_percent": round(scores.positive_percent, 1),
        "h_score": round(scores.h_score, 1),
        "allred_score": scores.allred_score,
    }


def _review(root: Path, truths: dict[str, SlideTruth]) -> dict[str, dict[str, int]]:
    """Do in QuPath what a reviewer who knows the truth does, and send the corrections.

    In the left half of each image, which is named Reviewed, every nucleus is put right.
    """
    from paquo.projects import QuPathProject

    from nucliseg_qp.qupath.worker import QuPathWorker
    from nucliseg_qp.review.collect import sent_files
    from nucliseg_qp.review.corrections import read_corrections

    with QuPathProject(root / "project.qpproj", mode="r+") as project:
        classes = {one.name: one for one in project.path_classes}
        entries = {Path(image.uri).name: image for image in project.images}
        for name, image in entries.items():
            _correct(image.hierarchy, truths[name], classes)
        project.save()
    changed = {}
    make_folder(sent_files(root))
    with QuPathWorker(root) as worker:
        for name, image in entries.items():
            file = sent_files(root) / f"{image.entry_id}.geojson"
            worker.corrections(int(image.entry_id), file)
            changed[name] = dict(read_corrections(file).counts)
    return changed


def _correct(hierarchy: Any, truth: SlideTruth, classes: dict[str, Any]) -> None:  # noqa: ANN401
    import numpy as np
    import shapely

    middle, height = truth.width_px / 2, truth.height_px
    area = hierarchy.add_annotation(roi=shapely.box(0, 0, middle, height))
    area.name = "Reviewed"
    right = ["Negative" if grade == 0 else "Positive" for grade in truth.classes.tolist()]
    missed = {
        row
        for row, (x, y) in enumerate(truth.points.tolist())
        if 0 <= x < middle and 0 <= y < height
    }
    for nucleus in list(hierarchy.detections):
        centre = np.array(nucleus.roi.centroid.coords[0])
        away = np.hypot(*(truth.points - centre).T)
        nearest = int(away.argmin())
        missed.discard(nearest)
        if centre[0] >= middle:
            continue
        if away[nearest] > MATCH_PX:
            hierarchy.detections.discard(nucleus)
        elif nucleus.path_class.name != right[nearest]:
            nucleus.update_path_class(classes[right[nearest]])
    for row in sorted(missed):
        circle = shapely.Point(truth.points[row]).buffer(CIRCLE_PX)
        hierarchy.add_detection(roi=circle, path_class=classes[right[row]])


def renew(sample: str) -> dict[str, Any]:
    """Make a sample anew and keep it here, its place written as `PLACE`; give its counts."""
    # QuPath writes this path into its binary files: it is the same whoever renews the sample.
    built = Path(tempfile.gettempdir()).resolve() / "nucliseg-qp-samples" / sample
    shutil.rmtree(built, ignore_errors=True)
    counts = make_sample(sample, built, "paquo")
    _write(expected_path(sample), json.dumps(counts, indent=2) + "\n")
    kept = [path for pattern in KEPT for path in (built / "project").glob(pattern)]
    for folder in ("images", "project"):
        shutil.rmtree(HERE / sample / folder, ignore_errors=True)
    for path in (*built.glob("images/*"), *kept):
        target = HERE / sample / path.relative_to(built)
        make_folder(target.parent)
        shutil.copyfile(path, target)
    for path in (HERE / sample).rglob("*.*"):
        if path.suffix in WITH_PLACE:
            text = path.read_text(encoding="utf-8")
            # Java writes file:/tmp, Python file:///tmp.
            for uri in (built.as_uri(), built.as_uri().replace("file://", "file:")):
                text = text.replace(uri, PLACE)
            _write(path, text)
    return counts


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def main() -> None:
    """Make one sample, or renew some or all, and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sample", choices=SAMPLES, nargs="?", help="all when renewing")
    parser.add_argument("folder", type=Path, nargs="?", help="to make it in")
    parser.add_argument("--renew", action="store_true", help="renew what is kept here")
    args = parser.parse_args()
    if not args.renew and not args.folder:
        parser.error("give a sample and a folder, or --renew")
    if args.renew:
        counts: dict[str, Any] = {
            name: renew(name) for name in ([args.sample] if args.sample else SAMPLES)
        }
    else:
        counts = make_sample(args.sample, args.folder)
    print(json.dumps(counts, indent=2))


if __name__ == "__main__":
    main()
