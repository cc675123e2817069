"""Plots of the results; none without matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def draw(record: dict, path: Path) -> Iterator[Path]:
    """Draw what is in a record beside its JSON and give the files."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    plots = {"ratio": _stages, "scaling": _scaling, "density": _density}
    for name, plot in plots.items():
        if name in record:
            figure = Figure(figsize=(6.4, 3.6), layout="constrained")
            plot(figure.subplots(), record)
            target = path.with_name(f"{path.stem}-{name}.png")
            figure.savefig(target, dpi=110)
            yield target


def _stages(axis, record: dict) -> None:
    rows = {"plain": "plain", "0.25 um": "engine", "0.5 um": "engine, outlines at 0.5 um"}
    for row, name in enumerate(rows):
        left = 0.0
        for number, (stage, value) in enumerate(record["ratio"][name].items()):
            if stage != "everything":
                axis.barh(row, value, left=left, color=f"C{number}")
                left += value
        axis.text(left, row, f" {left:.0f} ms", va="center")
    if "CPU ms per tile" in record.get("qupath", {}):
        value = record["qupath"]["CPU ms per tile"]
        axis.barh(len(rows), value, color="grey")
        axis.text(value, len(rows), f" {value:.0f} ms", va="center")
        rows = {**rows, "q": "QuPath's cell detection"}
    axis.set_yticks(range(len(rows)), rows.values())
    axis.axvline(record["ratio"]["yardstick"]["everything"], color="k", ls=":", label="yardstick")
    axis.set_xlabel("CPU ms per 1024 x 1024 tile, 400 nuclei (log)")
    axis.set_xscale("log")
    axis.set_xlim(10, None)
    axis.legend()


def _scaling(axis, record: dict) -> None:
    rows = {k: v for k, v in record["scaling"].items() if isinstance(v, dict)}
    sizes = [int(size) for size in rows]
    axis.plot(sizes, [row["CPU ms per tile"] for row in rows.values()], "o-", label="CPU ms a tile")
    axis.plot(sizes, [row["peak MB"] for row in rows.values()], "s--", label="peak memory, MB")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_ylim(0, None)
    axis.set_xlabel("side of the slide in px")
    axis.legend()


def _density(axis, record: dict) -> None:
    found, line = record["density"]["CPU ms per tile"], record["density"]["line"]
    x = [float(number) for number in found]
    axis.plot(x, list(found.values()), "o", label="measured")
    ends = [0, max(x)]
    axis.plot(ends, [line["ms per tile"] + end * line["us per nucleus"] / 1e3 for end in ends], ":")
    axis.set_ylim(0, None)
    axis.set_xlabel("nuclei in a tile of 1024 x 1024 px")
    axis.set_ylabel("CPU ms per tile")
    axis.legend()
