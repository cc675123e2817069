"""One image of a project: opened as QuPath shows it, analysed, ready to be written."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.images.calibration import Calibration, user_calibration
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.palette.rules import DAB_OD_MEAN
from nucliseg_qp.palette.stains import STAIN_NAMES, StainMatrix
from nucliseg_qp.pictures.preview import Preview
from nucliseg_qp.pipeline import Analysis
from nucliseg_qp.projects.cache import CachedWorkers, TileCache
from nucliseg_qp.projects.journal import digest, file_facts
from nucliseg_qp.projects.scope import ImageScope, scope_of
from nucliseg_qp.qupath.builders import builder_paths, open_entry
from nucliseg_qp.workers import open_workers

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Progress
    from nucliseg_qp.projects.scope import ProjectScope
    from nucliseg_qp.qupath.held import Held

__all__ = ["DAB_BINS", "Findings", "OpenedEntry", "analyse", "open_held"]

DAB_BINS = np.linspace(0, 2, 41)
"""Edges of the histogram of mean DAB densities; what is beyond counts in the last bin."""

THUMBNAIL_PX = 640

_OTHER_TYPES = ("FLUORESCENCE", "BRIGHTFIELD_H_E")


@dataclass
class OpenedEntry:
    """An image of a project, ready to be analysed.

    Parameters
    ----------
    slide : Slide
        As QuPath shows it.
    engine : Engine
        With the stains QuPath holds for it.
    scope : ImageScope
        Where, and what nuclei go under.
    description : dict
        All that is needed to open it again: builder, size, pixel size, stains, scope.
    warnings : list of str
        What deserves a second look.
    """

    slide: Slide
    engine: Engine
    scope: ImageScope
    description: dict[str, Any]
    warnings: list[str]

    def fingerprint(self, analysis: str) -> str:
        """Name everything its nuclei depend on; ``analysis`` names the settings."""
        mpp, stains = self.slide.mpp, self.engine.settings.stains
        # What QuPath was given by an earlier run must not look like another image.
        about = {
            "size_px": self.description["size_px"],
            "mpp": None if mpp is None else [round(mpp.mpp_x, 6), round(mpp.mpp_y, 6)],
            "stains": [
                [round(v, 5) for v in _unit(one)] for one in (stains.hematoxylin, stains.dab)
            ],
            "background": [round(value, 2) for value in stains.background],
            "scope": self.description["scope"],
        }
        builder = _without_place(self.description["builder"])
        files = file_facts(builder_paths(self.description["builder"]))
        return digest([analysis, about, builder, files])


@dataclass
class Findings:
    """What an analysis gave.

    Parameters
    ----------
    parts : list of Path
        Files of `save_part`.
    counts : Counter
        Nuclei by class.
    dab : dict of str to list of int
        Histogram of mean DAB densities by class, see `DAB_BINS`.
    facts : dict
        See `Analysis.facts`.
    damage : str
        What could not be read; empty when all could.
    reused : int
        Tiles that an earlier run had done.
    digest : str
        Of ids and classes: equal for equal nuclei.
    """

    parts: list[Path] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    dab: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    damage: str = ""
    reused: int = 0
    digest: str = ""


def open_held(
    builder: dict[str, Any],
    held: Held,
    name: str,
    engine: Engine,
    wanted: ProjectScope | ImageScope,
    slide_mpp: float | None,
) -> OpenedEntry:
    """Open an image as QuPath holds it.

    Parameters
    ----------
    builder : dict
        ``serverBuilder`` of the entry.
    held : Held
        Size, pixel size, type, stains and annotations.
    name : str
        Of the image.
    engine : Engine
        With the stains of the settings, for an image without its own.
    wanted : ProjectScope or ImageScope
        Where.
    slide_mpp : float, optional
        Pixel size in um to assume whatever QuPath says.

    Raises
    ------
    InputError, QuPathError
        When it cannot be opened or is not a kind of image that can be analysed.
    """
    _check_kind(held, name)
    mpp = user_calibration(slide_mpp) if slide_mpp is not None else _calibration(held)
    opened = open_entry(builder, (held.width_px, held.height_px), mpp, name)
    slide, warnings = opened.slide, list(opened.warnings)
    try:
        stained = _with_stains(engine, held, name, warnings)
        scope = (
            wanted
            if isinstance(wanted, ImageScope)
            else scope_of(wanted, held, slide, engine.settings.tissue)
        )
    except InputError:
        slide.close()
        raise
    description = {
        "builder": builder,
        "size_px": [held.width_px, held.height_px],
        "mpp": None if mpp is None else [mpp.mpp_x, mpp.mpp_y, mpp.source],
        "type": held.image_type,
        "stains": held.stains,
        "scope": scope.to_json(),
    }
    return OpenedEntry(slide, stained, scope, description, warnings)


def analyse(opened: OpenedEntry, cache: TileCache, progress: Progress, thumbnail: Path) -> Findings:
    """Find the nuclei of an image, tile by tile, and keep them in ``cache``.

    Raises
    ------
    InputError, OutputError
        As their names say.
    """
    slide, engine, found = opened.slide, opened.engine, Findings()
    found.counts.update(dict.fromkeys(engine.palette.names, 0))
    with open_workers(engine) as inner:
        workers = CachedWorkers(inner, cache, slide.path.name)
        analysis = Analysis(slide, engine, opened.scope.scope, progress, workers)
        preview = Preview(slide, slide.bounds, engine.palette.classes, THUMBNAIL_PX)
        mark = hashlib.sha256()
        for nuclei in analysis.nuclei():
            preview.add(nuclei)
            _tally(found, nuclei)
            mark.update(" ".join(nucleus_ids(slide.path.name, nuclei)).encode())
            mark.update(nuclei.class_index.tobytes())
        found.digest = mark.hexdigest()[:24]
        found.facts, found.damage = analysis.facts(), analysis.damage
    found.parts, found.reused = workers.parts, workers.reused
    preview.save(thumbnail)
    return found


def _tally(found: Findings, nuclei: Nuclei) -> None:
    found.counts.update(nuclei.counts())
    values = nuclei.measurements.get(DAB_OD_MEAN)
    if values is None:
        return
    for index, name in enumerate(nuclei.class_names):
        chosen = np.clip(values[nuclei.class_index == index], DAB_BINS[0], DAB_BINS[-1])
        bins = np.histogram(chosen[np.isfinite(chosen)], DAB_BINS)[0]
        before = np.array(found.dab.get(name, [0] * len(bins)))
        found.dab[name] = (before + bins).tolist()


def _check_kind(held: Held, name: str) -> None:
    if held.planes > 1:
        raise InputError(
            f"{name} has {held.planes} planes (z or t)", "Only images of one plane can be analysed."
        )
    if not held.rgb:
        raise InputError(f"{name} is no 8-bit RGB image", "Only brightfield can be analysed.")
    if held.image_type in _OTHER_TYPES:
        raise InputError(
            f"{name} has the type {held.image_type} in QuPath",
            "If it is stained with DAB, set its type to Brightfield (H-DAB).",
        )


def _calibration(held: Held) -> Calibration | None:
    if held.mpp_x is None or held.mpp_y is None:
        return None
    return Calibration(held.mpp_x, held.mpp_y, "QuPath")


def _with_stains(engine: Engine, held: Held, name: str, warnings: list[str]) -> Engine:
    """Give the engine with the stain vectors and the background that QuPath holds."""
    if held.stains is None:
        if held.image_type != "UNSET":
            warnings.append(f"{name}: QuPath holds no stains; those of the settings are taken")
        return engine
    vectors = [held.stains.get(stain) for stain in STAIN_NAMES]
    if None in vectors:
        names = " and ".join(key for key in held.stains if key != "background")
        raise InputError(f"{name} has the stains {names} in QuPath", "Set its type to H-DAB.")
    if _are_those(engine, held.stains):
        return engine
    settings = engine.settings.stains.model_copy(
        update={
            "hematoxylin": tuple(vectors[0] or ()),
            "dab": tuple(vectors[1] or ()),
            # QuPath allows a background brighter than white.
            "background": tuple(min(255.0, max(1.0, one)) for one in held.stains["background"]),
        }
    )
    return replace(
        engine,
        settings=engine.settings.model_copy(update={"stains": settings}),
        stains=StainMatrix.from_settings(settings),
    )


def _are_those(engine: Engine, held: dict[str, list[float]]) -> bool:
    """Tell whether QuPath got its stains from an earlier run with the same settings.

    QuPath scales vectors to length 1, which would change densities in their last digit.
    """
    mine = engine.settings.stains
    pairs = zip(STAIN_NAMES, (mine.hematoxylin, mine.dab), strict=True)
    same = all(np.allclose(_unit(vector), held[name], atol=1e-6) for name, vector in pairs)
    return same and np.allclose(mine.background, held["background"], atol=1e-3)


def _unit(vector: tuple[float, float, float]) -> list[float]:
    length = float(np.linalg.norm(vector))
    return [value / length for value in vector]


def _without_place(builder: dict[str, Any]) -> dict[str, Any]:
    """Give a builder without what changes when a project moves."""
    return {
        key: _without_place(value) if isinstance(value, dict) else value
        for key, value in builder.items()
        if key not in ("uri", "metadata", "providerClassName")
    }
