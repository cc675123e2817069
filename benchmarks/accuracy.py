"""How well the whole engine does on annotated fields, from pixels to classes.

    python benchmarks/accuracy.py glioma --data FOLDER
    python benchmarks/accuracy.py glioma --at 0.5
    python benchmarks/accuracy.py synthetic

``glioma`` wants a folder with ``images/*.png``, ``masks/*.png`` (uint16 instances) and
``points.json`` ({image: [[x, y, class], ...]}), as other fields may be given with ``--data`` and
``--mpp``; ``synthetic`` makes its own slide. Detection is
matched one to one within a radius; panoptic quality counts outlines that share over half of their
area (Kirillov et al., CVPR 2019). ``--at`` brings the fields to another um per pixel first, as if
another scanner had made them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nucliseg_qp.config import Settings, load_settings
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.pipeline import Analysis, Engine
from nucliseg_qp.training.metrics import PointScore, match_points

GLIOMA_MPP = 0.33
RADIUS_UM = 12.0 * GLIOMA_MPP
"""How far a centre may be off: 12 px of the glioma fields."""


@dataclass
class Field:
    """One annotated image: path, um per pixel, points (n, 2), positive (n,), labels (h, w)."""

    path: Path
    mpp: float | None
    points: np.ndarray
    positive: np.ndarray
    labels: np.ndarray


@dataclass
class Figures:
    """Counts of one field, from which every figure follows."""

    name: str
    points: PointScore
    same_class: int
    iou: float
    overlapped: int
    outlines: int
    masks: int
    positive_found: float
    positive_true: float

    @property
    def panoptic(self) -> float:
        return self.iou / max(1e-9, (self.outlines + self.masks) / 2)

    @property
    def error(self) -> float:
        return abs(self.positive_found - self.positive_true)


def glioma_fields(folder: Path, mpp: float = GLIOMA_MPP) -> list[Field]:
    import cv2

    truth = json.loads((folder / "points.json").read_text())
    fields = []
    for name, points in sorted(truth.items()):
        labels = cv2.imread(str(folder / "masks" / name), cv2.IMREAD_UNCHANGED).astype(np.int64)
        xy = np.array([[x, y] for x, y, _ in points])
        positive = np.array([str(kind).lower().startswith("pos") for _, _, kind in points])
        fields.append(Field(folder / "images" / name, mpp, xy, positive, labels))
    return fields


def rescaled(field: Field, mpp: float, folder: Path) -> Field:
    """Give the field as it would be at another um per pixel."""
    import cv2

    image = cv2.imread(str(field.path))
    height, width = image.shape[:2]
    factor = field.mpp / mpp
    size = round(width * factor), round(height * factor)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    path = folder / field.path.name
    cv2.imwrite(str(path), cv2.resize(image, size, interpolation=method))
    labels = cv2.resize(field.labels.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST)
    points = field.points * [size[0] / width, size[1] / height]
    return Field(path, mpp, points, field.positive, labels.astype(np.int64))


def synthetic_field(folder: Path, nuclei_per_tile: float, size_px: int = 2048) -> Field:
    from nucliseg_qp.training.slides import write_slide

    path = folder / f"synthetic_{nuclei_per_tile:.0f}.ome.tif"
    truth = write_slide(path, size_px, size_px, 0.25, 7, nuclei_per_tile)
    labels = truth.labels(0, 0, size_px, size_px).astype(np.int64)
    return Field(path, None, truth.points, truth.classes > 0, labels)


def analyse(field: Field, engine: Engine) -> Nuclei:
    with open_slide(field.path, field.mpp) as slide:
        return Nuclei.concatenate(list(Analysis(slide, engine).nuclei()))


def drawn(nuclei: Nuclei, shape: tuple[int, ...]) -> np.ndarray:
    """Give the label image of outlines: pixels whose centre they enclose."""
    from skimage.draw import polygon

    labels = np.zeros(shape, np.int64)
    for number, ring in enumerate(nuclei.rings(), start=1):
        row, column = polygon(ring[:, 1] - 0.5, ring[:, 0] - 0.5, shape)
        labels[row, column] = number
    return labels


def overlaps(found: np.ndarray, true: np.ndarray) -> tuple[float, int, int, int]:
    """Give the summed IoU of pairs over one half, their number, and the numbers of each side."""
    width = int(found.max()) + 1
    pair, shared = np.unique(true.ravel() * width + found.ravel(), return_counts=True)
    area_true, area_found = np.bincount(true.ravel()), np.bincount(found.ravel())
    t, f = pair // width, pair % width
    iou = shared / (area_true[t] + area_found[f] - shared)
    good = (t > 0) & (f > 0) & (iou > 0.5)
    counts = int((area_found[1:] > 0).sum()), int((area_true[1:] > 0).sum())
    return float(iou[good].sum()), int(good.sum()), *counts


def measure(field: Field, nuclei: Nuclei, radius_px: float, border_px: float) -> Figures:
    """Score the nuclei that any program found in a field; those at its border may be missed."""
    height, width = field.labels.shape
    found = np.stack([nuclei.x, nuclei.y], axis=1)
    pairs = match_points(field.points, found, radius_px)
    inside_true = _inside(field.points, width, height, border_px)
    inside_found = _inside(found, width, height, border_px)
    counted = inside_true[pairs[:, 0]] | inside_found[pairs[:, 1]]
    missed = inside_true.sum() - inside_true[pairs[:, 0]].sum()
    spurious = inside_found.sum() - inside_found[pairs[:, 1]].sum()
    positive = np.array([name != "Negative" for name in nuclei.class_names])[nuclei.class_index]
    same = field.positive[pairs[counted, 0]] == positive[pairs[counted, 1]]
    iou, overlapped, outlines, masks = overlaps(drawn(nuclei, field.labels.shape), field.labels)
    return Figures(
        field.path.stem,
        PointScore(int(counted.sum()), int(missed), int(spurious)),
        int(same.sum()),
        iou,
        overlapped,
        outlines,
        masks,
        100 * positive.mean() if len(positive) else 0.0,
        100 * field.positive.mean(),
    )


def _inside(xy: np.ndarray, width: int, height: int, border: float) -> np.ndarray:
    x, y = xy[:, 0], xy[:, 1]
    return (x >= border) & (x < width - border) & (y >= border) & (y < height - border)


def summary(rows: list[Figures]) -> dict[str, float]:
    """Pool the nuclei of all fields; PQ and the error of positive % are means over fields."""
    points = sum((row.points for row in rows), PointScore())
    return {
        "F1": points.f1,
        "precision": points.precision,
        "recall": points.recall,
        "PQ": float(np.mean([row.panoptic for row in rows])),
        "class": sum(row.same_class for row in rows) / max(1, points.matched),
        "error": float(np.mean([row.error for row in rows])),
    }


def report(rows: list[Figures]) -> None:
    table = Table("field", "F1", "precision", "recall", "PQ", "class", "pos % found", "pos % true")
    for row in rows:
        *figures, _ = summary([row]).values()
        last = f"{row.positive_found:.1f}", f"{row.positive_true:.1f}"
        table.add_row(row.name, *(f"{value:.3f}" for value in figures), *last)
    *figures, error = summary(rows).values()
    table.add_section()
    table.add_row("all", *(f"{value:.3f}" for value in figures), f"error {error:.1f}", "")
    Console().print(table)


def default_data() -> Path:
    """Give the folder of annotated data, which is optional and not part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("NUCLISEG_QP_DATA", beside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["glioma", "synthetic"])
    parser.add_argument("--data", type=Path, default=default_data() / "glioma_ki67")
    parser.add_argument("--mpp", type=float, default=GLIOMA_MPP, help="um per pixel of the fields")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument(
        "--at", type=float, metavar="MPP", help="um per pixel to bring the fields to"
    )
    args = parser.parse_args()
    engine = Engine.start(settings_of(args.config, args.set))
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "glioma":
            fields = glioma_fields(args.data, args.mpp)
            radius_px = RADIUS_UM / args.mpp
            if args.at:
                fields = [rescaled(field, args.at, Path(folder)) for field in fields]
                radius_px = RADIUS_UM / args.at
            border_px = radius_px
        else:
            fields = [synthetic_field(Path(folder), number) for number in (100, 400, 1000)]
            radius_px, border_px = 12.0, 0.0
        report([measure(one, analyse(one, engine), radius_px, border_px) for one in fields])


def settings_of(config: Path | None, pairs: list[str]) -> Settings:
    merged: dict[str, dict[str, str]] = {}
    for pair in pairs:
        name, value = pair.split("=", 1)
        section, key = name.split(".", 1)
        merged.setdefault(section, {})[key] = value
    return load_settings(config, merged)


if __name__ == "__main__":
    main()
