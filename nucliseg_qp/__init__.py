"""nucliseg_qp: classified nuclei from immunohistochemistry images, inside QuPath.

The data flows image -> tiles -> keypoints -> masks -> classes -> measurements -> QuPath, and the
sub-packages are named after these steps.  Importing this package loads neither torch nor Java: a
public name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nucliseg_qp.annotate import annotate_images
    from nucliseg_qp.batch import Job
    from nucliseg_qp.config import load_settings
    from nucliseg_qp.detect import detect_images
    from nucliseg_qp.engine import Engine
    from nucliseg_qp.errors import NucliSegError
    from nucliseg_qp.geometry import Region
    from nucliseg_qp.images.scope import Scope
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.nuclei import Nuclei, nucleus_ids
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.pipeline import find_nuclei
    from nucliseg_qp.projects.samples import copy_sample
    from nucliseg_qp.quantify.scores import score_counts
    from nucliseg_qp.qupath.geojson import write_geojson
    from nucliseg_qp.qupath.reading import read_geojson
    from nucliseg_qp.review.calibrate import calibrate as calibrate_palette
    from nucliseg_qp.review.collect import collect as collect_review

__version__ = "0.1.0"

__all__ = [
    "Engine",
    "Job",
    "Nuclei",
    "NucliSegError",
    "Region",
    "Scope",
    "__version__",
    "annotate_images",
    "calibrate_palette",
    "collect_review",
    "copy_sample",
    "detect_images",
    "find_nuclei",
    "load_palette",
    "load_settings",
    "nucleus_ids",
    "open_slide",
    "read_geojson",
    "score_counts",
    "write_geojson",
]

_HOMES = {
    "Engine": "engine",
    "Job": "batch",
    "NucliSegError": "errors",
    "Nuclei": "nuclei",
    "Region": "geometry",
    "Scope": "images.scope",
    "annotate_images": "annotate",
    "calibrate_palette": "review.calibrate:calibrate",
    "collect_review": "review.collect:collect",
    "copy_sample": "projects.samples",
    "detect_images": "detect",
    "find_nuclei": "pipeline",
    "load_palette": "palette.classes",
    "load_settings": "config",
    "nucleus_ids": "nuclei",
    "open_slide": "images.slide",
    "read_geojson": "qupath.reading",
    "score_counts": "quantify.scores",
    "write_geojson": "qupath.geojson",
}
"""Module of each public name, and after a colon what it is called there."""


if not TYPE_CHECKING:
    # Hidden from type checkers, so that they know a wrong name.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module, _, inner = _HOMES[name].partition(":")
        return getattr(import_module(f"{__name__}.{module}"), inner or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
