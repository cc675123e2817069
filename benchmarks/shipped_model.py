"""Train the shipped keypoint model, or cross-validate how it is trained, in one command.

    python benchmarks/shipped_model.py train DATA OUT
    python benchmarks/shipped_model.py cross-validate DATA OUT

DATA holds ``endonuke`` (with ``images_unlabelled``), ``dsb2018_tissue``, ``dsb2018_fluorescence``
and ``openslide_ki67`` as docs/explanation/what-the-model-has-seen.md describes them. The training
has three parts: from scratch on what is drawn and recoloured; on from there with real H-DAB
tissue; and on with pseudo-labels of unannotated images as well, after which the network learns how
far nuclei reach. The folds of the cross-validation, which is about keypoints alone,
share the first part, which sees no EndoNuke tile. Every part ends after a number of steps, so
equal seeds give equal weights on equal machines. A part that is there is not trained again.
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
from points import best_f1, f1_at, find, precision_at
from rich.console import Console
from rich.table import Table

from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.training.data import LabelledImage, fold_names, read_folder
from nucliseg_qp.training.fit import FitSettings, Unlabelled, fit

NAME = "ihc-nuclei-5"
FOLDS = 3
TILE_UM = 100.0
OPENSLIDE_UM = 500.0
TILES_CREDIT = "unlabelled EndoNuke tiles (CC BY 4.0)"
OS_2_CREDIT = "OS-2 of the OpenSlide test data (free to use)"
DRAWN_SHARES = {"tissue": 0.1, "recoloured": 0.3, "fluorescence": 0.2, "synthetic": 0.4}
SHARES = {
    "endonuke": 0.36,
    "tissue": 0.06,
    "recoloured": 0.2,
    "fluorescence": 0.12,
    "synthetic": 0.26,
}
PSEUDO_SHARE = 0.15
MATCH_PX = 10.0
"""One-to-one matching radius on EndoNuke, in pixels of a tile as released."""


@dataclass(frozen=True)
class Recipe:
    """How many steps each part takes, and how hard the first pulls."""

    drawn_steps: int = 4000
    tissue_steps: int = 2000
    pseudo_steps: int = 3000
    radii_steps: int = 3000
    learning_rate: float = 3e-3
    seed: int = 0


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["train", "cross-validate"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    recipe = Recipe(**{name: given[name] for name in vars(Recipe())})
    torch.set_num_threads(given["threads"])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given["command"] == "train":
        Console().print(train(recipe, given["data"], given["out"]))
    else:
        cross_validate(recipe, given["data"], given["out"])


def train(recipe: Recipe, data: Path, out: Path) -> Path:
    """Train all three parts and return the weights."""
    start = with_tissue(recipe, data, out, out / "part2", ())
    how = settings(recipe, data, out / "part3", start)
    path = trained(
        replace(
            how,
            steps=recipe.pseudo_steps,
            radii_steps=recipe.radii_steps,
            learning_rate=recipe.learning_rate / 2,
            shares=SHARES | {"pseudo": PSEUDO_SHARE},
            unlabelled=(
                Unlabelled(data / "endonuke" / "images_unlabelled", TILE_UM, TILES_CREDIT),
                Unlabelled(data / "openslide_ki67" / "OS-2-ndpi.png", OPENSLIDE_UM, OS_2_CREDIT),
                Unlabelled(data / "openslide_ki67" / "OS-2-vsi.png", OPENSLIDE_UM, OS_2_CREDIT),
            ),
            seed=recipe.seed + 2,
        )
    )
    for file in (path, path.with_suffix(".toml")):
        shutil.copy(file, out / file.name)
    return out / path.name


def with_tissue(
    recipe: Recipe, data: Path, out: Path, part: Path, held_out: tuple[str, ...]
) -> Path:
    """Train the first two parts; `held_out` names the EndoNuke images that are left out."""
    first = settings(recipe, data, out / "part1")
    start = trained(replace(first, endonuke=None, steps=recipe.drawn_steps, shares=DRAWN_SHARES))
    how = settings(recipe, data, part, start)
    return trained(
        replace(
            how,
            steps=recipe.tissue_steps,
            learning_rate=recipe.learning_rate / 2,
            held_out=held_out,
            seed=recipe.seed + 1,
        )
    )


def settings(recipe: Recipe, data: Path, out: Path, start: Path | None = None) -> FitSettings:
    """Give what all parts have in common."""
    return FitSettings(
        out,
        NAME,
        "CC-BY-4.0",
        endonuke=data / "endonuke",
        tissue=data / "dsb2018_tissue",
        fluorescence=data / "dsb2018_fluorescence",
        shares=SHARES,
        seconds=float("inf"),
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        start=start,
    )


def trained(how: FitSettings) -> Path:
    """Give the weights of a training, made now if they are not there."""
    path = how.out / f"{how.name}.safetensors"
    return path if path.with_suffix(".toml").is_file() else fit(how)


def cross_validate(recipe: Recipe, data: Path, out: Path) -> None:
    """Train one model for each third of EndoNuke held out, and pool what they find there."""
    items = read_folder(data / "endonuke")
    judged, found, thresholds = [], [], []
    for fold in range(FOLDS):
        held_out = fold_names([item.name for item in items], fold, FOLDS)
        model = load_model(with_tissue(recipe, data, out, out / f"fold{fold}", held_out))
        thresholds.append(model.info.threshold)
        judged += [item for item in items if item.name in held_out]
        found += [find(model, item, TILE_UM / item.image.shape[1]) for item in judged[len(found) :]]
    report(figures(judged, found, float(np.mean(thresholds))), out)


def figures(
    items: list[LabelledImage], found: list[np.ndarray], threshold: float
) -> dict[str, float]:
    """Give average precision at 4 and 8 px of a 256 px tile, and F1."""
    best, best_threshold = best_f1(items, found, MATCH_PX, 0.0)
    return {
        "nuclei": sum(len(item.points) for item in items),
        "ap_4px": precision_at(items, found, 4.0),
        "ap_8px": precision_at(items, found, 8.0),
        "threshold": threshold,
        "f1": f1_at(items, found, threshold, MATCH_PX, 0.0),
        "best_threshold": best_threshold,
        "best_f1": best,
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
