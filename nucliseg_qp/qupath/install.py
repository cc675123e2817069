"""Where QuPath and its Java are, found without starting either."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from nucliseg_qp.errors import QuPathError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HOW_TO_FIX", "QuPathInstall", "Writer", "choose_writer", "find_qupath"]

Writer = Literal["paquo", "files"]

_CORE_JAR = re.compile(r"qupath-core-(\d[\w.+-]*?)\.jar")
HOW_TO_FIX = (
    "Install QuPath 0.5.1 to 0.7.0 and, unless it lies where programs usually lie, name its folder"
    " with PAQUO_QUPATH_DIR, or use --writer files."
)


@dataclass(frozen=True)
class QuPathInstall:
    """An installed QuPath.

    Parameters
    ----------
    folder : Path
        The folder it was installed to (on macOS the ``.app``).
    version : str
        ``0.6.0``; empty when it cannot be told.
    java : Path
        The Java library that runs it.
    java_version : str
        ``21.0.8``; empty when it cannot be told.
    """

    folder: Path
    version: str
    java: Path
    java_version: str


def find_qupath() -> QuPathInstall | None:
    """Find the QuPath that paquo would start, by paquo's own settings.

    These are the environment (``PAQUO_QUPATH_DIR`` and others), ``.paquo.toml`` and the usual
    places.

    Returns
    -------
    QuPathInstall or None
        None when there is no QuPath, or no paquo.

    Raises
    ------
    QuPathError
        When ``PAQUO_QUPATH_DIR`` names a folder that holds no QuPath.
    """
    if find_spec("paquo") is None:
        return None
    from paquo import settings
    from paquo._config import to_kwargs
    from paquo.jpype_backend import find_qupath as find

    try:
        found = find(**to_kwargs(settings))
    except ValueError:
        return None
    except OSError:
        raise QuPathError(
            f"paquo's setting qupath_dir (PAQUO_QUPATH_DIR) is {settings.get('qupath_dir')!r}"
            " and no QuPath lies there",
            HOW_TO_FIX,
        ) from None
    return _install(found.app_dir, found.runtime_dir, found.jvm_path)


def choose_writer(wanted: Literal["auto", "paquo", "files"] = "auto") -> Writer:
    """Decide how a project is written.

    Parameters
    ----------
    wanted : {"auto", "paquo", "files"}
        ``auto`` takes paquo where QuPath is found.

    Raises
    ------
    QuPathError
        When ``paquo`` is asked for and QuPath is not found.
    """
    if wanted == "files":
        return "files"
    if wanted not in ("auto", "paquo"):
        raise UsageError(f"writer {wanted!r} does not exist", "Use auto, paquo or files.")
    if find_qupath() is not None:
        return "paquo"
    if wanted == "paquo":
        raise QuPathError("QuPath is not found", HOW_TO_FIX)
    return "files"


def _install(app_dir: Path, runtime_dir: Path, java: Path) -> QuPathInstall:
    jars = sorted(path.name for path in app_dir.glob("qupath-core-*.jar"))
    versions = [match[1] for name in jars if (match := _CORE_JAR.fullmatch(name))]
    return QuPathInstall(
        folder=_root(app_dir),
        version=versions[0] if versions else "",
        java=java,
        java_version=_java_version(runtime_dir),
    )


def _root(app_dir: Path) -> Path:
    # Linux: root/lib/app; macOS: root/Contents/app; Windows: root/app.
    return app_dir.parent.parent if app_dir.parent.name in ("lib", "Contents") else app_dir.parent


def _java_version(runtime_dir: Path) -> str:
    try:
        release = (runtime_dir / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'^JAVA_VERSION="([^"]*)"', release, re.MULTILINE)
    return found[1] if found else ""
