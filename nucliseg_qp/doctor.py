"""Is everything there that the engine needs, and if not, what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nucliseg_qp.errors import NucliSegError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Check", "examine"]

Status = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = (3, 11)
LITTLE_DISK_BYTES = 2 * 10**9
_READERS = ("openslide", "tifffile", "imagecodecs", "pyvips", "cv2")
_SYSTEM_LIBRARIES = "On Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"
_QUPATH = (
    "Optional: install QuPath 0.6.0 or name its folder with PAQUO_QUPATH_DIR; without it use "
    "`annotate --writer files`"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
        What was looked at.
    status : {"ok", "warn", "fail"}
        ``warn``: works, with a limit; ``fail``: does not work.
    seen : str
        What was found.
    fix : str
        What to do; empty when all is well.
    """

    name: str
    status: Status
    seen: str
    fix: str = ""


def examine() -> list[Check]:
    """Look at Python, torch and device, readers, QuPath and its Java, paquo, model and disk."""
    checks: tuple[Callable[[], Check], ...] = (
        _python,
        _torch,
        _device,
        _readers,
        _qupath,
        _java,
        _paquo,
        _model,
        _disk,
    )
    return [check() for check in checks]


def _python() -> Check:
    good = sys.version_info >= OLDEST_PYTHON
    seen = f"{platform.python_version()} on {platform.platform(terse=True)}"
    fix = "" if good else "Install Python 3.11 or newer and make a new environment"
    return Check("Python", "ok" if good else "fail", seen, fix)


def _torch() -> Check:
    try:
        import_module("torch")
    except (ImportError, OSError) as error:
        return Check("torch", "fail", f"does not load: {error}", "pip install torch")
    return Check("torch", "ok", version("torch"))


def _device() -> Check:
    from nucliseg_qp.keypoints.runtime import pick_device

    try:
        device = pick_device("auto")
    except (ImportError, OSError, NucliSegError) as error:
        return Check("device", "fail", str(error), "Mend torch first")
    if device.is_cpu:
        return Check(
            "device",
            "warn",
            f"{device.label}, no GPU",
            "Works; for a GPU install the torch build for it (see pytorch.org)",
        )
    return Check("device", "ok", f"{device.name}: {device.label}")


def _readers() -> Check:
    missing = []
    for name in _READERS:
        try:
            import_module(name)
        except (ImportError, OSError) as error:
            missing.append(f"{name} ({error})")
    if missing:
        fix = f"pip install --force-reinstall nucliseg-qp. {_SYSTEM_LIBRARIES}"
        return Check("readers", "fail", f"do not load: {'; '.join(missing)}", fix)
    return Check("readers", "ok", ", ".join(_READERS))


def _qupath() -> Check:
    from nucliseg_qp.qupath.install import find_qupath

    try:
        found = find_qupath()
    except NucliSegError as error:
        return Check("QuPath", "fail", error.message, error.hint)
    if found is None:
        return Check("QuPath", "warn", "not found", _QUPATH)
    return Check("QuPath", "ok", f"{found.version or 'unknown version'} in {found.folder}")


def _java() -> Check:
    from nucliseg_qp.qupath.install import find_qupath

    try:
        found = find_qupath()
    except NucliSegError:
        found = None
    if found is None:
        return Check("Java", "warn", "comes with QuPath, which is not found", _QUPATH)
    return Check("Java", "ok", f"{found.java_version or 'unknown version'}: {found.java}")


def _paquo() -> Check:
    try:
        return Check("paquo", "ok", version("paquo"))
    except PackageNotFoundError:
        return Check("paquo", "fail", "not installed", "pip install paquo")


def _model() -> Check:
    from nucliseg_qp.keypoints.model import load_model

    try:
        info = load_model().info
    except (ImportError, OSError) as error:
        return Check("model", "fail", str(error), "Mend torch first")
    except NucliSegError as error:
        return Check("model", "fail", error.message, "pip install --force-reinstall nucliseg-qp")
    return Check("model", "ok", f"{info.name}, {info.mpp} um/px, sha256 {info.sha256[:12]}")


def _disk() -> Check:
    here, temporary = Path.cwd(), Path(tempfile.gettempdir())
    free = min(shutil.disk_usage(place).free for place in (here, temporary))
    writable = os.access(here, os.W_OK)
    seen = f"{free / 1e9:.1f} GB free in {here} and {temporary}"
    if not writable:
        return Check("disk", "warn", f"{here} is read-only", "Give -o another folder")
    if free < LITTLE_DISK_BYTES:
        return Check("disk", "warn", seen, "Free some space or set TMPDIR to a larger disk")
    return Check("disk", "ok", seen)
