"""What each choice of the keypoint model costs and brings: short trainings, each with one change.

    python benchmarks/sweep.py DATA OUT

DATA is the folder of benchmarks/shipped_model.py, with ``glioma_ki67`` (only judged on) beside it.
Every configuration is trained for the same number of steps without a third of the EndoNuke tiles,
and judged on those tiles, on the glioma fields and by its milliseconds of CPU for the 1024 x 1024
px tile of a 0.25 um/px slide. What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from shipped_model import SHARES, TILE_UM, Recipe, fold_names, settings

from nucliseg_qp.keypoints.model import KeypointModel, load_model
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.data import LabelledImage, read_folder, resized
from nucliseg_qp.training.fit import FitSettings, Unlabelled, fit
from nucliseg_qp.training.metrics import PointScore, average_precision, score_points
from nucliseg_qp.training.validate import detect_whole

GLIOMA_MPP = 0.33
TILE_1024_UM = 256.0
LOWEST = 0.02
THRESHOLDS = np.round(np.arange(0.1, 0.81, 0.02), 2)
SIGMA_UM, NMS_UM = 1.43, 2.2
REAL_ONLY = {"endonuke": 0.9, "tissue": 0.1}
COLUMNS = ("configuration", "AP 4 px", "AP 8 px", "EndoNuke F1", "glioma F1", "ms per tile")


def main() -> None:
    """Train what is missing, judge everything, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="*", help="names of configurations")
    given = parser.parse_args()
    configurations = plan(given.data, given.out, given.steps)
    rows = []
    for name, how in configurations.items():
        if not given.only or name in given.only:
            rows.append(judge(name, load_model(trained(how)), given.data, how.held_out))
            (given.out / "sweep.json").write_text(json.dumps(rows, indent=2) + "\n")
            Console().print(table(rows))


def plan(data: Path, out: Path, steps: int) -> dict[str, FitSettings]:
    """Give every configuration; each differs from the first in one thing."""
    held_out = fold_names([item.name for item in read_folder(data / "endonuke")], 0)
    base = replace(settings(Recipe(steps=steps), data, out, held_out), name="sweep")
    goes_on = replace(base, start=out / "base" / "sweep.safetensors", learning_rate=1e-3, seed=1)
    others = Unlabelled(data / "endonuke" / "images_unlabelled", TILE_UM)
    given = {
        "base": base,
        "width 16": replace(base, width=16),
        "width 48": replace(base, width=48),
        "depth 3": replace(base, depth=3),
        **{f"{mpp} um/px": _at(base, mpp) for mpp in (0.4, 0.75, 1.0)},
        "sigma 1 um": replace(base, sigma_px=1.0 / base.mpp),
        "real tissue only": replace(base, shares=REAL_ONLY),
        "no smudges": replace(base, smudges=0.0),
        "copy-paste": replace(base, copy_paste=0.5),
        "base, twice as long": goes_on,
        "base, then pseudo-labels": replace(
            goes_on, shares=SHARES | {"pseudo": 0.15}, unlabelled=(others,)
        ),
    }
    return {name: replace(how, out=out / name.replace(" ", "_")) for name, how in given.items()}


def _at(base: FitSettings, mpp: float) -> FitSettings:
    """Work at another resolution with targets of the same size on the slide."""
    return replace(base, mpp=mpp, sigma_px=SIGMA_UM / mpp, nms_radius_px=NMS_UM / mpp)


def trained(how: FitSettings) -> Path:
    """Give the weights of a configuration, trained now if they are not there."""
    path = how.out / f"{how.name}.safetensors"
    return path if path.with_suffix(".toml").is_file() else fit(how)


def judge(
    name: str, model: KeypointModel, data: Path, held_out: tuple[str, ...]
) -> dict[str, float | str]:
    """Give the figures of one model; F1 at the best threshold of each set."""
    tiles = [item for item in read_folder(data / "endonuke") if item.name in held_out]
    found = [find(model, item, TILE_UM / item.image.shape[1]) for item in tiles]
    values: dict[str, float | str] = {"configuration": name}
    for radius in (4, 8):
        units = [256.0 / item.image.shape[1] / radius for item in tiles]
        truths = [item.points * unit for item, unit in zip(tiles, units, strict=True)]
        scaled = [one * [unit, unit, 1.0] for one, unit in zip(found, units, strict=True)]
        values[f"AP {radius} px"] = average_precision(truths, scaled, 1.0)
    values["EndoNuke F1"] = best_f1(tiles, found, 10.0, 0.0)
    glioma = read_folder(data / "glioma_ki67")
    values["glioma F1"] = best_f1(
        glioma, [find(model, item, GLIOMA_MPP) for item in glioma], 12.0, 12.0
    )
    values["ms per tile"] = cost_ms(model)
    return values


def find(model: KeypointModel, item: LabelledImage, mpp: float) -> np.ndarray:
    """Find the nuclei of an image: (k, 3) x, y in its pixels and score."""
    runner = KeypointRunner(model, pick_device("cpu"), threshold=LOWEST)
    small = resized(item, mpp / model.info.mpp)
    scale = np.array(item.image.shape[1::-1]) / small.image.shape[1::-1]
    return detect_whole(runner, small.image) * [*scale, 1.0]


def best_f1(
    items: list[LabelledImage], found: list[np.ndarray], radius_px: float, border_px: float
) -> float:
    """Match one to one at every threshold and give the best F1 of all images together."""
    scores = []
    for least in THRESHOLDS:
        total = PointScore()
        for item, one in zip(items, found, strict=True):
            kept = one[one[:, 2] >= least]
            total += score_points(item.points, kept, radius_px, item.image.shape[1::-1], border_px)
        scores.append(total.f1)
    return max(scores)


def cost_ms(model: KeypointModel, side_px: int = 512, repeats: int = 5) -> float:
    """Measure the network's CPU time for a 1024 tile at 0.25 um/px, one thread."""
    torch.set_num_threads(1)
    runner = KeypointRunner(model, pick_device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (1, side_px, side_px, 3), np.uint8)
    spent = []
    for _ in range(repeats + 1):
        start = time.process_time()
        runner.detect(image)
        spent.append(time.process_time() - start)
    share = (TILE_1024_UM / model.info.mpp / side_px) ** 2
    return 1000.0 * float(np.median(spent[1:])) * share


def table(rows: list[dict[str, float | str]]) -> str:
    """Write the rows as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for row in rows:
        cells = [str(row["configuration"]), *(f"{row[name]:.3f}" for name in COLUMNS[1:-1])]
        lines.append(f"| {' | '.join(cells)} | {row['ms per tile']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
