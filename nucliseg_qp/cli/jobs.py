"""From options to a job, from a job to what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.config import Settings, load_settings
from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nucliseg_qp.batch import ImageOutcome, Job
    from nucliseg_qp.profile import Profile

__all__ = [
    "begin_profile",
    "end_profile",
    "merge_settings",
    "open_job",
    "plan_lines",
    "worst_code",
    "write_stages",
]


def open_job(
    settings: Settings | None,
    config: Path | None,
    slide_mpp: float | None,
    region: str | None,
    within: Path | None,
    profile: Profile | None = None,
) -> Job:
    """Merge settings, read the scope, load the engine: everything that can be wrong at once."""
    from nucliseg_qp.batch import Job
    from nucliseg_qp.geometry import Region
    from nucliseg_qp.images.calibration import user_calibration
    from nucliseg_qp.images.scope import Scope
    from nucliseg_qp.images.within import read_within
    from nucliseg_qp.pipeline import Engine

    merged = merge_settings(settings, config)
    if slide_mpp is not None:
        user_calibration(slide_mpp)
    scope = Scope(
        None if region is None else Region.from_text(region),
        None if within is None else read_within(within),
    )
    if profile is None:
        return Job(Engine.start(merged), scope, slide_mpp)
    with profile.stage("start of the engine"):
        engine = Engine.start(merged)
    return Job(engine, scope, slide_mpp, profile)


def begin_profile(path: Path | None) -> Profile | None:
    """Begin to measure when a file for it is given."""
    from nucliseg_qp.profile import Profile

    return None if path is None else Profile()


def end_profile(path: Path | None, job: Job) -> None:
    """Write what was measured, if anything was."""
    if path is not None and job.profile is not None:
        job.profile.write(path, job.engine)


def merge_settings(settings: Settings | None, config: Path | None) -> Settings:
    """Lay what was said by flag or environment over the file, and that over the defaults."""
    said = settings.model_dump(exclude_unset=True) if settings is not None else {}
    return load_settings(config, said)


def plan_lines(images: Sequence[Path], job: Job) -> Iterator[str]:
    """Give the merged settings and what would be done, line by line."""
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.pipeline import Analysis

    yield job.engine.settings.model_dump_json(indent=2)
    for path in images:
        with open_slide(path, job.slide_mpp) as slide:
            analysis = Analysis(slide, job.engine, job.scope)
            facts = analysis.plan_facts()
            yield (
                f"{path}: {facts['width_px']} x {facts['height_px']} px, {facts['mpp']:.4g} um/px "
                f"({facts['mpp_source']}), tissue {facts['tissue_mm2']:.3f} mm2, "
                f"{facts['windows']} windows"
            )


def write_stages(path: Path, folder: Path, job: Job) -> None:
    """Write the pictures of each step for the tile with most nuclei of an image."""
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.pictures.stages import save_stages
    from nucliseg_qp.pipeline import Analysis

    with open_slide(path, job.slide_mpp) as slide:
        pictures = Analysis(slide, job.engine, job.scope).stages()
    if not pictures:
        raise InputError(f"{path} holds no nuclei", "Choose another image or --region.")
    save_stages(folder, pictures)


def worst_code(outcomes: Sequence[ImageOutcome]) -> int:
    """Give 0 when all is done, an error's own code when it is everybody's, else 1."""
    codes = {outcome.exit_code for outcome in outcomes}
    return codes.pop() if len(codes) == 1 else 1
