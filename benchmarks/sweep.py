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
from points import best_f1, find, precision_at
from rich.console import Console
from shipped_model import SHARES, TILE_UM, Recipe, settings, trained

from nucliseg_qp.keypoints.model import KeypointModel, load_model
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.data import fold_names, read_folder
from nucliseg_qp.training.fit import FitSettings, Unlabelled

GLIOMA_MPP = 0.33
TILE_1024_UM = 256.0
SIGMA_UM, NMS_UM = 1.43, 2.2
REAL_ONLY = {"endonuke": 0.9, "tissue": 0.1}
COLUMNS = ("configuration", "AP 4 px", "AP 8 px", "EndoNuke F1", "glioma F1", "ms per tile")


def main() -> None:
    """Train what is missing, judge everything, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
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
    base = replace(
        settings(Recipe(), data, out), name="sweep", held_out=held_out, steps=steps, batch_size=8
    )
    start = out / "base" / "sweep.safetensors"
    goes_on = replace(base, start=start, learning_rate=1e-3, seed=1)
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


def judge(
    name: str, model: KeypointModel, data: Path, held_out: tuple[str, ...]
) -> dict[str, float | str]:
    """Give the figures of one model; F1 at the best threshold of each set."""
    tiles = [item for item in read_folder(data / "endonuke") if item.name in held_out]
    found = [find(model, item, TILE_UM / item.image.shape[1]) for item in tiles]
    glioma = read_folder(data / "glioma_ki67")
    there = [find(model, item, GLIOMA_MPP) for item in glioma]
    values: dict[str, float | str] = {
        "configuration": name,
        "AP 4 px": precision_at(tiles, found, 4.0),
        "AP 8 px": precision_at(tiles, found, 8.0),
        "EndoNuke F1": best_f1(tiles, found, 10.0, 0.0)[0],
        "glioma F1": best_f1(glioma, there, 12.0, 12.0)[0],
    }
    return values | {"ms per tile": cost_ms(model)}


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
