"""``nucliseg-qp train``: a model for one's own slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["train"]


def train(
    data: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    name: str = "my-nuclei",
    start: Annotated[str, Parameter(name=("--start", "-m"))] = "default",
    minutes: float = 30.0,
    steps: int = 100_000,
    mpp: float | None = None,
    width: int | None = None,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    find_learning_rate: Annotated[bool, Parameter(negative=())] = False,
    find_batch_size: Annotated[bool, Parameter(negative=())] = False,
    synthetic: float = 0.25,
    copy_paste: float = 0.0,
    unlabelled: Path | None = None,
    unlabelled_um: float = 0.0,
    compare: Annotated[bool, Parameter(negative=())] = False,
    check_steps: int = 250,
    patience: int = 0,
    resume: Annotated[bool, Parameter(negative=())] = False,
    seed: int = 0,
    workers: int = 1,
    tensorboard: Annotated[bool, Parameter(negative=())] = False,
    wandb: str | None = None,
) -> int:
    """Train a model on converted data, from the shipped one or from scratch.

    Example: `nucliseg-qp train my_data -o my_model --minutes 30`

    Writes `<name>.safetensors` and `.toml` (give the first to `detect -m`), `logs/metrics.csv`,
    `pictures/` (true beside predicted heatmaps of validation tiles) and `checkpoints/`.

    Parameters
    ----------
    data
        Folders made by `data convert`; their test tiles are never looked at.
    out
        Folder for the model and everything about its training.
    name
        Name of the model.
    start
        Model to go on from: default, a name, a .safetensors file, or scratch.
    minutes, steps
        When to stop: whichever is reached first. Equal steps and seeds give equal models.
    mpp
        Pixel size in um to work at; the start model's own when not given.
    width
        Channels of the first block, for a model from scratch.
    batch_size
        Crops a step.
    learning_rate
        At the top of its cycle.
    find_learning_rate
        Search the learning rate first.
    find_batch_size
        Search the largest batch the GPU holds; without a GPU it stays.
    synthetic
        Share of the crops that are painted, so that what is known is not forgotten.
    copy_paste
        Share of the annotated crops that get nuclei pasted onto empty places.
    unlabelled
        Folder of images nobody annotated: what the start model is sure of becomes labels.
    unlabelled_um
        Width of these images in um, if they do not state their pixel size.
    compare
        Train a second time without --copy-paste and --unlabelled, and show both results.
    check_steps
        Steps between looks at the validation tiles.
    patience
        Stop after this many looks without a better F1; 0 never.
    resume
        Go on from the last checkpoint in --out.
    seed
        Of everything random.
    workers
        Processes that prepare crops.
    tensorboard
        Also write logs for TensorBoard.
    wandb
        Project at Weights & Biases to also log to.
    """
    from dataclasses import replace

    from nucliseg_qp.cli import show
    from nucliseg_qp.cli import show_training as view
    from nucliseg_qp.training.own import OwnTraining, compare_runs, train_own

    how = OwnTraining(
        data=tuple(data),
        out=out,
        name=name,
        start=start,
        minutes=minutes,
        steps=steps,
        mpp=mpp,
        width=width,
        batch_size=batch_size,
        learning_rate=learning_rate,
        find_learning_rate=find_learning_rate,
        find_batch_size=find_batch_size,
        synthetic=synthetic,
        copy_paste=copy_paste,
        unlabelled=unlabelled,
        unlabelled_um=unlabelled_um,
        check_steps=check_steps,
        patience=patience,
        resume=resume,
        seed=seed,
        workers=workers,
        tensorboard=tensorboard,
        wandb=wandb,
    )
    runs = [how]
    if compare:
        plain = replace(how, out=out / "without", copy_paste=0.0, unlabelled=None)
        runs.append(plain)
    models = []
    for each in runs:
        with view.TrainView() as watcher:
            models.append(train_own(each, watcher))
    show.result(view.figures_table(compare_runs(how, models)))
    show.plain(str(models[0]))
    show.note(f"use it: nucliseg-qp detect IMAGE -o RESULTS -m {models[0]}")
    return 0
