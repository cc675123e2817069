"""All benchmarks: tables on the terminal, JSON and plots in ``benchmarks/results``.

    python benchmarks/run.py                            # about half an hour on two cores
    python benchmarks/run.py --only ratio quality       # a part of it
    python benchmarks/run.py --sizes 4096 16384 32768   # the slides of the scaling table

CPU times are those of the process, one thread, so that other programs on the machine change them
little; ratios are of medians taken in turn in one run. Seconds are on the clock and want a quiet
machine. Slides are generated into a temporary folder. Install ``nucliseg-qp[train]`` for plots.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import plots
from rich.console import Console
from rich.table import Table
from sections import SECTIONS

RESULTS = Path(__file__).with_name("results")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--runs", type=int, default=5, help="runs a median is taken of")
    parser.add_argument("--scaling-runs", type=int, default=5, help="the same for large slides")
    parser.add_argument("--ratio-size", type=int, default=8192, help="side of the slide in px")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16_384, 32_768])
    parser.add_argument("--workers-size", type=int, default=16_384)
    parser.add_argument(
        "--densities", type=float, nargs="+", default=[25, 100, 250, 400, 700, 1000]
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and plots")
    parser.add_argument("--name", help="name of the JSON; a run under the same name adds to it")
    return parser.parse_args()


def main() -> None:
    import cv2
    import torch

    from nucliseg_qp.provenance import machine_record

    args = arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name or datetime.now(UTC).strftime('%Y-%m-%d')}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    record.update(machine_record(None))
    for name in args.only:
        with tempfile.TemporaryDirectory(prefix="nucliseg-qp-bench-") as folder:
            section = SECTIONS[name](Path(folder), args)
        section["load average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        record[name] = section
        show(name, SECTIONS[name].__doc__ or "", section)
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for plot in plots.draw(record, path):
        Console().print(f"plot: {plot.name}")


def show(name: str, about: str, section: dict) -> None:
    table = Table("figure", "value", title=f"{name}: {about}", title_justify="left")
    for key, value in flat(section):
        table.add_row(key, f"{value:,.2f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if name == "ratio":
        ours = section["0.5 um"]["everything"]
        for other in ("plain", "yardstick"):
            Console().print(f"{other} / engine: {section[other]['everything'] / ours:.2f}")


def flat(section: dict, before: str = ""):
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}: ")
        else:
            yield before + key, value


if __name__ == "__main__":
    main()
