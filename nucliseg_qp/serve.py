"""``run-request``: the engine at work for a script inside QuPath.

The result is a folder: nuclei as GeoJSON in files QuPath can take one by one, and ``result.json``,
which is written last, so that a result that is there is whole.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.config import load_settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.errors import InputError
from nucliseg_qp.images.calibration import Calibration
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.within import read_within
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.outputs import make_folder, result_manifest, whole_file
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.pipeline import Analysis
from nucliseg_qp.provenance import engine_record, entry_metadata
from nucliseg_qp.qupath.builders import builder_paths, open_entry
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.results import ImageResult, analysed_area
from nucliseg_qp.qupath.rings import usable_rows
from nucliseg_qp.request import FORMAT
from nucliseg_qp.workers import open_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Progress
    from nucliseg_qp.qupath.builders import EntryImage
    from nucliseg_qp.request import EngineRequest, RequestedImage

__all__ = ["open_requested", "run_request"]


def run_request(
    request: EngineRequest,
    folder: Path,
    progress: Progress,
    started: Callable[[Engine], None],
) -> dict[str, Any]:
    """Analyse the image of a request and write the result into ``folder``.

    Parameters
    ----------
    request : EngineRequest
        What QuPath asks for.
    folder : Path
        Gets ``nuclei*.geojson.gz`` and, last, ``result.json``.
    progress : Progress
        Told how far it is.
    started : callable
        Told when model and device are ready.

    Returns
    -------
    dict
        What ``result.json`` holds.

    Raises
    ------
    InputError
        When the image cannot be read, in whole or in part, is not the one QuPath shows, or has no
        pixel size.
    ModelError, UsageError, OutputError
        As their names say.
    """
    make_folder(folder)
    scope = _scope(request)
    opened = open_requested(request.image)
    with opened.slide as slide:
        engine = Engine.start(load_settings(request.config, request.settings))
        started(engine)
        with open_workers(engine) as workers:
            analysis = Analysis(slide, engine, scope, progress, workers)
            content = _write_nuclei(analysis, request, folder / "nuclei.geojson.gz")
        _check_complete(analysis)
        content |= _about(analysis, content["counts"])
    content["warnings"] = opened.warnings
    with whole_file(result_manifest(folder)) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return content


def open_requested(image: RequestedImage) -> EntryImage:
    """Open the image as QuPath shows it: a file, or a crop, turn or mirror image of one.

    Raises
    ------
    InputError, QuPathError
        When it cannot be read, is of another kind or size, or has no pixel size.
    """
    path = next(iter(builder_paths(image.builder)), None)
    mpp = None
    if image.mpp_x is not None:
        mpp = Calibration(image.mpp_x, image.mpp_y or image.mpp_x, "QuPath")
    name = path.name if path else "the image"
    return open_entry(image.builder, (image.width_px, image.height_px), mpp, name)


def _scope(request: EngineRequest) -> Scope:
    if request.regions is None:
        return Scope()
    # read_within guards against hostile and broken polygons; it reads files.
    with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as folder:
        path = Path(folder) / "annotations.geojson"
        path.write_bytes(orjson.dumps(request.regions))
        return Scope(within=read_within(path))


def _write_nuclei(analysis: Analysis, request: EngineRequest, path: Path) -> dict[str, Any]:
    palette = analysis.engine.palette
    counts: Counter[str] = Counter(dict.fromkeys(palette.names, 0))
    number = 0

    def parts() -> Iterator[tuple[Nuclei, list[str]]]:
        nonlocal number
        for found in analysis.nuclei():
            repaired, kept = usable_rows(found)
            nuclei = repaired.take(kept)
            counts.update(nuclei.counts())
            number += len(nuclei)
            yield nuclei, nucleus_ids(analysis.slide.path.name, nuclei)

    areas = [] if request.regions else [analysed_area(_image_result(analysis))]
    colours = [(one.name, one.color_rgb) for one in palette.classes]
    files = write_geojson(path, parts(), colours, areas=areas, shard=request.shard)
    return {
        "format": FORMAT,
        "files": [{"name": one.name, "bytes": one.stat().st_size} for one in files],
        "nuclei": number,
        "counts": dict(counts),
        "classes": [{"name": name, "color": list(rgb)} for name, rgb in colours],
    }


def _image_result(analysis: Analysis) -> ImageResult:
    width, height = analysis.slide.dimensions
    return ImageResult(analysis.slide.path, width, height, 1.0, "", ())


def _check_complete(analysis: Analysis) -> None:
    if analysis.damage:
        raise InputError(
            f"{analysis.damage} of {analysis.slide.path} could not be read, so nuclei are missing",
            "The file is damaged or its drive was away: check it, then run again.",
        )


def _about(analysis: Analysis, counts: dict[str, int]) -> dict[str, Any]:
    facts = analysis.facts()
    numbers = {f"NucliSeg {name}": str(number) for name, number in counts.items()}
    return {
        "image": analysis.slide.path.name,
        "width_px": facts["width_px"],
        "height_px": facts["height_px"],
        "mpp": facts["mpp"],
        "mpp_source": facts["mpp_source"],
        "tissue_mm2": facts["tissue_mm2"],
        "palette": palette_json(analysis.engine.palette),
        "provenance": {**entry_metadata(analysis.engine, facts, "done"), **numbers},
        "record": engine_record(analysis.engine),
    }
