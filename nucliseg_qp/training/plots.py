"""Pictures of an evaluation and of a training, drawn with matplotlib without a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import UsageError
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.training.data import resized
from nucliseg_qp.training.judge import counted_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.training.data import LabelledImage
    from nucliseg_qp.training.evaluate import Evaluation
    from nucliseg_qp.training.judge import Judged, Matching

    Floats = NDArray[np.float64]

__all__ = ["heatmap_rows", "save_heatmaps", "save_plots"]

_GALLERY = 6
_WORST = 8
_TITLES = {"ap_4px": "4 px of 256", "ap_8px": "8 px of 256", "ap_2um": "2 um", "ap_4um": "4 um"}


def save_plots(result: Evaluation, model: KeypointModel, out: Path) -> None:
    """Write precision-recall, threshold sweep, heatmap gallery and worst tiles as PNG."""
    _save(_curves(result), out / "precision_recall.png")
    _save(_sweep(result), out / "thresholds.png")
    places = np.linspace(0, len(result.judged) - 1, min(_GALLERY, len(result.judged))).astype(int)
    save_heatmaps(model, [result.judged[i].tile.item for i in places], out / "heatmaps.png")
    _save(_worst(result), out / "worst_tiles.png")


def _new(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "matplotlib is not installed", "pip install 'nucliseg-qp[train]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def _curves(result: Evaluation) -> Figure:
    figure = _new(11, 8)
    axes = np.atleast_1d(figure.subplots(2, 2, sharex=True, sharey=True)).ravel()
    for axis, (key, title) in zip(axes, _TITLES.items(), strict=True):
        for name, curves in result.curves.items():
            value = result.sets[name][key]
            line = curves[key]
            axis.plot(line["recall"], line["precision"], label=f"{name}: AP {value:.3f}")
        axis.set(title=f"within {title}", xlim=(0, 1.01), ylim=(0, 1.01))
        axis.grid(alpha=0.3)
        axis.legend(loc="lower left")
    figure.supxlabel("recall")
    figure.supylabel("precision")
    return figure


def _sweep(result: Evaluation) -> Figure:
    figure = _new(5 * len(result.sweep) + 1, 4.5)
    axes = np.atleast_1d(figure.subplots(1, len(result.sweep), sharey=True))
    for axis, (name, part) in zip(axes, result.sweep.items(), strict=True):
        for key in ("f1", "precision", "recall"):
            axis.plot(part["thresholds"], part[key], label=key)
        axis.axvline(result.threshold, color="black", linestyle=":", label="used")
        best = result.sets[name]["best_threshold"]
        axis.axvline(best, color="tab:blue", linestyle="--", alpha=0.5, label="best F1")
        axis.set(title=name, xlabel="threshold", ylim=(0, 1.01))
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower left")
    return figure


def _worst(result: Evaluation) -> Figure:
    order = np.argsort([row["f1"] for row in result.tiles], kind="stable")[:_WORST]
    figure = _new(16, 4.4 * -(-len(order) // 4))
    axes = np.atleast_1d(figure.subplots(-(-len(order) // 4), 4)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, order, strict=False):
        _draw_errors(axis, result.judged[index], result.threshold, result.matching)
        row = result.tiles[index]
        axis.set_title(
            f"{row['file'][:34]}\nF1 {row['f1']:.2f}, {row['nuclei']} nuclei", fontsize=8
        )
    figure.suptitle("worst tiles: green found, yellow missed, red not there")
    return figure


def _draw_errors(axis: Axes, one: Judged, threshold: float, how: Matching) -> None:
    found, counted = counted_at(one, threshold, how)
    right, missed = found[counted.pairs[:, 1]], one.truth[counted.missed]
    drawn = ((right, "lime"), (missed, "gold"), (found[counted.spurious], "red"))
    axis.imshow(one.tile.item.image, extent=_extent(one.tile.item.image))
    for points, colour in drawn:
        axis.scatter(
            points[:, 0], points[:, 1], s=26, facecolors="none", edgecolors=colour, linewidths=1.2
        )


def _extent(image: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    # Coordinates count from the image's corner; matplotlib would from its first pixel's centre.
    return (0.0, float(image.shape[1]), float(image.shape[0]), 0.0)


def save_heatmaps(model: KeypointModel, items: Sequence[LabelledImage], path: Path) -> None:
    """Draw tiles with their true heatmap beside the predicted one.

    Parameters
    ----------
    model : KeypointModel
        Its sigma makes the true heatmap.
    items : sequence of LabelledImage
        Annotated images with their um per pixel (else taken to be the model's).
    path : Path
        PNG to write.
    """
    rows = heatmap_rows(model, items)
    figure = _new(9.5, 3.1 * max(1, len(rows)))
    axes = np.atleast_2d(figure.subplots(max(1, len(rows)), 3))
    for axis in axes.ravel():
        axis.set_axis_off()
    titles = ("image and points", "true heatmap", "predicted heatmap")
    for place, (image, points, truth, predicted) in enumerate(rows):
        axes[place][0].imshow(image, extent=_extent(image))
        axes[place][0].scatter(points[:, 0], points[:, 1], s=4, c="yellow", linewidths=0)
        axes[place][0].set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
        for axis, heatmap in zip(axes[place][1:], (truth, predicted), strict=True):
            axis.imshow(heatmap, vmin=0, vmax=1, cmap="magma")
        if not place:
            for axis, title in zip(axes[0], titles, strict=True):
                axis.set_title(title)
    _save(figure, path)


def heatmap_rows(
    model: KeypointModel, items: Sequence[LabelledImage]
) -> list[tuple[NDArray[np.uint8], Floats, NDArray[np.float32], NDArray[np.float32]]]:
    """Give for each image: pixels and points at the model's resolution, true and predicted heatmap.

    The heatmaps are float32 (h / 2, w / 2) in 0 to 1.
    """
    import torch

    from nucliseg_qp.keypoints.heatmap import gaussian_heatmap
    from nucliseg_qp.keypoints.unet import GRID_PX

    runner, info = KeypointRunner(model, pick_device("auto")), model.info
    rows = []
    for item in items:
        small = resized(item, (item.mpp or info.mpp) / info.mpp)
        height, width = (length // GRID_PX * GRID_PX for length in small.image.shape[:2])
        image = np.ascontiguousarray(small.image[:height, :width])
        listed = np.concatenate([np.zeros((len(small.points), 1)), small.points], axis=1)
        shape = (1, height // info.stride, width // info.stride)
        truth = gaussian_heatmap(torch.from_numpy(listed), shape, info.stride, info.sigma_px)
        predicted = torch.sigmoid(runner.logits(image[None])).float().cpu()
        rows.append((image, small.points, truth[0, 0].float().numpy(), predicted[0, 0].numpy()))
    return rows
