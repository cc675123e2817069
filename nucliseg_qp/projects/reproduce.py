"""``reproduce``: a run repeated from its own record, and compared with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.batch import ImageOutcome, Job, each_image, numbered
from nucliseg_qp.config import Settings, load_settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.errors import InputError, ModelError, NucliSegError
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.projects.cache import TileCache
from nucliseg_qp.projects.entry import analyse, open_held
from nucliseg_qp.projects.numbers import ImageNumbers, read_numbers
from nucliseg_qp.projects.record import last_run, read_run
from nucliseg_qp.projects.scope import ImageScope
from nucliseg_qp.projects.selection import open_project, project_root
from nucliseg_qp.qupath.data_file import DataState
from nucliseg_qp.qupath.held import Held
from nucliseg_qp.qupath.project_folder import ProjectFolder

if TYPE_CHECKING:
    from nucliseg_qp.batch import Watcher
    from nucliseg_qp.pipeline import Analysis
    from nucliseg_qp.projects.entry import Findings
    from nucliseg_qp.qupath.project_file import ProjectFile

__all__ = ["Repeated", "Repetition", "open_record"]


@dataclass(frozen=True)
class Repeated:
    """One image, then and now.

    Parameters
    ----------
    name : str
        Of the image.
    before, now : int
        Number of nuclei.
    verdict : str
        ``identical``, ``same counts``, ``different`` or what went wrong.
    """

    name: str
    before: int
    now: int
    verdict: str

    @property
    def is_same(self) -> bool:
        """Whether the run was reproduced."""
        return self.verdict in ("identical", "same counts")


@dataclass(frozen=True)
class Repetition:
    """A run that can be repeated.

    Parameters
    ----------
    engine : Engine
        As the record says.
    images : list of ImageNumbers or dict
        What is to be repeated.
    warnings : list of str
        What differs from then.
    """

    engine: Engine
    images: list[ImageNumbers | dict[str, Any]]
    warnings: list[str]

    def repeat(self, watcher: Watcher) -> list[Repeated]:
        """Analyse the images again; nothing is written anywhere."""
        return [self._one(image, watcher) for image in self.images]

    def _one(self, image: ImageNumbers | dict[str, Any], watcher: Watcher) -> Repeated:
        if isinstance(image, dict):
            return _again_from_file(self.engine, image, watcher)
        outcome = ImageOutcome(Path(image.name))
        watcher.image(outcome.path)
        before = sum(image.found.values())
        try:
            found = _again(self.engine, image, watcher)
        except NucliSegError as error:
            outcome.problem = str(error)
            watcher.finished(outcome)
            return Repeated(image.name, before, 0, str(error))
        outcome.counts = found.counts
        watcher.finished(outcome)
        same = dict(found.counts) == image.found
        verdict = "identical" if found.digest == image.digest else "same counts"
        return Repeated(image.name, before, found.counts.total(), verdict if same else "different")


def open_record(path: Path) -> Repetition:
    """Read the record of a run and load the engine it names.

    Parameters
    ----------
    path : Path
        A project (its last run), one of its ``nucliseg/runs/*.json``, or the ``run.json`` that
        ``detect`` wrote.

    Raises
    ------
    InputError
        When there is no record.
    ModelError
        When the model is not the one of the run.
    """
    root = project_root(path)
    if root is None and path.parent.name == "runs":
        root = path.parents[2]
    if root is None:
        return _of_files(path)
    folder = ProjectFolder(root)
    record = read_run(path) if path.suffix == ".json" else last_run(folder)
    if record is None:
        raise InputError(f"{path} holds no record of a run", "Give a project or a run.json.")
    engine, warnings = _engine(record)
    project = open_project(root)
    known = [read_numbers(folder.result(entry.id)) for entry in project.entries]
    images: list[ImageNumbers | dict[str, Any]] = [
        _where_it_is(project, one)
        for one in known
        if one is not None and one.run == record["run"] and one.digest
    ]
    if not images:
        raise InputError(
            f"no image was last done by the run {record['run']}", "Choose another run."
        )
    return Repetition(engine, images, warnings)


def _where_it_is(project: ProjectFile, image: ImageNumbers) -> ImageNumbers:
    """Give the numbers of an image with its place of now: it may have moved since the run."""
    builder = project.builder(image.entry_id)
    return replace(image, description={**image.description, "builder": builder})


def _of_files(path: Path) -> Repetition:
    try:
        record = orjson.loads(path.read_bytes())
        images = [one for one in record["images"] if one["status"] == "done"]
        engine, warnings = _engine(record)
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no record of a run ({error})", "Give run.json.") from None
    return Repetition(engine, images, warnings)


def _engine(record: dict[str, Any]) -> tuple[Engine, list[str]]:
    settings: Settings = load_settings(None, record["settings"])
    engine = Engine.start(settings)
    info = engine.runner.info
    if info.sha256 != record["model"]["sha256"]:
        raise ModelError(
            f"the model {info.name} is not the one of the run ({record['model']['sha256'][:12]})",
            "Install the version of nucliseg-qp that made it, or give its model file.",
        )
    warnings = []
    if record["program"] != f"nucliseg_qp {__version__}":
        warnings.append(f"the run was made by {record['program']}, this is {__version__}")
    if record.get("palette_sha256", engine.palette.sha256) != engine.palette.sha256:
        warnings.append(f"the palette {engine.palette.name} was edited after the run")
    return engine, warnings


def _again(engine: Engine, image: ImageNumbers, watcher: Watcher) -> Findings:
    about = image.description
    mpp = about["mpp"]
    held = Held(
        entry_id=image.entry_id,
        width_px=about["size_px"][0],
        height_px=about["size_px"][1],
        planes=1,
        rgb=True,
        mpp_x=None if mpp is None else mpp[0],
        mpp_y=None if mpp is None else mpp[1],
        image_type=about["type"],
        stains=about["stains"],
        areas=(),
        counts={},
        edits={},
        state=DataState(),
    )
    scope = ImageScope.from_json(about["scope"])
    opened = open_held(about["builder"], held, image.name, engine, scope, None)
    with opened.slide, tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as work:
        cache = TileCache(Path(work) / "tiles", "")
        return analyse(opened, cache, watcher, Path(work) / "thumbnail.jpg")


def _again_from_file(engine: Engine, image: dict[str, Any], watcher: Watcher) -> Repeated:
    def work(analysis: Analysis, outcome: ImageOutcome) -> None:
        for _ in numbered(analysis, outcome):
            pass

    path = Path(image["path"])
    scope = Scope.from_geometry(image["geometry"])
    mpp = image["mpp"] if image["mpp_source"] == "--slide-mpp" else None
    [outcome] = each_image([path], Job(engine, scope, mpp), work, watcher)
    before = sum(image["counts"].values())
    if outcome.problem:
        return Repeated(path.name, before, 0, outcome.problem)
    same = dict(outcome.counts) == image["counts"]
    return Repeated(path.name, before, outcome.nuclei, "same counts" if same else "different")
