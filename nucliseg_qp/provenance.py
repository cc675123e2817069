"""What is needed to repeat a run: versions, settings, model, device."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nucliseg_qp import __version__
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
        "settings": engine.settings.model_dump(mode="json"),
    }


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
