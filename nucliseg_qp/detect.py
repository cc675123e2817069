"""``detect``: files for those who want files."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from nucliseg_qp.batch import SilentWatcher, each_image, named_images, numbered
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.fingerprint import fingerprint
from nucliseg_qp.outputs import OutputFolder, image_stem, make_folder, whole_file
from nucliseg_qp.pictures.preview import Preview
from nucliseg_qp.provenance import engine_record
from nucliseg_qp.quantify.table import TableWriter, write_summary
from nucliseg_qp.qupath.geojson import write_geojson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.batch import ImageOutcome, Job, Watcher
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Analysis, Engine

__all__ = ["detect_images"]


def detect_images(
    paths: Sequence[Path], folder: Path, job: Job, watcher: Watcher | None = None
) -> list[ImageOutcome]:
    """Analyse images and write files for each: nuclei, table, preview; then summary and run.

    Parameters
    ----------
    paths : sequence of Path
        Images.
    folder : Path
        Output folder; see `nucliseg_qp.outputs.OutputFolder`.
    job : Job
        Engine and scope.
    watcher : Watcher, optional
        Told about the progress.

    Raises
    ------
    OutputError
        When the folder cannot be written to.
    UsageError
        When two images have the same name.
    """
    named = named_images(paths)
    out = OutputFolder(make_folder(folder))
    started = time.monotonic()

    def work(analysis: Analysis, outcome: ImageOutcome) -> None:
        _write_image(analysis, outcome, out, job.engine)

    outcomes = each_image(list(named.values()), job, work, watcher or SilentWatcher())
    write_summary(out.summary, [outcome.row() for outcome in outcomes])
    _write_run(out.run, job, outcomes, time.monotonic() - started)
    return outcomes


def _write_image(
    analysis: Analysis, outcome: ImageOutcome, out: OutputFolder, engine: Engine
) -> None:
    path, settings = analysis.slide.path, engine.settings.output
    stem = image_stem(path)
    preview = Preview(analysis.slide, analysis.bounds, engine.palette.classes, settings.preview_px)
    with TableWriter(out.table(stem), path.name) as table:

        def parts() -> Iterator[tuple[Nuclei, list[str]]]:
            for nuclei, ids in numbered(analysis, outcome):
                table.add(nuclei, ids)
                preview.add(nuclei)
                yield nuclei, ids

        colours = [(one.name, one.color_rgb) for one in engine.palette.classes]
        write_geojson(out.nuclei(stem), parts(), colours, shard=settings.shard)
    preview.save(out.preview(stem))


def _write_run(path: Path, job: Job, outcomes: list[ImageOutcome], seconds: float) -> None:
    record = engine_record(job.engine)
    record["seconds"] = round(seconds, 3)
    record["classes"] = [
        {"name": one.name, "color": list(one.color_rgb)} for one in job.engine.palette.classes
    ]
    record["images"] = [
        {
            "path": str(outcome.path.resolve()),
            "status": outcome.status,
            "problem": outcome.problem,
            "counts": dict(outcome.counts),
            "seconds": round(outcome.seconds, 3),
            "fingerprint": fingerprint(outcome.path),
            "geometry": _geometry(job, outcome),
            **outcome.facts,
        }
        for outcome in outcomes
    ]
    with whole_file(path) as partial:
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def _geometry(job: Job, outcome: ImageOutcome) -> Mapping[str, Any] | None:
    """Give the part that was analysed, None for the whole image or when it failed."""
    if "width_px" not in outcome.facts:
        return None
    image = Region(0, 0, outcome.facts["width_px"], outcome.facts["height_px"])
    return job.scope.geometry(image)
