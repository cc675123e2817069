"""``nucliseg-qp scripts``: our scripts inside QuPath."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from nucliseg_qp.cli.options import AsJson

if TYPE_CHECKING:
    from nucliseg_qp.qupath.engine_place import System

__all__ = ["scripts"]

scripts = App(name="scripts", help="Put our scripts into a QuPath project, or list them.")


@scripts.command
def install(
    project: Path,
    /,
    *,
    engine: str | None = None,
    system: Literal["linux", "mac", "windows"] | None = None,
    remote: str | None = None,
    path_map: Annotated[list[str] | None, Parameter(negative=())] = None,
    palette: Annotated[list[str] | None, Parameter(negative=())] = None,
    as_json: AsJson = False,
) -> int:
    """Put the scripts into a QuPath project and tell them where the engine is.

    Example: `nucliseg-qp scripts install my_project`

    They then show in QuPath under Automate > Project scripts. Run it again after an update, and
    on each system that opens the project.

    Parameters
    ----------
    project
        project.qpproj or its folder.
    engine
        Folder of the Python environment with nucliseg-qp, or its python, as the computer that runs
        QuPath sees it; the environment of this command when left out.
    system
        System of that computer, unless it is this one or the path tells.
    remote
        Command that runs the engine elsewhere, such as `ssh gpu /opt/nqp/bin/nucliseg-qp`.
    path_map
        How a folder with images is called there: `/Volumes/slides=/mnt/slides`.
    palette
        TOML file with classes of one's own, for Reclassify.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.show_project import warn_of_version
    from nucliseg_qp.projects.selection import open_project, project_root
    from nucliseg_qp.qupath.script_install import install_scripts

    where = _engine(engine, system, remote, path_map or [])
    written = install_scripts(project, *where, palette or ())
    warn_of_version(open_project(project_root(project) or project))
    answer(as_json, {"written": written, "engine": where[1]}, *map(str, written))
    show.note(f"engine: {' '.join(where[1]['command'])}")
    show.note("in QuPath: Automate > Project scripts; check_installation tells whether all is well")
    return 0


@scripts.command(name="list")
def list_(*, as_json: AsJson = False) -> int:
    """List the scripts and what they do.

    Example: `nucliseg-qp scripts list`
    """
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.tables import script_table
    from nucliseg_qp.qupath.scripts import list_scripts

    found = list_scripts()
    answer(as_json, {"scripts": found}, script_table(found))
    return 0


def _engine(
    place: str | None, system: System | None, remote: str | None, path_map: list[str]
) -> tuple[System, dict[str, Any]]:
    import shlex

    from nucliseg_qp.errors import UsageError
    from nucliseg_qp.qupath.engine_place import local_engine, remote_engine

    if remote is None:
        return local_engine(place, system)
    if place is not None:
        raise UsageError("--engine and --remote exclude each other", "Give one of them.")
    paths = dict(_pair(text) for text in path_map)
    return remote_engine(shlex.split(remote), paths)


def _pair(text: str) -> tuple[str, str]:
    from nucliseg_qp.errors import UsageError

    here, mark, there = text.partition("=")
    if not (here and mark and there):
        raise UsageError(f"--path-map {text!r} is not HERE=THERE", "Write /here=/there.")
    return here, there
