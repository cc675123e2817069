"""A calibrated palette as a file that every verb and the scripts accept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nucliseg_qp.errors import UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.palette.classes import available_palettes, load_palette
from nucliseg_qp.palette.rules import NearestColour, OpticalDensity
from nucliseg_qp.palette.user import user_palette
from nucliseg_qp.review.colours import cone_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.palette.classes import Palette

__all__ = ["new_palette_file", "palette_text", "save_palette", "settings_text"]


def new_palette_file(name: str, path: Path | None, replace: bool) -> Path:
    """Name the file of a new palette: the one given, or one in the user's folder.

    Raises
    ------
    UsageError
        When a palette that ships has the name, or the file is there and not to be replaced.
    """
    if path is None and name in available_palettes():
        raise UsageError(
            f"a palette that ships has the name {name!r}, and is the one that would be used",
            "Choose another --name.",
        )
    target = path or user_palette(name)
    if target.exists() and not replace:
        raise UsageError(
            f"there is a palette {target}", "Choose another --name, or replace it with --replace."
        )
    return target


def save_palette(path: Path, palette: Palette, story: Sequence[str]) -> Palette:
    """Write a palette as TOML and give it as it reads back, rounding and all.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(palette_text(palette, story), encoding="utf-8")
    return load_palette(path)


def palette_text(palette: Palette, story: Sequence[str]) -> str:
    """Give a palette as TOML, with comments that say where it comes from."""
    rule = palette.rule
    head = [f"# {line}" for line in story]
    if isinstance(rule, NearestColour):
        body = ['rule = "nearest-color"', *_colour_classes(palette, rule)]
    elif isinstance(rule, OpticalDensity):
        kind = ['rule = "optical-density"', f"measurement = {json.dumps(rule.measurement)}"]
        body = [*kind, *_density_classes(palette, rule)]
    else:
        raise UsageError(f"a rule of kind {type(rule).__name__} has no file", "Use another.")
    return "\n".join([*head, "", *body, ""])


def _head(name: str, rgb: tuple[int, int, int]) -> list[str]:
    # JSON's strings and arrays are TOML's, too.
    text = json.dumps(name, ensure_ascii=False)
    return ["", "[[class]]", f"name = {text}", f"color = {list(rgb)}"]


def _colour_classes(palette: Palette, rule: NearestColour) -> list[str]:
    lines = []
    for number, one in enumerate(palette.classes):
        lines += [*_head(one.name, one.color_rgb), "references_rgb = ["]
        for colour in cone_rgb(rule.references[rule.owners == number]).round(2).tolist():
            lines.append(f"    {colour},")
        lines.append("]")
    return lines


def _density_classes(palette: Palette, rule: OpticalDensity) -> list[str]:
    lines = []
    for number, one in enumerate(palette.classes):
        lines += _head(one.name, one.color_rgb)
        if number:
            lines.append(f"from = {float(rule.thresholds[number - 1])!r}")
    return lines


def settings_text(
    palette: Path,
    vectors: tuple[NDArray, NDArray] | None,  # type: ignore[type-arg]
) -> str:
    """Give settings for ``--config``: the palette and the stain vectors of the reviewed slides."""
    lines = [
        "# For --config. The stain vectors are those of the reviewed nuclei. With them densities",
        "# are other numbers: after a new detection, calibrate a palette with thresholds again.",
        "",
        "[classes]",
        f"palette = {json.dumps(str(palette.resolve()), ensure_ascii=False)}",
    ]
    if vectors is not None:
        names = ("hematoxylin", "dab")
        lines += ["", "[stains]"]
        for name, vector in zip(names, vectors, strict=True):
            lines.append(f"{name} = {[round(float(value), 5) for value in vector]}")
    return "\n".join([*lines, ""])
