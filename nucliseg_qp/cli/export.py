"""``nucliseg-qp export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nucliseg_qp.cli.options import AsJson

__all__ = ["export"]


def export(
    model: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    form: Annotated[
        Literal["onnx", "torchscript", "safetensors"], Parameter(name="--format")
    ] = "onnx",
    check: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None,
    as_json: AsJson = False,
) -> int:
    """Write a model as ONNX, TorchScript or safetensors and prove that it still is the same.

    Example: `nucliseg-qp export default -o exported --format onnx`

    The file takes RGB in 0 to 1, float32 (n, 3, h, w), sides a multiple of 8, and gives the
    heatmap of probabilities at half the size. A TOML beside it holds um per pixel, threshold and
    the rest. ONNX uses operator set 17. Heatmaps may differ by 1e-4, else nothing is written.

    Parameters
    ----------
    model
        A .safetensors file, the name of a shipped model, or default.
    out
        Folder to write to.
    form
        onnx, torchscript or safetensors.
    check
        Folders made by `data convert` whose tiles it is checked on, besides synthetic ones.
    """
    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer
    from nucliseg_qp.keypoints.model import load_model
    from nucliseg_qp.training.evaluate import read_tiles
    from nucliseg_qp.training.export import TOLERANCE, export_model

    loaded = load_model(None if model == "default" else model)
    tiles = [tile.item.image for tile in read_tiles(check, "all")] if check else []
    done = export_model(loaded, out, form, tiles)
    content = {"path": done.path, "difference": done.difference, "tiles": done.tiles}
    answer(as_json, content, str(done.path))
    show.note(
        f"heatmaps differ by at most {done.difference:.1e} (allowed {TOLERANCE:g}) "
        f"on {done.tiles} tiles"
    )
    return 0
