"""How long a large project takes to collect and to reclassify, with the real QuPath.

    python benchmarks/review_speed.py --images 10 --nuclei 100000

Makes a project of round nuclei on a grid, with every measurement; a reviewed area covers the first
image of a copy, so that each nucleus of it is a correction.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from nucliseg_qp.nuclei import Nuclei


def speed(images: int, nuclei: int) -> None:
    """Time collecting and reclassifying with the real QuPath, every nucleus looked at or none."""
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.review.apply import apply_palette
    from nucliseg_qp.review.collect import collect

    with tempfile.TemporaryDirectory() as name:
        root, marked = project_of(Path(name), images, nuclei)
        began = time.monotonic()
        [image] = collect(marked, Path(name) / "all", images=["#1"]).images
        told = f"{len(image):,} of {image.nuclei_of_run:,} nuclei collected"
        Console().print(f"{told} in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        done = apply_palette(root, load_palette("dab"))
        problems = [one.problem for one in done if one.problem]
        given, changed = (sum(getattr(one, key) for one in done) for key in ("given", "changed"))
        told = f"{given:,} nuclei of {images} images reclassified, {changed:,} changed"
        Console().print(f"{told} in {time.monotonic() - began:.1f} s", *problems)


def project_of(folder: Path, images: int, nuclei: int) -> tuple[Path, Path]:
    """Make a project, and a copy in which a reviewed area covers the first image."""
    import shutil

    from nucliseg_qp.nuclei import nucleus_ids
    from nucliseg_qp.qupath.held import EntryResult, Parent
    from nucliseg_qp.qupath.project_file import ProjectFile
    from nucliseg_qp.qupath.project_folder import ProjectFolder
    from nucliseg_qp.qupath.results import save_parts
    from nucliseg_qp.qupath.worker import QuPathWorker

    root, marked = folder / "project", folder / "marked"
    root.mkdir()
    side = 20 * (int(nuclei**0.5) + 1)
    project = ProjectFile(ProjectFolder(root))
    for number in range(images):
        path = folder / f"{number}.ome.tif"
        write_blank(path, side)
        project.add(path)
    project.save()
    table = many_nuclei(nuclei, side)
    corner = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [corner]}
    area, looked = (
        Parent(f"00000000-0000-4000-8000-00000000000{n}", text, shape)
        for n, text in enumerate(("NucliSeg QP", "Reviewed"))
    )
    with QuPathWorker(root) as worker:
        for number in range(images):
            parts = save_parts(folder, str(number), [(table, nucleus_ids(str(number), table))])
            result = EntryResult(
                number + 1, None, (area,), parts, "replace", (), side, side, 0.5, "", str(number)
            )
            worker.write(result)
    shutil.copytree(root, marked)
    with QuPathWorker(marked) as worker:
        parts = save_parts(folder, "0", [(table, nucleus_ids("0", table))])
        result = EntryResult(1, None, (looked,), parts, "replace", (), side, side, 0.5, "", "0")
        worker.write(result)
    return root, marked


def write_blank(path: Path, side_px: int) -> None:
    import tifffile

    pixels = np.full((side_px, side_px, 3), 240, np.uint8)
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(
        path, pixels, ome=True, tile=(512, 512), compression="zlib", photometric="rgb",
        metadata={"axes": "YXS", **size, **units},
    )  # fmt: skip


def many_nuclei(count: int, side_px: int) -> Nuclei:
    """Give round nuclei on a grid with every measurement."""
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS

    place, row = np.arange(count), side_px // 20
    x, y = 10.0 + 20 * (place % row), 10.0 + 20 * (place // row)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    values = np.random.default_rng(0).uniform(0, 1, (len(MEASUREMENT_COLUMNS), count))
    made = Nuclei(
        x=x, y=y, score=np.full(count, 0.5, np.float32),
        ring_xy=(np.stack([x, y], axis=1)[:, None] + circle).reshape(-1, 2),
        ring_start=np.arange(count + 1) * 24,
        measurements=dict(zip(MEASUREMENT_COLUMNS, values.astype(np.float32), strict=True)),
    )  # fmt: skip
    return load_palette("hsv").classify(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--nuclei", type=int, default=100_000)
    args = parser.parse_args()
    speed(args.images, args.nuclei)


if __name__ == "__main__":
    main()
