"""The Groovy sources: inside the wheel when installed, beside the package in a checkout.

QuPath runs a script as one text, so what several scripts share lies in ``groovy/lib`` and is put
into each of them: a line ``// include: lib/ledger.groovy`` stands for that file, its imports move
to the top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.errors import QuPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BULK_OBJECTS",
    "IMPORT_NUCLEI",
    "SCRIPT_NAMES",
    "Script",
    "groovy_source",
    "list_scripts",
]

IMPORT_NUCLEI = "import_nuclei.groovy"
BULK_OBJECTS = "lib/bulk_objects.groovy"
SCRIPT_NAMES = (
    "detect_nuclei.groovy",
    IMPORT_NUCLEI,
    "send_corrections.groovy",
    "reclassify.groovy",
    "show_doubtful_nuclei.groovy",
    "check_installation.groovy",
)
"""What people run, in the order they need it."""

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "groovy", _PACKAGE.parent / "groovy")
_INCLUDE = re.compile(r"^// include: (\S+)\n", re.MULTILINE)
_IMPORT = re.compile(r"^import .*\n", re.MULTILINE)
_TITLE = re.compile(
    r"/\*\n \* NucliSeg QP: (?P<title>[^\n]*)\n \*\n \* (?P<text>.*?\.)(?:\s|$)", re.DOTALL
)


@dataclass(frozen=True)
class Script:
    """A script as people see it.

    Parameters
    ----------
    name : str
        File name, as it shows under Automate > Project scripts.
    title : str
        What it does, in two words.
    description : str
        What it does, in a sentence.
    """

    name: str
    title: str
    description: str


def list_scripts() -> list[Script]:
    """Describe the scripts in the words of their own first lines."""
    return [_describe(name) for name in SCRIPT_NAMES]


def groovy_source(name: str) -> str:
    """Give the whole text of one of our Groovy scripts.

    Raises
    ------
    QuPathError
        When it is missing from the installation.
    """
    included: dict[str, str] = {}
    text = _INCLUDE.sub("", _read(name))
    for part in _parts(name):
        included.setdefault(part, _INCLUDE.sub("", _read(part)))
    imports = sorted({line for one in (text, *included.values()) for line in _IMPORT.findall(one)})
    bodies = [_IMPORT.sub("", one).strip("\n") for one in (text, *included.values())]
    head, body = _split_comment(bodies[0])
    pieces = [head, "".join(imports).rstrip("\n"), body.strip("\n"), *bodies[1:]]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _parts(name: str) -> Iterator[str]:
    for part in _INCLUDE.findall(_read(name)):
        yield part
        yield from _parts(part)


def _split_comment(text: str) -> tuple[str, str]:
    end = text.find("*/") + 2 if text.startswith("/*") else 0
    return text[:end], text[end:]


def _describe(name: str) -> Script:
    found = _TITLE.match(_read(name))
    if found is None:
        raise QuPathError(f"{name} does not say what it does", "Install nucliseg-qp again.")
    text = " ".join(found["text"].replace("\n *", " ").split())
    return Script(name, found["title"], text)


def _read(name: str) -> str:
    for folder in _FOLDERS:
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise QuPathError(f"{name} is missing from this installation", "Install nucliseg-qp again.")
