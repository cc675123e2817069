"""Where scripts inside QuPath find the engine: ``nucliseg/engine.json`` in the project.

A project on a shared drive is opened on several systems, so each has an entry of its own, and one
for any system serves a remote command.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Literal

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.errors import QuPathError, UsageError
from nucliseg_qp.outputs import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["System", "local_engine", "remote_engine", "this_system", "write_engine"]

System = Literal["linux", "mac", "windows", "any"]

_FORMAT = 1
_WINDOWS_PATH = re.compile(r"^([A-Za-z]:[\\/]|\\\\)")
_MODULE = ("-I", "-m", "nucliseg_qp")


def this_system() -> System:
    """Name the system this runs on."""
    return {"win32": "windows", "darwin": "mac"}.get(sys.platform, "linux")  # type: ignore[return-value]


def local_engine(place: str | None, system: System | None) -> tuple[System, dict[str, Any]]:
    """Describe an environment of Python on the computer that runs QuPath.

    Parameters
    ----------
    place : str, optional
        Folder of the environment or its python; without one it is the environment of this process.
    system : str, optional
        Where it is; else told from the path.

    Raises
    ------
    UsageError
        When the place is empty.
    """
    if place is None:
        return this_system(), {"command": [sys.executable, *_MODULE]}
    if not place.strip():
        raise UsageError("--engine is empty", "Give the folder of a Python environment.")
    windows = system == "windows" or (system is None and bool(_WINDOWS_PATH.match(place)))
    chosen = system or ("windows" if windows else this_system())
    return chosen, {"command": [_python(place, windows), *_MODULE]}


def remote_engine(
    command: Sequence[str], paths: Mapping[str, str]
) -> tuple[System, dict[str, Any]]:
    """Describe a command that runs the engine on another computer.

    Parameters
    ----------
    command : sequence of str
        ``["ssh", "gpu", "/opt/nqp/bin/nucliseg-qp"]``; the request goes to its standard input, the
        nuclei come from its standard output.
    paths : mapping of str to str
        How a folder with images here is called there.

    Raises
    ------
    UsageError
        When the command is empty.
    """
    if not command:
        raise UsageError("--remote is empty", "Give a command such as 'ssh gpu nucliseg-qp'.")
    return "any", {"command": list(command), "remote": True, "paths": dict(paths)}


def write_engine(path: Path, system: System, engine: dict[str, Any]) -> None:
    """Enter an engine into ``engine.json``; entries of other systems stay.

    Raises
    ------
    QuPathError
        When the file that is there is broken.
    OutputError
        When it cannot be written.
    """
    engines = {**_engines(path), system: engine}
    if engine.get("remote"):
        # A local entry would win over it.
        engines.pop(this_system(), None)
    content = {"format": _FORMAT, "version": __version__, "engines": engines}
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _engines(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
        return dict(content["engines"])
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise QuPathError(f"{path} cannot be read ({error})", "Remove it.") from None


def _python(place: str, windows: bool) -> str:
    """Give the python of an environment's folder; what is no folder is the python itself."""
    if re.search(r"python[\d.]*(\.exe)?$", place, re.IGNORECASE):
        return place
    if windows:
        # A conda environment has it at the top, a venv under Scripts; the script tries both.
        return place.rstrip("\\/") + "\\python.exe"
    return place.rstrip("/") + "/bin/python"
