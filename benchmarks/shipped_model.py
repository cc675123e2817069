"""Train the shipped keypoint model, or cross-validate how it is trained, in one command.

    python benchmarks/shipped_model.py train DATA OUT
    python benchmarks/shipped_model.py cross-validate DATA OUT

DATA holds ``endonuke`` (with ``images_unlabelled``), ``dsb2018_tissue``, ``dsb2018_fluorescence``
and ``openslide_ki67`` as docs/explanation/what-the-model-has-seen.md describes them. The training
has two parts: from scratch on what is annotated, drawn and recoloured, then on from there with
pseudo-labels of the unannotated images as well. Every part ends after a number of steps, so equal
seeds give equal weights on equal machines. A model that is already there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nucliseg_qp.keypoints.model import KeypointModel, load_model, save_model
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.data import LabelledImage, fold_names, read_folder, resized
from nucliseg_qp.training.fit import FitSettings, Unlabelled, fit
from nucliseg_qp.training.metrics import PointScore, average_precision, score_points
from nucliseg_qp.training.validate import detect_whole

NAME = "ihc-nuclei-2"
FOLDS = 3
TILE_UM = 100.0
OPENSLIDE_UM = 500.0
LOWEST = 0.02
THRESHOLDS = np.round(np.arange(0.2, 0.71, 0.02), 2)
MATCH_PX = 10.0
"""One-to-one matching radius on EndoNuke, in pixels of a tile as released."""


@dataclass(frozen=True)
class Recipe:
    """How long each part takes, and how hard it pulls."""

    steps: int = 6000
    more_steps: int = 3000
    learning_rate: float = 3e-3
    more_learning_rate: float = 1e-3
    pseudo_share: float = 0.12
    depth: int = 1
    seed: int = 0


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["train", "cross-validate"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threshold", type=float, help="of `train`; else chosen on drawn fields")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    recipe = Recipe(**{name: given[name] for name in vars(Recipe())})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(torch.get_num_threads())
    if given["command"] == "train":
        path = train(recipe, given["data"], given["out"])
        if given["threshold"]:
            set_threshold(path, given["threshold"])
        Console().print(path)
    else:
        cross_validate(recipe, given["data"], given["out"])


def train(recipe: Recipe, data: Path, out: Path, held_out: tuple[str, ...] = ()) -> Path:
    """Train both parts and return the weights; `held_out` names EndoNuke images."""
    first = settings(recipe, data, out / "part1", held_out)
    start = _fitted(first)
    second = replace(
        first,
        out=out / "part2",
        start=start,
        steps=recipe.more_steps,
        learning_rate=recipe.more_learning_rate,
        shares=first.shares | {"pseudo": recipe.pseudo_share},
        unlabelled=(
            Unlabelled(data / "endonuke" / "images_unlabelled", TILE_UM),
            Unlabelled(data / "openslide_ki67" / "OS-2-ndpi.png", OPENSLIDE_UM),
            Unlabelled(data / "openslide_ki67" / "OS-2-vsi.png", OPENSLIDE_UM),
        ),
        seed=recipe.seed + 1,
    )
    path = out / f"{NAME}.safetensors"
    for suffix in (".safetensors", ".toml"):
        shutil.copy(_fitted(second).with_suffix(suffix), path.with_suffix(suffix))
    return path


def settings(recipe: Recipe, data: Path, out: Path, held_out: tuple[str, ...]) -> FitSettings:
    """Give what the first part is trained with."""
    return FitSettings(
        out,
        NAME,
        endonuke=data / "endonuke",
        tissue=data / "dsb2018_tissue",
        fluorescence=data / "dsb2018_fluorescence",
        shares=SHARES,
        held_out=held_out,
        steps=recipe.steps,
        seconds=float("inf"),
        learning_rate=recipe.learning_rate,
        depth=recipe.depth,
        seed=recipe.seed,
        workers=0,
    )


SHARES = {
    "endonuke": 0.36,
    "tissue": 0.06,
    "recoloured": 0.2,
    "fluorescence": 0.12,
    "synthetic": 0.26,
}


def _fitted(how: FitSettings) -> Path:
    path = how.out / f"{how.name}.safetensors"
    return path if path.with_suffix(".toml").is_file() else fit(how)


def set_threshold(path: Path, threshold: float) -> None:
    """Write another default threshold into the description of a model."""
    model = load_model(path)
    info = model.info.model_copy(update={"threshold": threshold})
    save_model(path.parent, info, model.net)


def cross_validate(recipe: Recipe, data: Path, out: Path) -> None:
    """Train one model for each third of EndoNuke held out, and pool what they find there."""
    names = [item.name for item in read_folder(data / "endonuke")]
    truths, founds, sizes_px, thresholds = [], [], [], []
    for fold in range(FOLDS):
        held_out = fold_names(names, fold, FOLDS)
        model = load_model(train(recipe, data, out / f"fold{fold}", held_out))
        thresholds.append(model.info.threshold)
        for item in read_folder(data / "endonuke"):
            if item.name in held_out:
                truths.append(item.points)
                founds.append(find(model, item))
                sizes_px.append(item.image.shape[1::-1])
    report(figures(truths, founds, sizes_px, float(np.mean(thresholds))), out)


def find(model: KeypointModel, item: LabelledImage) -> np.ndarray:
    """Find the nuclei of a tile: (k, 3) x, y in its pixels and score."""
    runner = KeypointRunner(model, pick_device("auto"), threshold=LOWEST)
    small = resized(item, TILE_UM / item.image.shape[1] / model.info.mpp)
    scale = np.array(item.image.shape[1::-1]) / small.image.shape[1::-1]
    return detect_whole(runner, small.image) * [*scale, 1.0]


def figures(
    truths: list[np.ndarray],
    founds: list[np.ndarray],
    sizes_px: list[tuple[int, int]],
    threshold: float,
) -> dict[str, float]:
    """Give average precision at 4 and 8 px of a 256 px tile, and F1 at thresholds."""
    unit = [256.0 / width for width, _ in sizes_px]
    scaled = [
        ([truth * k for truth, k in zip(truths, unit, strict=True)]),
        ([found * [k, k, 1.0] for found, k in zip(founds, unit, strict=True)]),
    ]

    def f1(least: float) -> float:
        total = PointScore()
        for truth, found, size_px in zip(truths, founds, sizes_px, strict=True):
            total += score_points(truth, found[found[:, 2] >= least], MATCH_PX, size_px, 0.0)
        return total.f1

    sweep = [f1(float(least)) for least in THRESHOLDS]
    return {
        "nuclei": sum(map(len, truths)),
        "ap_4px": average_precision(*scaled, 4.0),
        "ap_8px": average_precision(*scaled, 8.0),
        "threshold": threshold,
        "f1": f1(threshold),
        "best_threshold": float(THRESHOLDS[int(np.argmax(sweep))]),
        "best_f1": max(sweep),
    }


def report(values: dict[str, float], out: Path) -> None:
    """Print the pooled figures and keep them beside the models."""
    (out / "cross_validation.json").write_text(json.dumps(values, indent=2) + "\n")
    table = Table(title=f"EndoNuke, {FOLDS} folds, every tile judged by a model that never saw it")
    for name in values:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.3f}".rstrip("0").rstrip(".") for value in values.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
