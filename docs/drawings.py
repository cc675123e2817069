"""Drawings of the source: its layers, as pyproject.toml orders them, and the way of the data.

SVG as text, so that a test can tell whether the pictures are those of the code.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, LINE, GAP = 760, 19, 5
LONGEST_LINE = 90
"""Letters beside a name."""
INK, PAPER, SOFT, EDGE = "#1b2333", "#ffffff", "#eef1f8", "#8090b8"

STEPS = (
    ("image file", "", "a slide, or an image of a QuPath project"),
    ("pixels", "images", "readers, pixel size, tissue, tiles; one resolution for each purpose"),
    ("keypoints", "keypoints", "network, heatmap, peaks: where nuclei are"),
    ("outlines", "masks", "seeds, watershed, outlines: how far each reaches"),
    ("measurements", "quantify", "shape and stain of each nucleus; scores"),
    ("classes", "palette", "rule and colours; margin"),
    ("Nuclei", "nuclei.py", "one table a tile, the only thing that is handed on"),
    ("files, project", "outputs.py, qupath", "GeoJSON, Parquet, CSV; detections in QuPath"),
)


def layers() -> list[list[str]]:
    """Give the layers of the package, uppermost first, each with its modules."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = about["tool"]["importlinter"]["contracts"][0]
    return [
        [one.strip().removeprefix("nucliseg_qp.") for one in layer.split("|")]
        for layer in contract["layers"]
    ]


def says(module: str) -> str:
    """Give the first line of a module's or a room's docstring."""
    package = ROOT / "nucliseg_qp" / module
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ").replace("`", "").rstrip(".")


def layers_svg() -> str:
    """Draw the layers: what is in a box imports from boxes below it only."""
    parts, top = [], GAP
    for place, layer in enumerate(layers()):
        height = LINE * len(layer) + 10
        parts.append(box(GAP, top, WIDTH - 2 * GAP, height, PAPER if place % 2 else SOFT))
        for line, module in enumerate(layer):
            base = top + LINE * (line + 1)
            parts += [label(GAP + 10, base, module, "bold"), label(120, base, shortened(module))]
        top += height + GAP
    return svg(top, "The layers of nucliseg_qp, uppermost first", parts)


def shortened(module: str) -> str:
    """Give what a module says of itself, in one line."""
    text = says(module)
    return text if len(text) <= LONGEST_LINE else text.partition(": ")[0]


def flow_svg() -> str:
    """Draw the way of the data, from the image file to QuPath."""
    high, parts = 40, []
    for place, (what, where, text) in enumerate(STEPS):
        top = GAP + place * (high + 16)
        parts += [
            box(GAP, top, 200, high, SOFT),
            label(GAP + 100, top + 25, what, "bold", "middle"),
            label(GAP + 216, top + (17 if where else 25), where, "bold"),
            label(GAP + 216, top + (33 if where else 25), text),
        ]
        if place < len(STEPS) - 1:
            parts.append(arrow(GAP + 100, top + high, 15))
    return svg(GAP + len(STEPS) * (high + 16) - 8, "The way of the data through nucliseg_qp", parts)


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """Draw a box."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" '
        f'stroke="{EDGE}"/>'
    )


def label(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    """Draw one line of text."""
    return (
        f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def arrow(x: float, y: float, length: float) -> str:
    """Draw an arrow downwards."""
    tip = y + length
    return (
        f'<path d="M{x} {y}V{tip - 6}" stroke="{EDGE}" stroke-width="2"/>'
        f'<path d="M{x - 5} {tip - 7}L{x} {tip}L{x + 5} {tip - 7}Z" fill="{EDGE}"/>'
    )


def svg(height: float, title: str, parts: list[str]) -> str:
    """Give a whole drawing, on paper of its own: pages are light or dark."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])
