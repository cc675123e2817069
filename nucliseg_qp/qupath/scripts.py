"""The Groovy sources: inside the wheel when installed, beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from nucliseg_qp.errors import QuPathError

__all__ = ["BULK_OBJECTS", "IMPORT_NUCLEI", "groovy_source"]

IMPORT_NUCLEI = "import_nuclei.groovy"
BULK_OBJECTS = "bulk_objects.groovy"

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "groovy", _PACKAGE.parent / "groovy")


def groovy_source(name: str) -> str:
    """Give the text of one of our Groovy scripts.

    Raises
    ------
    QuPathError
        When it is missing from the installation.
    """
    for folder in _FOLDERS:
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise QuPathError(f"{name} is missing from this installation", "Install nucliseg-qp again.")
