"""Tutorials and how-tos as they are followed: their files saved, their commands run.

A fence of a page is run when it is ``bash``, saved when it has a title, and else says why not::

    <!-- not run: needs a Slurm cluster -->
    ```sh

``<!-- run needs: QuPath -->`` before a fence, or in the first line for the whole page, skips it
where that is missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nucliseg_qp.qupath.install import find_qupath

if TYPE_CHECKING:
    from pathlib import Path

_FENCE = re.compile(
    r"(?:^<!-- (?P<word>not run|run needs): (?P<about>[^>]+) -->\n)?"
    r"^```(?P<kind>\w*)(?: title=\"(?P<title>.+?)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PAGE_NEEDS = re.compile(r"<!-- run needs: ([^>]+) -->\n")
_THERE = {
    "QuPath": lambda: find_qupath() is not None,
    "the extra train": lambda: find_spec("lightning") is not None,
}

_NO_QUPATH = {
    "PAQUO_QUPATH_DIR": "",
    "PAQUO_QUPATH_SEARCH_DIRS": "@json []",
    "PAQUO_QUPATH_PREFER_CONDA": "@bool false",
}


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page, and what a comment before it says."""

    kind: str
    text: str
    title: str
    not_run: str
    needs: str


def fences(page: Path) -> list[Fence]:
    """Give every fenced block of a page."""
    return [
        Fence(
            kind=found["kind"],
            text=found["text"],
            title=found["title"] or "",
            not_run=found["about"] if found["word"] == "not run" else "",
            needs=found["about"] if found["word"] == "run needs" else "",
        )
        for found in _FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


def page_needs(page: Path) -> str:
    """Give what a page as a whole needs, empty for nothing."""
    found = _PAGE_NEEDS.match(page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def is_there(need: str) -> bool:
    """Whether this computer has what a page needs."""
    return not need or _THERE[need]()


def run_page(page: Path, folder: Path, *, hide_qupath: bool = False) -> None:
    """Save the files a page shows and run its bash blocks, one shell a block.

    With ``hide_qupath`` only blocks that ask for QuPath find it: starting it takes long.
    """
    for one in fences(page):
        if one.title:
            (folder / one.title).write_text(one.text, encoding="utf-8")
        elif one.kind == "bash" and not one.not_run and is_there(one.needs):
            hidden = hide_qupath and "QuPath" not in (one.needs, page_needs(page))
            run_block(one.text, folder, page.name, hide_qupath=hidden)


def run_block(text: str, folder: Path, name: str, *, hide_qupath: bool = False) -> None:
    """Run one block as somebody would who has the program installed."""
    env = {
        **os.environ,
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "NUCLISEG_QP_PALETTE_FOLDER": str(folder / "own_palettes"),
        **(_NO_QUPATH if hide_qupath else {}),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}:\n{text}\n{done.stdout}{done.stderr}"
