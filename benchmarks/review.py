"""What reviews teach, measured: a model for a new look, and classes of real fields.

    nice -n 10 python benchmarks/review.py finetune --minutes 10
    python benchmarks/review.py glioma
    python benchmarks/review.py speed

``finetune`` paints 5 fields of a look the shipped model does badly on (methyl green with a red
chromogen, blurred; full of debris and red cells; or pale and grainy), plays their truth as a
review, fine-tunes, and gives F1 on 3 other fields of that look and on EndoNuke and glioma fields,
before and after. ``glioma`` plays the true classes of a third of the
nuclei of two fields as corrections, and gives the class accuracy on the other three. Both want a
folder with annotated images (see ``accuracy.py``) for what is not painted. ``speed`` makes a
project of a million nuclei with the real QuPath and times `collect` and `apply`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from accuracy import Field, analyse, default_data, glioma_fields
from rich.console import Console
from rich.table import Table

from nucliseg_qp.config import Settings
from nucliseg_qp.keypoints.model import KeypointModel, load_model
from nucliseg_qp.keypoints.runtime import pick_device
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.review.finetune import fine_tune
from nucliseg_qp.review.finetune_settings import FineTuning
from nucliseg_qp.review.folder import Review
from nucliseg_qp.review.verdicts import ADDED, CONFIRMED, DELETED, ImageReview
from nucliseg_qp.training.coco import CocoTile
from nucliseg_qp.training.data import LabelledImage, read_folder
from nucliseg_qp.training.judge import Matching, judge, score_at
from nucliseg_qp.training.looks import Look, plain_look
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.slides import write_slide

SIDE_PX, MPP, PER_TILE = 800, 0.4, 295.0


def looks() -> dict[str, Look]:
    """Give looks outside of what the model was trained on."""
    green = replace(
        plain_look(),
        haematoxylin=(0.98, 0.14, 0.13),
        dab=(0.27, 0.68, 0.68),
        cytoplasm_od=0.2,
        stroma_od=0.15,
        blur_um=0.9,
        sharpen=0.0,
    )
    pale = replace(
        plain_look(),
        white=(170.0, 175.0, 160.0),
        haematoxylin_od=(0.1, 0.16),
        cytoplasm_od=0.1,
        stroma_od=0.08,
        texture=1.3,
        noise=7.0,
        blur_um=0.7,
        sharpen=0.0,
        jpeg_quality=40,
    )
    dirty = replace(plain_look(), debris_per_mm2=3000.0, red_cells_per_mm2=9000.0)
    return {"green": green, "dirty": dirty, "pale": pale}


def field_tile(folder: Path, seed: int, look: Look) -> tuple[Path, CocoTile]:
    """Paint a field and give it with its truth."""
    import tifffile

    path = folder / f"field {seed}.ome.tif"
    truth = write_slide(path, SIDE_PX, SIDE_PX, MPP, seed, PER_TILE, look)
    inside = ((truth.points >= 0) & (truth.points < SIDE_PX)).all(axis=1)
    pixels = tifffile.imread(path)
    item = LabelledImage(path.name, pixels, truth.points[inside], mpp=MPP)
    return path, CocoTile(item, (None,) * int(inside.sum()), "new look", str(seed), "", SIDE_PX)


def played(path: Path, tile: CocoTile, model: KeypointModel) -> ImageReview:
    """Play somebody who corrects every nucleus of a field the model was run on."""
    [one] = judge(model, [tile], pick_device("cpu"))
    found = one.found[one.found[:, 2] >= model.info.threshold]
    pairs = match_points(one.truth, found, 3.3 / MPP)
    missed = np.setdiff1d(np.arange(len(one.truth)), pairs[:, 0])
    wrong = np.setdiff1d(np.arange(len(found)), pairs[:, 1])
    change = [CONFIRMED] * len(pairs) + [ADDED] * len(missed) + [DELETED] * len(wrong)
    xy = np.concatenate([one.truth[pairs[:, 0]], one.truth[missed], found[wrong, :2]])
    empty = np.array([""] * len(change))
    corner = [[0, 0], [SIDE_PX, 0], [SIDE_PX, SIDE_PX], [0, SIDE_PX], [0, 0]]
    return ImageReview(
        path.stem, path.name, (path.as_uri(),), SIDE_PX, SIDE_PX, MPP, "0" * 16, len(found),
        tuple(map(str, range(len(change)))), np.array(change), empty, empty, empty, empty, xy,
        areas=({"type": "Polygon", "coordinates": [corner]},),
    )  # fmt: skip


def real_tiles(folder: Path, name: str, mpp: float | None) -> list[CocoTile]:
    """Give annotated fields; without a pixel size each is 100 um wide."""
    tiles = []
    for item in read_folder(folder / name):
        size = mpp or 100.0 / item.image.shape[1]
        plain = replace(item, mpp=size, labels=None)
        none = (None,) * len(plain.points)
        tiles.append(CocoTile(plain, none, name, plain.name, plain.name, plain.image.shape[0]))
    return tiles


def f1(model: KeypointModel, tiles: list[CocoTile]) -> float:
    judged = judge(model, tiles, pick_device("cpu"))
    return score_at(judged, model.info.threshold, Matching(border_um=3.6)).f1


def finetune(data: Path, look: Look, minutes: float, steps: int, rate: float) -> None:
    start = load_model()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fields = [field_tile(folder, seed, look) for seed in range(5)]
        images = tuple(played(path, tile, start) for path, tile in fields)
        tests = {
            "new look, 3 other fields": [field_tile(folder, 100 + n, look)[1] for n in range(3)]
        }
        for part, mpp in (("endonuke", None), ("glioma_ki67", 0.33)):
            if (data / part).is_dir():
                tests[part] = real_tiles(data, part, mpp)
        began = time.monotonic()
        how = FineTuning(out=folder / "out", minutes=minutes, steps=steps, learning_rate=rate)
        result = fine_tune([Review("truth", "", "painted", images)], how)
        seconds = time.monotonic() - began
        table = Table("data", "F1 before", "F1 after")
        for part in result.before:
            table.add_row(f"({part})", f"{result.before[part]:.3f}", f"{result.after[part]:.3f}")
        after = load_model(result.model) if result.model else start
        for part, tiles in tests.items():
            table.add_row(part, f"{f1(start, tiles):.3f}", f"{f1(after, tiles):.3f}")
    console = Console()
    console.print(table)
    told = "; ".join(result.reasons) or "kept"
    console.print(f"{seconds / 60:.1f} min, {result.share:.0%} of the way, {told}")


def glioma_review(field: Field, share: float, rng: np.random.Generator) -> ImageReview:
    """Play the true classes of a share of a field's nuclei as a review of what was found."""
    from nucliseg_qp.pipeline import Engine

    nuclei = analyse(field, Engine.start(Settings()))
    pairs = match_points(field.points, np.stack([nuclei.x, nuclei.y], axis=1), 12.0)
    pairs = pairs[rng.random(len(pairs)) < share]
    names = np.array(nuclei.class_names)
    before = names[nuclei.class_index[pairs[:, 1]]]
    now = np.where(field.positive[pairs[:, 0]], "Positive", "Negative")
    empty = np.array([""] * len(pairs))
    return ImageReview(
        field.path.stem, field.path.name, (field.path.as_uri(),), *field.labels.shape[::-1], 0.33,
        "0" * 16, len(nuclei), tuple(map(str, pairs[:, 1])),
        np.where(before == now, CONFIRMED, "reclassified"), before, now, empty, empty,
        np.stack([nuclei.x, nuclei.y], axis=1)[pairs[:, 1]],
        {name: column[pairs[:, 1]] for name, column in nuclei.measurements.items()},
    )  # fmt: skip


def glioma(data: Path) -> None:
    """Learn from each two of five fields, judge on the other three.

    The fields are of three patients, but which are of the same one is not told; in some of the
    ten ways a patient is on both sides.
    """
    from nucliseg_qp.palette.classes import load_palette
    from nucliseg_qp.review.agreement import accuracy
    from nucliseg_qp.review.calibrate import fit_palette, judged_rows

    rng = np.random.default_rng(0)
    whole = [glioma_review(field, 1.0, rng) for field in glioma_fields(data / "glioma_ki67")]
    table = Table("palette", "learnt from", "nuclei judged", "accuracy before", "after")
    for name in ("hsv", "dab"):
        base = load_palette(name)
        gains = []
        for pair in combinations(range(len(whole)), 2):
            third = [whole[i].take(rng.random(len(whole[i])) < 1 / 3) for i in pair]
            new = fit_palette(base, [judged_rows(image, base) for image in third])
            rest = [image for i, image in enumerate(whole) if i not in pair]
            test = [judged_rows(image, base) for image in rest]
            before, after = (accuracy([rows.told(one) for rows in test]) for one in (base, new))
            gains.append((before, after))
            learnt = f"{whole[pair[0]].entry}, {whole[pair[1]].entry}"
            count = str(sum(len(rows.truth) for rows in test))
            table.add_row(name, learnt, count, f"{before:.4f}", f"{after:.4f}")
        mean = np.mean(gains, axis=0)
        table.add_row(name, "mean", "", f"{mean[0]:.4f}", f"{mean[1]:.4f}", end_section=True)
    Console().print(table)


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
    parser.add_argument("what", choices=["finetune", "glioma", "speed"])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=FineTuning.steps)
    parser.add_argument("--look", choices=list(looks()), default="green")
    parser.add_argument("--rate", type=float, default=FineTuning.learning_rate)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--nuclei", type=int, default=100_000)
    args = parser.parse_args()
    if args.what == "speed":
        speed(args.images, args.nuclei)
    elif args.what == "glioma":
        glioma(args.data)
    else:
        finetune(args.data, looks()[args.look], args.minutes, args.steps, args.rate)


if __name__ == "__main__":
    main()
