"""Reviewed nuclei in colour space, with the borders between classes before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.palette.rules import NearestColour, OpticalDensity, hsv_point
from nucliseg_qp.review.fitting import joined

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.palette.classes import Palette
    from nucliseg_qp.review.calibrate import Calibration

    Floats = NDArray[np.float64]

__all__ = ["save_picture"]

_GRID = 300


def save_picture(result: Calibration, path: Path) -> None:
    """Draw nuclei by their right class, old borders dashed and new ones solid.

    Colours are shown in the plane of the HSV cone in which the nuclei differ most; densities as
    one histogram a class.

    Raises
    ------
    UsageError
        When matplotlib is not installed.
    OutputError
        When the picture cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UsageError(
            "matplotlib is not installed", "pip install nucliseg-qp[train], or leave out -o"
        ) from None
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rule = result.before.rule
    if isinstance(rule, OpticalDensity):
        _draw_densities(axes, result, rule.measurement)
    elif isinstance(rule, NearestColour):
        _draw_colours(axes, result, rule.measurements)
    axes.set_title(
        f"held-out {result.held_out}: accuracy {result.old.accuracy:.3f} before, "
        f"{result.new.accuracy:.3f} after"
    )
    axes.legend(loc="best", framealpha=0.9)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def _plot_colour(palette: Palette, index: int) -> tuple[float, float, float]:
    red, green, blue = palette.classes[index].color_rgb
    return red / 255, green / 255, blue / 255


def _draw_densities(axes: Any, result: Calibration, measurement: str) -> None:  # noqa: ANN401
    rows = joined(result.slides)
    value = rows.features[measurement]
    bins = np.linspace(float(value.min()), float(value.max()) + 1e-6, 60)
    for index, name in enumerate(result.before.names):
        mine = value[rows.truth == index]
        axes.hist(mine, bins, alpha=0.6, color=_plot_colour(result.before, index), label=name)
    for palette, style, label in ((result.before, "--", "before"), (result.palette, "-", "after")):
        thresholds = getattr(palette.rule, "thresholds", ())
        for number, threshold in enumerate(thresholds):
            shown = label if number == 0 else None
            axes.axvline(float(threshold), color="black", linestyle=style, label=shown)
    axes.set_xlabel(measurement)
    axes.set_ylabel("reviewed nuclei")


def _draw_colours(axes: Any, result: Calibration, names: tuple[str, ...]) -> None:  # noqa: ANN401
    rows = joined(result.slides)
    points = hsv_point(*(rows.features[name] for name in names))
    centre = np.median(points, axis=0)
    plane = np.linalg.svd(points - centre, full_matrices=False)[2][:2]
    flat = (points - centre) @ plane.T
    for index, name in enumerate(result.before.names):
        mine = flat[rows.truth == index]
        colour = _plot_colour(result.before, index)
        axes.scatter(*mine.T, s=14, color=colour, edgecolor="white", linewidth=0.3, label=name)
    low, high = flat.min(axis=0) - 0.05, flat.max(axis=0) + 0.05
    sides = [np.linspace(low[i], high[i], _GRID) for i in range(2)]
    for palette, style, label in (
        (result.before, "dashed", "before"),
        (result.palette, "solid", "after"),
    ):
        regions = _regions(palette, names, sides, centre, plane)
        if len(np.unique(regions)) > 1:
            levels = np.arange(len(palette.names) - 1) + 0.5
            axes.contour(*sides, regions, levels=levels, colors="black", linestyles=style)
        axes.plot([], [], color="black", linestyle=style, label=f"border {label}")
        if isinstance(palette.rule, NearestColour):
            marks = (palette.rule.references - centre) @ plane.T
            shape = "x" if label == "before" else "*"
            axes.scatter(*marks.T, s=70, color="black", marker=shape, label=f"references {label}")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_xlabel("first axis of the colours (HSV cone)")
    axes.set_ylabel("second axis")


def _regions(
    palette: Palette, names: tuple[str, ...], sides: list[Floats], centre: Floats, plane: Floats
) -> NDArray[np.int16]:
    """Classify a grid of the plane, (grid, grid)."""
    across, up = np.meshgrid(*sides)
    points = centre + np.stack([across.ravel(), up.ravel()], axis=1) @ plane
    hue = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360
    columns = (hue, np.hypot(points[:, 0], points[:, 1]), points[:, 2])
    features = {
        name: column.astype(np.float32) for name, column in zip(names, columns, strict=True)
    }
    index, _ = palette.rule.classify(features)
    return index.reshape(_GRID, _GRID)
