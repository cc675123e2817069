"""What is needed to repeat a run: versions, settings, model, device."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucliseg_qp import __version__
from nucliseg_qp.keypoints.model import available_models
from nucliseg_qp.palette.classes import available_palettes
from nucliseg_qp.processes import processor_name, usable_cores

if TYPE_CHECKING:
    from nucliseg_qp.pipeline import Engine

__all__ = ["engine_record", "entry_metadata", "machine_record"]

_MAY_NAME_FILES = (("keypoints", "model"), ("classes", "palette"), ("work", "scheduler"))
_PACKAGES = ("torch", "numpy", "opencv-python", "openslide-python", "tifffile", "paquo")


def engine_record(engine: Engine) -> dict[str, Any]:
    """Give what is the same for all images of a run, ready for JSON."""
    info, device = engine.runner.info, engine.runner.device
    return {
        "program": f"nucliseg_qp {__version__}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "model": {"name": info.name, "version": info.version, "sha256": info.sha256},
        "mpp": engine.mpp,
        "threshold": engine.runner.threshold,
        "device": {"name": device.name, "label": device.label},
        "precision": engine.runner.precision,
        "runtime": engine.runner.runtime,
        "palette": engine.palette.name,
        "palette_sha256": engine.palette.sha256,
        "settings": _with_full_paths(engine.settings.model_dump(mode="json")),
    }


def _with_full_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Give settings that mean the same files whichever folder they are read in."""
    own_files = (
        (settings["keypoints"], "model", available_models()),
        (settings["classes"], "palette", available_palettes()),
    )
    for section, name, shipped in own_files:
        value = section[name]
        if value is not None and value not in shipped and Path(value).is_file():
            section[name] = os.path.abspath(value)
    return settings


def machine_record(engine: Engine | None) -> dict[str, Any]:
    """Give machine, versions and settings without a name of a file, a folder or a computer."""
    record: dict[str, Any] = {
        "program": f"nucliseg_qp {__version__}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*_PACKAGES, "onnxruntime", "distributed")},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor_name(),
            "cores": usable_cores(),
        },
    }
    if engine is None:
        return record
    runner, settings = engine.runner, engine.settings.model_dump(mode="json")
    for section, name in _MAY_NAME_FILES:
        settings[section].pop(name)
    record["network"] = {
        "sha256": runner.info.sha256,
        "mpp": engine.mpp,
        "device": runner.device.label,
        "precision": runner.precision,
        "runtime": runner.runtime,
    }
    return {**record, "settings": settings}


def entry_metadata(engine: Engine, facts: dict[str, Any], status: str) -> dict[str, str]:
    """Give the texts shown as metadata of the image in QuPath's project tab."""
    info = engine.runner.info
    return {
        "NucliSeg program": f"nucliseg_qp {__version__}",
        "NucliSeg model": f"{info.name} {info.sha256[:12]}",
        "NucliSeg palette": engine.palette.name,
        "NucliSeg device": engine.runner.device.label,
        "NucliSeg pixel size": f"{facts['mpp']:.4g} um ({facts['mpp_source']})",
        "NucliSeg status": status,
        "NucliSeg time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
