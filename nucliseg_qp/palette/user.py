"""Where palettes of one's own lie, so that they have a name like those that ship."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from nucliseg_qp.errors import UsageError

__all__ = ["user_palette", "user_palette_folder", "user_palettes"]

FOLDER_VARIABLE = "NUCLISEG_QP_PALETTE_FOLDER"
_NAME = re.compile(r"[\w][\w .-]{0,63}")


def user_palette_folder() -> Path:
    """Give the folder of the user's palettes, which may not exist.

    It is what NUCLISEG_QP_PALETTE_FOLDER says, else ``nucliseg-qp/palettes`` where the system
    keeps settings of programs.
    """
    told = os.environ.get(FOLDER_VARIABLE)
    if told:
        return Path(told)
    if sys.platform == "win32":
        home = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Application Support"
    else:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "nucliseg-qp" / "palettes"


def user_palette(name: str) -> Path:
    """Name the file of a palette of the user's, there or not.

    Raises
    ------
    UsageError
        When the name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a palette", "Use letters, digits, blank, . _ and -."
        )
    return user_palette_folder() / f"{name}.toml"


def user_palettes() -> tuple[str, ...]:
    """Name the user's palettes, sorted."""
    folder = user_palette_folder()
    return tuple(sorted(path.stem for path in folder.glob("*.toml"))) if folder.is_dir() else ()
