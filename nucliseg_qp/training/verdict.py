"""Whether a trained model is better than the one before it, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nucliseg_qp.keypoints.model import KeypointModel, load_model
from nucliseg_qp.training.coco import read_coco
from nucliseg_qp.training.evaluate import evaluate
from nucliseg_qp.training.judge import Matching
from nucliseg_qp.training.own import start_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nucliseg_qp.training.coco import CocoTile
    from nucliseg_qp.training.own_settings import OwnTraining

__all__ = ["MARGIN", "Verdict", "compare_runs", "verdict"]

MARGIN = 0.02
"""Differences of F1 under this are noise: see docs/explanation/choosing-the-model.md."""

Word = Literal["better", "no clear difference", "worse", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """What the table of a training says.

    Attributes
    ----------
    model : Path
        The best of the trained models.
    word : str
        How it is beside the model before it: better, no clear difference, worse, cannot tell.
    before : str
        The model before it, as the table names it; empty where there is nothing to compare.
    """

    model: Path
    word: Word
    before: str = ""


def compare_runs(how: OwnTraining, models: Sequence[Path]) -> list[dict[str, Any]]:
    """Judge the model before and the trained ones on the validation tiles, a row each.

    ``f1`` is at the threshold that suits a model best on these tiles, ``threshold``: a trained
    model has its own from them already, and the one before must not pay for having its own from
    elsewhere. Own thresholds and F1 at them stand beside.

    Parameters
    ----------
    how : OwnTraining
        Its start is the model before; from scratch that is the shipped one.
    models : sequence of Path
        The trained ones.
    """
    tiles = [tile for path in how.data for tile in read_coco(path, "validation")]
    start = start_model(how)
    rows = [("start" if start else "shipped", start or load_model())]
    for path in models:
        name = path.stem if path.parent == how.out else path.parent.name
        rows.append((name, load_model(path)))
    return [{"model": name} | _figures(model, tiles) for name, model in rows]


def _figures(model: KeypointModel, tiles: Sequence[CocoTile]) -> dict[str, float]:
    if not tiles:
        return {}
    found = evaluate(model, tiles, "validation", Matching()).sets
    values = found.get("all") or next(iter(found.values()))
    return {
        "f1": float(values["best_f1"]),
        "threshold": float(values["best_threshold"]),
        "own_threshold": model.info.threshold,
        "f1_at_own": float(values["f1"]),
        **{key: float(values[key]) for key in ("ap_4px", "ap_8px", "error_um")},
    }


def verdict(figures: Sequence[Mapping[str, Any]], models: Sequence[Path]) -> Verdict:
    """Say whether the best of the trained models is better than the one before.

    Parameters
    ----------
    figures : sequence of dict
        From `compare_runs`: the model before, then the trained ones.
    models : sequence of Path
        The trained ones.
    """
    before, *after = figures
    if "f1" not in before:
        return Verdict(models[0], "cannot tell")
    f1 = [float(row["f1"]) for row in after]
    gain = round(max(f1) - float(before["f1"]), 6)
    return Verdict(models[f1.index(max(f1))], _word(gain), str(before["model"]))


def _word(gain: float) -> Word:
    if abs(gain) < MARGIN:
        return "no clear difference"
    return "better" if gain > 0 else "worse"
