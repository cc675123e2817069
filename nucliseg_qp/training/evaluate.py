"""Evaluate a model on converted data: figures as JSON and CSV, and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.keypoints.runtime import pick_device
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.training.coco import coco_file, read_coco
from nucliseg_qp.training.judge import (
    RADII,
    THRESHOLDS,
    Judged,
    Matching,
    class_figures,
    curve,
    figures,
    judge,
    score_at,
)
from nucliseg_qp.training.repeats import check_once, named_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.training.coco import CocoTile

__all__ = ["Evaluation", "evaluate", "read_tiles", "write_evaluation"]

ALL = "all"
_CURVE_POINTS = 200
_NARROWER = "Give a narrower border"


@dataclass
class Evaluation:
    """What was measured.

    Attributes
    ----------
    model : dict
        Name, version, sha256, um per pixel and threshold of the model, and the device.
    split : str
        Which part of the data.
    threshold : float
        At which F1 was measured.
    matching : Matching
        When a nucleus counts as found.
    sets : dict
        Data set (and ``all``, where there are several) to its `figures`.
    classes : dict
        Data set to staining class to its `class_figures`.
    sweep : dict
        Data set to F1, precision and recall at each of ``thresholds``.
    curves : dict
        Data set to radius to recall and precision, thinned out.
    tiles : list of dict
        File, data set, slide, nuclei and F1 of each tile.
    judged : list of Judged
        The points themselves; not written.
    """

    model: dict[str, Any]
    split: str
    threshold: float
    matching: Matching
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    classes: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    sweep: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    tiles: list[dict[str, Any]] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)

    def rows(self) -> list[dict[str, object]]:
        """Give the table: a row a data set, then a row a staining class of it."""
        rows: list[dict[str, object]] = []
        for name, values in self.sets.items():
            rows.append(_row(name, values))
            rows += [_row(f"  {kind}", part) for kind, part in self.classes[name].items()]
        return rows


def _row(title: str, values: dict[str, float]) -> dict[str, object]:
    return {
        "data": title,
        "nuclei": int(values["nuclei"]),
        "AP 4 px": values["ap_4px"],
        "AP 8 px": values["ap_8px"],
        "AP 2 um": values["ap_2um"],
        "AP 4 um": values["ap_4um"],
        "F1": values["f1"],
        "precision": values["precision"],
        "recall": values["recall"],
        "error um": values["error_um"],
        "best F1": values.get("best_f1", math.nan),
        "at": values.get("best_threshold", math.nan),
    }


def read_tiles(folders: Sequence[Path], split: str) -> list[CocoTile]:
    """Read a split of converted folders.

    Parameters
    ----------
    folders : sequence of Path
        From `convert`.
    split : str
        ``train``, ``validation``, ``test`` or ``all``.

    Raises
    ------
    InputError
        When a folder was not converted, is damaged, nothing is in the split, or a tile is there
        twice.
    """
    for folder in folders:
        if not coco_file(folder, "train").is_file():
            raise InputError(
                f"{folder} is not converted training data",
                "Make it with `nucliseg-qp data convert`",
            )
    splits = () if split == ALL else (split,)
    read = {folder: read_coco(folder, *splits) for folder in dict.fromkeys(folders)}
    if not any(read.values()):
        raise InputError(
            f"{' and '.join(str(folder) for folder in folders)} has no {split} tiles",
            "Choose another --split, or convert more slides",
        )
    check_once(read)
    return named_apart(read, ALL)


def evaluate(
    model: KeypointModel,
    tiles: Sequence[CocoTile],
    split: str,
    matching: Matching,
    threshold: float | None = None,
    device: str = "auto",
    advance: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Run a model on tiles and measure everything.

    Parameters
    ----------
    model : KeypointModel
        From `load_model`.
    tiles : sequence of CocoTile
        From `read_tiles`.
    split : str
        Only recorded.
    matching : Matching
        For F1 and the localisation error.
    threshold : float, optional
        For F1; the model's own when not given.
    device : str
        See `pick_device`.

    Raises
    ------
    UsageError
        When the threshold is not 0 to 1, or the border leaves nothing to judge.
    """
    _check_judging(tiles, matching, threshold)
    where = pick_device(device)
    judged = judge(model, tiles, where, advance)
    _check_left(judged, matching)
    info = model.info
    facts = {key: getattr(info, key) for key in ("name", "version", "sha256", "mpp", "threshold")}
    level = info.threshold if threshold is None else threshold
    result = Evaluation({**facts, "device": where.label}, split, level, matching, judged=judged)
    for name, part in _by_set(judged).items():
        result.sets[name] = figures(part, level, matching)
        result.classes[name] = class_figures(part, level, matching)
        result.sweep[name] = _sweep(part, matching)
        result.curves[name] = {key: _thinned(*curve(part, key)) for key in RADII}
    result.tiles = [_tile_row(one, level, matching) for one in judged]
    return result


def _check_judging(tiles: Sequence[CocoTile], matching: Matching, threshold: float | None) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g} is no score", "Give 0 to 1")
    borders_um = [matching.border_of(tile) for tile in tiles]
    sides_um = [min(t.item.image.shape[:2]) * (t.item.mpp or math.nan) for t in tiles]
    if all(2 * border >= side for border, side in zip(borders_um, sides_um, strict=True)):
        raise UsageError(
            f"nothing to judge: --border-um {borders_um[0]:g} leaves nothing of tiles of "
            f"{max(sides_um):.0f} um",
            _NARROWER,
        )


def _check_left(judged: Sequence[Judged], matching: Matching) -> None:
    """Stop where a border hides every nucleus: nothing true and nothing found would be perfect."""
    score = score_at(judged, 0.0, matching)
    left = score.matched + score.missed + score.spurious
    if not left and any(len(one.truth) + len(one.found) for one in judged):
        border_um = matching.border_of(judged[0].tile)
        raise UsageError(
            f"nothing to judge: every nucleus lies within --border-um {border_um:g}", _NARROWER
        )


def _by_set(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    names = dict.fromkeys(one.tile.dataset for one in judged)
    parts = {name: [one for one in judged if one.tile.dataset == name] for name in names}
    return parts if len(parts) == 1 else {**parts, ALL: list(judged)}


def _sweep(judged: Sequence[Judged], matching: Matching) -> dict[str, list[float]]:
    scores = [score_at(judged, float(value), matching) for value in THRESHOLDS]
    return {
        "thresholds": THRESHOLDS.tolist(),
        "f1": [round(score.f1, 5) for score in scores],
        "precision": [round(score.precision, 5) for score in scores],
        "recall": [round(score.recall, 5) for score in scores],
    }


def _thinned(
    recall: np.ndarray[Any, np.dtype[np.float64]], precision: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, list[float]]:
    rows = np.unique(np.linspace(0, max(0, len(recall) - 1), _CURVE_POINTS).astype(int))
    rows = rows[: len(recall)]
    return {
        "recall": recall[rows].round(5).tolist(),
        "precision": precision[rows].round(5).tolist(),
    }


def _tile_row(one: Judged, threshold: float, matching: Matching) -> dict[str, Any]:
    score = score_at([one], threshold, matching)
    return {
        "file": one.tile.item.name,
        "dataset": one.tile.dataset,
        "group": one.tile.group,
        "nuclei": len(one.truth),
        "missed": score.missed,
        "spurious": score.spurious,
        "f1": round(score.f1, 5),
    }


def write_evaluation(result: Evaluation, model: KeypointModel, out: Path) -> None:
    """Write ``evaluation.json``, ``evaluation.csv`` and four pictures.

    Raises
    ------
    OutputError
        When the folder cannot be written to.
    """
    import csv

    import orjson

    from nucliseg_qp.training.plots import save_plots

    make_folder(out)
    content = {key: value for key, value in vars(result).items() if key != "judged"}
    content["matching"] = vars(result.matching)
    with whole_file(out / "evaluation.json") as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    rows = result.rows()
    with whole_file(out / "evaluation.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save_plots(result, model, out)
