"""What reviews teach, measured: a model for a new look, and classes of real fields.

    python benchmarks/review.py finetune --first 100 --looks 3
    python benchmarks/review.py glioma

``finetune`` paints five fields of a look the shipped model is weak on, plays their truth as a
review, fine-tunes with the defaults of ``review train``, and gives F1 on three other fields of that
look and on EndoNuke and glioma fields, before and after. Looks are numbered, see `strange_look`;
those it takes are the first from ``--first`` on with an F1 of the shipped model below 0.85 on the
five reviewed fields, whatever becomes of them. Numbers below 100 were used to find the method.
``glioma`` plays the true classes of a third of the nuclei of two fields as corrections, and gives
the class accuracy on the other three. Both want a folder with annotated images (see
``accuracy.py``) for what is not painted.
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
from nucliseg_qp.review.finetune import fine_tune
from nucliseg_qp.review.finetune_settings import FineTuning
from nucliseg_qp.review.folder import Review
from nucliseg_qp.review.verdicts import ADDED, CONFIRMED, DELETED, ImageReview
from nucliseg_qp.training.coco import CocoTile
from nucliseg_qp.training.data import LabelledImage, read_folder
from nucliseg_qp.training.judge import Matching, judge, score_at
from nucliseg_qp.training.looks import Look, random_look
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.slides import write_slide

SIDE_PX, MPP, PER_TILE = 800, 0.4, 295.0
console = Console()


WEAK_F1 = 0.85
REVIEWED, TESTED = range(5), range(100, 103)
# Optical densities of red, green and blue light, from ImageJ's plugin Colour Deconvolution
# (Landini): stains of other protocols than haematoxylin and DAB, which the model never saw.
COUNTERSTAINS = {
    "methyl green": (0.980, 0.144, 0.133),
    "fast blue": (0.749, 0.606, 0.267),
    "alcian blue": (0.875, 0.458, 0.158),
    "feulgen": (0.464, 0.830, 0.308),
    "fast red": (0.214, 0.851, 0.478),
}
CHROMOGENS = {
    "AEC": (0.274, 0.680, 0.680),
    "fast red": (0.214, 0.851, 0.478),
    "fast blue": (0.749, 0.606, 0.267),
    "DAB": (0.269, 0.568, 0.778),
}


def strange_look(number: int) -> tuple[str, Look]:
    """Give a tissue like those of training in stains and through a scanner that are not."""
    rng = np.random.default_rng([number, 77])
    tissue = random_look(rng)
    nuclei = str(rng.choice(list(COUNTERSTAINS)))
    positive = str(rng.choice([name for name in CHROMOGENS if name != nuclei]))
    red, green, blue = rng.uniform(150, 250, 3).tolist()
    look = replace(
        tissue,
        haematoxylin=COUNTERSTAINS[nuclei],
        dab=CHROMOGENS[positive],
        white=(red, green, blue),
        blur_um=float(rng.uniform(0.3, 1.0)),
        sharpen=0.0,
        noise=float(rng.uniform(2, 8)),
        density_per_mm2=float(rng.uniform(2500, 6000)),
    )
    return f"{nuclei} and {positive}, glass {red:.0f} {green:.0f} {blue:.0f}", look


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


def finetune(data: Path, first: int, looks: int, how: FineTuning) -> None:
    start = load_model()
    real = real_sets(data)
    done, number = 0, first
    while done < looks:
        with tempfile.TemporaryDirectory() as name:
            told, look = strange_look(number)
            fields = [field_tile(Path(name), seed, look) for seed in REVIEWED]
            weak = f1(start, [tile for _, tile in fields])
            console.print(f"look {number} ({told}): shipped model {weak:.3f} on reviewed fields")
            if weak < WEAK_F1:
                tests = {"new look": [field_tile(Path(name), seed, look)[1] for seed in TESTED]}
                after = taught(fields, start, replace(how, out=Path(name) / "out"))
                console.print(compared(start, after, tests | real))
                done += 1
        number += 1


def compared(start: KeypointModel, after: KeypointModel, sets: dict[str, list[CocoTile]]) -> Table:
    table = Table("data", "F1 before", "F1 after", "change")
    for name, tiles in sets.items():
        was, now = f1(start, tiles), f1(after, tiles)
        table.add_row(name, f"{was:.3f}", f"{now:.3f}", f"{now - was:+.3f}")
    return table


def taught(
    fields: list[tuple[Path, CocoTile]], start: KeypointModel, how: FineTuning
) -> KeypointModel:
    """Fine-tune on fields that somebody corrected, and tell how it went."""
    images = tuple(played(path, tile, start) for path, tile in fields)
    began = time.monotonic()
    result = fine_tune([Review("truth", "", "painted", images)], how)
    minutes = (time.monotonic() - began) / 60
    after = load_model(result.model) if result.model else start
    told = "; ".join(result.reasons) or f"kept, threshold {after.info.threshold}"
    console.print(f"    {minutes:.1f} min, {result.share:.0%} of the way to the tuned, {told}")
    return after


def real_sets(data: Path) -> dict[str, list[CocoTile]]:
    parts = {"endonuke": None, "glioma_ki67": 0.33}
    there = {name: mpp for name, mpp in parts.items() if (data / name).is_dir()}
    return {name: real_tiles(data, name, mpp) for name, mpp in there.items()}


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
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["finetune", "glioma"])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--looks", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=FineTuning.minutes)
    args = parser.parse_args()
    if args.what == "glioma":
        glioma(args.data)
    else:
        how = FineTuning(out=Path(), minutes=args.minutes)
        finetune(args.data, args.first, args.looks, how)


if __name__ == "__main__":
    main()
