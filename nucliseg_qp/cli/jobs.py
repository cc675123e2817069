"""From options to a job, from a job to what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nucliseg_qp.cli.environment import check_environment
from nucliseg_qp.config import Settings, load_settings
from nucliseg_qp.errors import InputError, NucliSegError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nucliseg_qp.batch import ImageOutcome, Job
    from nucliseg_qp.profile import Profile

__all__ = [
    "begin_profile",
    "end_profile",
    "merge_settings",
    "open_job",
    "show_outcomes",
    "show_plan",
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
    """Lay what was said by flag or environment over the file, and that over the defaults.

    Raises
    ------
    UsageError
        When a setting does not exist, also one of the environment, or its value makes no sense.
    """
    check_environment()
    said = settings.model_dump(exclude_unset=True) if settings is not None else {}
    return load_settings(config, said)


def show_plan(images: Sequence[Path], job: Job, as_json: bool) -> int:
    """Show the merged settings and what would be done to each image; give the exit code."""
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer

    plans: list[dict[str, Any]] = []
    codes = set()
    for path in images:
        try:
            plans.append(_plan(path, job))
            codes.add(0)
        except NucliSegError as error:
            plans.append({"path": path, "problem": str(error)})
            codes.add(error.exit_code)
    settings = job.engine.settings
    content = {"settings": settings.model_dump(mode="json"), "plan": plans}
    lines = [_plan_line(one) for one in plans if "problem" not in one]
    answer(as_json, content, settings.model_dump_json(indent=2), *lines)
    for text in (one["problem"] for one in plans if "problem" in one):
        show.error(text)
    return _worst(codes)


def _plan(path: Path, job: Job) -> dict[str, Any]:
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.pipeline import Analysis

    with open_slide(path, job.slide_mpp) as slide:
        return {"path": path, **Analysis(slide, job.engine, job.scope).plan_facts()}


def _plan_line(plan: dict[str, Any]) -> str:
    return (
        f"{plan['path']}: {plan['width_px']} x {plan['height_px']} px, {plan['mpp']:.4g} um/px "
        f"({plan['mpp_source']}), tissue {plan['tissue_mm2']:.3f} mm2, {plan['windows']} windows"
    )


def show_outcomes(outcomes: Sequence[ImageOutcome], as_json: bool, **more: object) -> None:
    """Show how each image ended; a program also gets what else is named here."""
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.tables import outcome_table

    images = [{"path": one.path, **one.row(), "problem": one.problem} for one in outcomes]
    answer(as_json, {"images": images, **more}, outcome_table(outcomes))


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
    return _worst({outcome.exit_code for outcome in outcomes})


def _worst(codes: set[int]) -> int:
    return codes.pop() if len(codes) == 1 else 1
