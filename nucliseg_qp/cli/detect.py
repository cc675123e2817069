"""``nucliseg-qp detect``: images in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.cli.options import (
    AsJson,
    Config,
    DryRun,
    Images,
    ProfileFile,
    RegionText,
    SaidSettings,
    SlideMpp,
    Within,
)

__all__ = ["detect"]


def detect(
    images: Images,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    slide_mpp: SlideMpp = None,
    region: RegionText = None,
    within: Within = None,
    stages: Path | None = None,
    config: Config = None,
    profile: ProfileFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    settings: SaidSettings | None = None,
) -> int:
    """Find nuclei and write them as files, for QuPath and for tables.

    Example: `nucliseg-qp detect slide.svs -o results --region 2000,3000,4096,4096`

    Writes `nuclei/<image>.geojson.gz` (drag it onto the image in QuPath),
    `tables/<image>.parquet`, `previews/<image>.jpg`, `summary.csv` and `run.json`. The last two
    tell about this run only; those of earlier runs go to `earlier`.

    Parameters
    ----------
    images
        Whole-slide images, TIFF, OME-TIFF, PNG or JPEG; 8-bit RGB brightfield.
    out
        Folder for the results; made if it does not exist.
    stages
        Also write the picture of each step for the densest tile of the first image to this
        folder.
    """
    from nucliseg_qp.batch import named_images
    from nucliseg_qp.cli import jobs, show
    from nucliseg_qp.cli.progress import BatchView
    from nucliseg_qp.detect import detect_images

    images = list(named_images(images).values())
    job = jobs.open_job(settings, config, slide_mpp, region, within, jobs.begin_profile(profile))
    if dry_run:
        return jobs.show_plan(images, job, as_json)
    show.engine_line(job.engine)
    with BatchView(len(images)) as view:
        outcomes = detect_images(images, out, job, view)
    jobs.show_outcomes(outcomes, as_json, out=out)
    read = [outcome.path for outcome in outcomes if outcome.status != "failed"]
    if read:
        show.note(f"results are in {out}")
    if (out / "earlier").is_dir():
        show.note(f"it also holds files of earlier runs; {out / 'earlier'} has their records")
    jobs.end_profile(profile, job)
    if stages is not None and read:
        jobs.write_stages(read[0], stages, job)
    return jobs.worst_code(outcomes)
