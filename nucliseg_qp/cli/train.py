"""``nucliseg-qp train``: a model for one's own slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson
from nucliseg_qp.training.own_settings import OwnTraining

__all__ = ["train"]


def train(
    data: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    compare: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
    how: Annotated[OwnTraining, Parameter(name="*")],
) -> int:
    """Train a model on converted data, from the shipped one or from scratch.

    Example: `nucliseg-qp train my_data -o my_model --minutes 30`

    Writes `<name>.safetensors` and `.toml` (give the first to `detect -m`), `logs/metrics.csv`,
    `pictures/` (true beside predicted heatmaps of validation tiles) and `checkpoints/`. F1 while it
    trains leaves out a strip of 3.6 um along the edges of the validation tiles; the table at the
    end counts whole tiles, as `evaluate` does, and tells whether the model is worth using.

    Parameters
    ----------
    data
        Folders made by `data convert`; their test tiles are never looked at.
    compare
        Train a second time without --copy-paste and --unlabelled, and show both results.
    """
    from dataclasses import replace

    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import TrainView
    from nucliseg_qp.cli.tables import grid
    from nucliseg_qp.training.own import best_model, compare_runs, train_own

    runs = [replace(how, data=tuple(data))]
    if compare:
        runs.append(replace(runs[0], out=how.out / "without", copy_paste=0.0, unlabelled=None))
    models = []
    for each in runs:
        with TrainView() as watcher:
            models.append(train_own(each, watcher))
    figures = compare_runs(runs[0], models)
    answer(as_json, {"model": models[0], "figures": figures}, grid(figures), str(models[0]))
    best, is_better = best_model(figures, models)
    if is_better:
        show.note(f"use it: nucliseg-qp detect IMAGE -o RESULTS -m {best}")
    else:
        show.warn(
            "training made it no better than the model it started from, by F1 of the table: go on "
            "using that. More annotated slides help most; then more --minutes."
        )
    return 0
