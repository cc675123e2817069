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
from nucliseg_qp.errors import InputError
from nucliseg_qp.images.calibration import Calibration, checked_calibration
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.images.within import read_within
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.outputs import make_folder, result_manifest, whole_file
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.pipeline import Analysis, Engine
from nucliseg_qp.provenance import engine_record, entry_metadata
from nucliseg_qp.qupath.entries import local_path
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.results import ImageResult, analysed_area
from nucliseg_qp.qupath.rings import usable_rows
from nucliseg_qp.request import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Progress
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
    with open_requested(request.image) as slide:
        engine = Engine.start(load_settings(request.config, request.settings))
        started(engine)
        analysis = Analysis(slide, engine, scope, progress)
        content = _write_nuclei(analysis, request, folder / "nuclei.geojson.gz")
        _check_complete(analysis)
        content |= _about(analysis, content["counts"])
    with whole_file(result_manifest(folder)) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return content


def open_requested(image: RequestedImage) -> Slide:
    """Open the file behind an image of QuPath and check that it is the same image.

    Raises
    ------
    InputError
        When it is not a plain local file, cannot be read, has another size or no pixel size.
    """
    path, args = _file_of(image.builder)
    slide = open_slide(path, require_mpp=False, crop_to_bounds="--no-crop" not in args)
    try:
        _check_size(slide, image)
        if image.mpp_x is not None:
            slide.mpp = Calibration(image.mpp_x, image.mpp_y or image.mpp_x, "QuPath")
        checked_calibration(slide.mpp, path)
    except InputError:
        slide.close()
        raise
    return slide


def _file_of(builder: dict[str, Any]) -> tuple[Path, list[str]]:
    kind = builder.get("builderType")
    if kind != "uri":
        raise InputError(
            f"QuPath shows this image {kind}, not as it lies in its file",
            "Export it (File > Export images > OME TIFF) and add that file to the project.",
        )
    path = local_path(str(builder.get("uri", "")))
    if path is None:
        raise InputError(
            f"{builder.get('uri')} is not a file on this computer",
            "Copy the image to this computer or a mounted drive and add it to the project again.",
        )
    args = [str(arg) for arg in builder.get("args") or []]
    series = args[args.index("--series") + 1 :][:1] if "--series" in args else []
    if series not in ([], ["0"]):
        raise InputError(
            f"{path.name} is series {series[0]} of its file, and only the first one is read",
            "Export it (File > Export images > OME TIFF) and add that file to the project.",
        )
    return path, args


def _check_size(slide: Slide, image: RequestedImage) -> None:
    if slide.dimensions != (image.width_px, image.height_px):
        width, height = slide.dimensions
        raise InputError(
            f"QuPath sees {image.width_px} x {image.height_px} px, but {slide.path} holds "
            f"{width} x {height} px",
            "Remove the image from the project and add it again.",
        )


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
    failed = len(analysis.failed_tiles) + len(analysis.keypoints.failed)
    if failed:
        raise InputError(
            f"{failed} parts of {analysis.slide.path} could not be read, so nuclei are missing",
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
