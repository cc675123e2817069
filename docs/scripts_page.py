"""The page of the Groovy scripts, from the words at the head of each script."""

from __future__ import annotations

import re

from nucliseg_qp.qupath.scripts import SCRIPT_NAMES, groovy_source
from nucliseg_qp.qupath.truth import EXPORT_ANNOTATED

HEAD = """\
# Scripts for QuPath

`nucliseg-qp scripts install PROJECT` puts them into a project; in QuPath they are under
**Automate > Project scripts**. `nucliseg-qp data script` prints the last one. How they are used is
told in [QuPath users: five minutes](../how-to/inside-qupath.md).

Arguments are given after `-a` on QuPath's command line, or take the place of the dialog with
*Run for project*. What a script reads and writes beside the project is listed in
[Files](files.md). All are made for QuPath 0.5.1, 0.6 and 0.7, with and without a window.
"""
_COMMENT = re.compile(r"/\*\n \* NucliSeg QP: [^\n]*\n(?P<text>.*?)\n \*/", re.DOTALL)


def scripts_page(note: str) -> str:
    """Give the page; ``note`` says who writes it."""
    names = (*SCRIPT_NAMES, EXPORT_ANNOTATED)
    parts = [f"## {name.removesuffix('.groovy')}\n\n{_described(name)}\n" for name in names]
    return "\n".join([f"{note}\n{HEAD}", *parts])


def _described(name: str) -> str:
    comment = _COMMENT.search(groovy_source(name))
    if comment is None:
        raise ValueError(f"{name} does not say what it does")
    lines = [line.removeprefix(" *").removeprefix(" ") for line in comment["text"].splitlines()]
    kept = [_as_markdown(line) for line in lines if not line.startswith("Works in QuPath")]
    return "\n".join(kept).strip()


def _as_markdown(line: str) -> str:
    if line.startswith("  "):
        return f"\n```text\n{line.strip()}\n```\n"
    # Markdown takes <entry id> for a tag.
    return re.sub(r'"([^"]*<[^"]*)"', r"`\1`", line)
