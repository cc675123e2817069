"""How right this program is beside QuPath's own positive cell detection, on the same images.

    python benchmarks/peers.py                    # some minutes
    python benchmarks/peers.py --out FILE.json    # keeps the figures of every setting

``accuracy.py`` scores the nuclei of both. QuPath runs with the settings it comes with, and with all
of a grid around them, of which the best is shown. It is the best on the very images it is scored
on, which favours QuPath; this program runs as it comes. Where there is no QuPath, the command says
so and fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from accuracy import Field, Figures, analyse, default_data, glioma_fields, measure, summary
from qupath_cells import DEFAULTS, detections, qupath_with_launcher
from rich.console import Console
from rich.table import Table

from nucliseg_qp.config import load_settings
from nucliseg_qp.errors import QuPathError
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.provenance import machine_record
from nucliseg_qp.qupath.install import QuPathInstall
from nucliseg_qp.training.data import read_folder

TILE_UM = 100.0
GRID = {
    "detectionImageBrightfield": ("Optical density sum", "Hematoxylin OD"),
    "threshold": (0.1, 0.05, 0.15, 0.2, 0.3),
    "sigmaMicrons": (1.5, 0.7, 1.0, 2.0),
    "backgroundRadiusMicrons": (8.0, 0.0),
}
"""The first of each is what QuPath comes with; without a radius no background is subtracted."""


@dataclass(frozen=True)
class Images:
    """Annotated images, how near a match is, and how wide a border does not count."""

    name: str
    fields: list[Field]
    radius_px: float
    border_px: float
    has_masks: bool


@dataclass(frozen=True)
class Row:
    """How the nuclei were found, and the figures of every image."""

    settings: str
    fields: list[Figures]

    @property
    def figures(self) -> dict[str, float]:
        return summary(self.fields)

    def cells(self, images: Images) -> list[str]:
        """Give what a table shows; of tiles with points only, nothing that needs more."""
        *values, error = self.figures.values()
        shares = [f"{value:.3f}" for value in values]
        errors = " ".join(f"{one.error:.1f}" for one in self.fields)
        return [*shares, f"{error:.1f} ({errors})"] if images.has_masks else shares[:3]


def glioma(data: Path) -> Images:
    return Images("glioma, Ki-67", glioma_fields(data / "glioma_ki67"), 12.0, 12.0, True)


def endonuke(data: Path) -> Images:
    folder, fields = data / "endonuke", []
    for item in read_folder(folder):
        height, width = item.image.shape[:2]
        # Its classes are tissues, not stains, and it has no masks: neither is shown.
        unknown = np.zeros(len(item.points), bool), np.zeros((height, width), np.int64)
        fields.append(Field(folder / "images" / item.name, TILE_UM / width, item.points, *unknown))
    return Images("EndoNuke, ER and PR", fields, 10.0, 0.0, False)


def scored(settings: str, images: Images, found: Sequence[Nuclei]) -> Row:
    pairs = zip(images.fields, found, strict=True)
    return Row(settings, [measure(*pair, images.radius_px, images.border_px) for pair in pairs])


def ours(images: Images) -> Row:
    engine = Engine.start(load_settings())
    return scored("as it comes", images, [analyse(field, engine) for field in images.fields])


def of_qupath(images: Images, install: QuPathInstall) -> list[Row]:
    """Give a row for every setting of the grid, QuPath's own settings first."""
    settings = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    full = [DEFAULTS | one for one in settings]
    runs = [detections(install, one.path, one.mpp or 1.0, full) for one in images.fields]
    names = [", ".join(f"{key} {value}" for key, value in one.items()) for one in settings]
    return [
        scored(name, images, [run.nuclei for run in column])
        for name, column in zip(names, zip(*runs, strict=True), strict=True)
    ]


def report(images: Images, mine: Row, others: list[Row]) -> None:
    best = max(others, key=lambda row: row.figures["F1"])
    columns = ["F1", "precision", "recall"]
    if images.has_masks:
        columns += ["PQ", "class", "pos % error (of each field)"]
    table = Table("", *columns, title=images.name)
    table.add_row("nucliseg_qp, as it comes", *mine.cells(images))
    table.add_row("QuPath, as it comes", *others[0].cells(images))
    table.add_row(f"QuPath, best F1 of {len(others)}", *best.cells(images))
    Console().print(table)
    Console().print(f"That best has {best.settings}")
    if images.has_masks:
        masks = max(row.figures["PQ"] for row in others)
        Console().print(f"The best PQ of all settings is {masks:.3f}")


def record(row: Row, images: Images) -> dict[str, object]:
    names = list(row.figures)[: None if images.has_masks else 3]
    return {"settings": row.settings} | {name: round(row.figures[name], 4) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--out", type=Path, help="JSON with the figures of every setting")
    args = parser.parse_args()
    try:
        install = qupath_with_launcher()
    except QuPathError as error:
        raise SystemExit(str(error)) from None
    if install is None:
        raise SystemExit("no QuPath with bin/QuPath is installed (PAQUO_QUPATH_DIR names one)")
    found = machine_record(None) | {"QuPath": install.version}
    for images in (glioma(args.data), endonuke(args.data)):
        mine, others = ours(images), of_qupath(images, install)
        report(images, mine, others)
        found[images.name] = {
            "nucliseg_qp": record(mine, images),
            "QuPath": [record(row, images) for row in others],
        }
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
