"""``nucliseg-qp evaluate``: how good a model is on annotated tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson

__all__ = ["evaluate"]


def evaluate(
    model: str,
    data: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    split: Literal["test", "validation", "train", "all"] = "test",
    threshold: float | None = None,
    radius_um: float = 3.3,
    border_um: float | None = None,
    device: str = "auto",
    as_json: AsJson = False,
) -> int:
    """Measure how well a model finds the nuclei of converted data.

    Example: `nucliseg-qp evaluate default my_data -o evaluation`

    Prints average precision within 4 and 8 px of a 256 px tile and within 2 and 4 um, F1 with
    one-to-one matching and the localisation error, by data set and by staining class, and writes
    `evaluation.json`, `evaluation.csv`, `precision_recall.png`, `thresholds.png`, `heatmaps.png`
    and `worst_tiles.png`.

    Parameters
    ----------
    model
        A .safetensors file, the name of a shipped model, or default.
    data
        Folders made by `data convert`.
    out
        Folder for the results.
    split
        Which part of the data.
    threshold
        Lowest score that counts for F1, 0 to 1; the model's own when not given.
    radius_um
        A nucleus is found when a point lies within this, for F1.
    border_um
        Nuclei nearer to the border of a tile neither count nor harm, for F1; when not given, 3.6
        for tiles that were cut from a larger image, 0 for whole images.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.cli.progress import CountView
    from nucliseg_qp.cli.tables import grid
    from nucliseg_qp.keypoints.model import load_model
    from nucliseg_qp.training import evaluate as evaluation
    from nucliseg_qp.training.judge import SEAM_UM, Matching

    matching = Matching(radius_um, border_um)
    loaded = load_model(None if model == "default" else model)
    tiles = evaluation.read_tiles(data, split)
    with CountView("evaluating") as view:
        result = evaluation.evaluate(
            loaded, tiles, split, matching, threshold, device, view.advance
        )
    evaluation.write_evaluation(result, loaded, out)
    figures = result.rows()
    answer(as_json, {"out": out, "figures": figures}, grid(figures))
    if border_um is None and any(tile.is_cut for tile in tiles):
        show.note(f"F1 without {SEAM_UM:g} um along the edges of tiles that were cut (--border-um)")
    show.note(f"{loaded.info.name} on {split}, threshold {result.threshold:g}; pictures in {out}")
    return 0
