"""The page of the Python API, written from the docstrings of the public names."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING

import nucliseg_qp

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS = {
    "One image": ("open_slide", "load_settings", "Engine", "find_nuclei", "Nuclei"),
    "A part of an image": ("Region", "Scope"),
    "Many images": ("Job", "detect_images", "annotate_images"),
    "Files, classes, scores": (
        "write_geojson",
        "read_geojson",
        "nucleus_ids",
        "load_palette",
        "score_counts",
    ),
    "Review": ("collect_review", "calibrate_palette"),
    "Samples and errors": ("copy_sample", "NucliSegError"),
}

HEAD = """\
# Python API

These names can be imported from `nucliseg_qp`; they are what a script should build on. Importing
the package is quick and loads no torch: a name is loaded when it is first used. What is below them,
such as `Analysis` in `nucliseg_qp.pipeline`, is typed and documented as well, and may change.

Every example on this page is run as a test, in a folder made by

```console
$ nucliseg-qp sample copy ki67_synthetic
$ nucliseg-qp detect ki67_synthetic/images/low.ome.tif --out results
```

[From image to plot](../notebooks/image-to-plot.md) uses some of them together.
"""

_SECTION = re.compile(r"^(\w+)\n-{3,}\n", re.MULTILINE)


def api_page() -> str:
    """Give the page."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts += [f"## {title}\n", *(_entry(name) for name in names)]
    return "\n".join(parts)


def _entry(name: str) -> str:
    thing = getattr(nucliseg_qp, name)
    lead, *rest = _SECTION.split(inspect.getdoc(thing) or "")
    parts = [f"### {name}\n", f"```python\n{_signature(name, thing)}\n```\n", f"{lead.strip()}\n"]
    for section, text in zip(rest[::2], rest[1::2], strict=True):
        if section == "Examples":
            methods = "\n".join(_methods(thing)) if inspect.isclass(thing) else ""
            parts += [f"{methods}\n"] if methods else []
            parts.append(f"```pycon\n{text.strip()}\n```\n")
        else:
            parts += [f"**{section}**\n", "\n".join(_items(text)) + "\n"]
    return "\n".join(parts)


def _signature(name: str, thing: type) -> str:
    """Give a signature, an argument a line where it is long."""
    found = inspect.signature(thing)
    # Annotations are texts, so they come in quotes.
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(found)).removesuffix(" -> None")
    short = name + re.sub(r"<factory>|<member[^>]*>", "...", plain)
    if len(short) <= 90:
        return short
    inner, _, answer = short[len(name) + 1 :].rpartition(")")
    lines = re.split(r", (?=\*|\w+:|\w+=)", inner)
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){answer}"


def _items(text: str) -> Iterator[str]:
    """Give the entries of a section as a list: a name and type, then its indented text."""
    for block in re.split(r"\n(?=\S)", text.strip()):
        head, _, body = block.partition("\n")
        words = " ".join(textwrap.dedent(body).split())
        name, colon, kind = head.partition(" : ")
        label = f"`{name}` ({kind})" if colon else f"`{head}`"
        yield f"- {label}: {words}" if words else f"- {head}"


def _methods(thing: type) -> Iterator[str]:
    """Give the public methods and properties of a class, with the first line of each."""
    told = {n: getattr(thing, n) for n, one in vars(thing).items() if _is_told(n, one)}
    if told:
        yield "**Methods and properties**\n"
    for name, one in told.items():
        first = (inspect.getdoc(one) or "").partition("\n\n")[0]
        yield f"- `{name}{_arguments(one)}`: {' '.join(first.split())}"


def _is_told(name: str, one: object) -> bool:
    kind = inspect.isfunction(one) or isinstance(one, property | classmethod)
    return kind and not name.startswith("_")


def _arguments(one: object) -> str:
    if not callable(one):
        return ""
    names = (name for name in inspect.signature(one).parameters if name != "self")
    return f"({', '.join(names)})"
