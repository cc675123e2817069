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
    plots = {"ratio": _totals, "scaling": _scaling, "density": _density}
    for name, plot in plots.items():
        if name in record:
            figure = Figure(figsize=(6.4, 3.6), layout="constrained")
            plot(figure.subplots(), record)
            target = path.with_name(f"{path.stem}-{name}.png")
            figure.savefig(target, dpi=110)
            yield target


def _totals(axis, record: dict) -> None:
    ratio = record["ratio"]
    bars = {
        "plain algorithm": ratio["plain"]["everything"],
        "engine": ratio["0.5 um"]["everything"],
        "engine, masks at 0.25 um": ratio["0.25 um"]["everything"],
        "yardstick: one U-Net pass": ratio["yardstick"]["everything"],
    }
    if "CPU ms per tile" in record.get("qupath", {}):
        bars["QuPath's positive cell detection"] = record["qupath"]["CPU ms per tile"]
    bars = dict(sorted(bars.items(), key=lambda bar: bar[1]))
    drawn = axis.barh(list(bars), list(bars.values()))
    axis.bar_label(drawn, fmt=" {:.0f}")
    axis.set_xlim(0, 1.12 * max(bars.values()))
    axis.set_xlabel("CPU ms per 1024 x 1024 tile, 400 nuclei")


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
