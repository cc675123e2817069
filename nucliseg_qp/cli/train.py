"""``nucliseg-qp train``: a model for one's own slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson
from nucliseg_qp.errors import UsageError
from nucliseg_qp.training.own_settings import OwnTraining

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.training.verdict import Verdict

__all__ = ["train"]

MORE = "More annotated slides help most; then more --minutes."


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
    trains leaves out a strip of 3.6 um along the edges of the validation tiles; with fewer than 50
    nuclei in these, it is the mean of theirs and of painted fields. The table at the end counts
    as `evaluate` does, each model at the threshold that suits it best there, and says
    whether the new one is better by 0.02 or more than its start (from scratch: than the shipped
    model). A folder that holds a training is refused without --resume.

    Parameters
    ----------
    data
        Folders made by `data convert`; their test tiles are never looked at.
    compare
        Train a second time without --copy-paste and --unlabelled, and show both results.
    """
    from dataclasses import replace

    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.tables import grid
    from nucliseg_qp.training.verdict import compare_runs, verdict

    runs = [replace(how, data=tuple(data))]
    if compare:
        runs.append(_without(runs[0]))
    try:
        models = _trained(runs)
        figures = compare_runs(runs[0], models)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_now(runs[0])) from None
    found = verdict(figures, models)
    told = {"model": models[0], "figures": figures, "verdict": found.word}
    answer(as_json, told, grid(figures), str(models[0]))
    _advise(found)
    return 0


def _without(how: OwnTraining) -> OwnTraining:
    from dataclasses import replace

    if not how.copy_paste and how.unlabelled is None:
        raise UsageError(
            "--compare has nothing to leave out", "Give --copy-paste or --unlabelled with it"
        )
    return replace(how, out=how.out / "without", copy_paste=0.0, unlabelled=None)


def _trained(runs: Sequence[OwnTraining]) -> list[Path]:
    from nucliseg_qp.cli.progress import TrainView
    from nucliseg_qp.training.own import going_on, refuse_taken, train_own

    for each in runs:
        refuse_taken(each)
    models = []
    for place, each in enumerate(runs):
        # Only the first has to be there to go on: the second may not have been reached.
        with TrainView() as watcher:
            models.append(train_own(going_on(each) if place else each, watcher))
    return models


def _what_now(how: OwnTraining) -> str:
    from nucliseg_qp.training.checkpoint import checkpoint_file

    if checkpoint_file(how.out).is_file():
        return "To go on from the last look, give the same command with --resume."
    return "It came to no look at the validation tiles: the same command begins anew."


def _advise(found: Verdict) -> None:
    """Say in one line what to do with the model: it is what people copy."""
    from nucliseg_qp.cli import show

    use = f"nucliseg-qp detect IMAGE -o RESULTS -m {found.model}"
    if found.word == "better":
        show.note(f"better than {found.before}, use it: {use}")
    elif found.word == "cannot tell":
        show.warn(
            "there are no validation tiles, so nobody can tell whether it is better: look at what "
            f"it finds before you rely on it: {use}"
        )
    elif found.word == "worse":
        show.warn(f"it is worse than {found.before}, by F1 of the table: go on using that. {MORE}")
    else:
        show.warn(
            f"no clear difference from {found.before}: less than 0.02 of F1 is noise, so go on "
            f"using that. {MORE}"
        )
