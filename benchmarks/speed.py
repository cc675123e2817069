"""CPU the engine spends per 1024 x 1024 tile, beside a yardstick measured in the same run.

    python benchmarks/speed.py

The yardstick is one eager float32 forward pass of a plain U-Net of 5.1 GFLOP (width 32) on one
256 x 256 input; being measured on the same machine at the same time, the ratio to it travels from
machine to machine, milliseconds do not.  Start-up (imports, loading weights) is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

TILE_PX = 1024


def plain_net():
    """Give an eager float32 U-Net of width 32 that takes 5.1 GFLOP for 256 x 256 px."""
    import torch
    from torch import nn

    def conv(into: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = conv(3)
            self.down = nn.ModuleList(
                nn.Sequential(*[conv(32) for _ in range(depth)]) for depth in (1, 2, 4)
            )
            self.up = nn.ModuleList(conv(64) for _ in range(3))
            self.last = nn.Sequential(conv(32), nn.Conv2d(32, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips = [self.first(x)]
            for block in self.down:
                skips.append(block(nn.functional.max_pool2d(skips[-1], 2)))
            x = skips.pop()
            for block in self.up:
                x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1))
            return self.last(x)

    net = Plain().eval()
    check_flops(net, torch.rand(1, 3, 256, 256))
    return net


def yardstick() -> Callable[[], None]:
    """Give a function that runs the 5.1 GFLOP U-Net once."""
    import torch

    net, image = plain_net(), torch.rand(1, 3, 256, 256)

    def once() -> None:
        with torch.inference_mode():
            net(image)

    return once


def check_flops(net, image) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(image)
    giga = counter.get_total_flops() / 1e9
    if not 4.9 < giga < 5.3:
        raise SystemExit(f"the yardstick has {giga:.2f} GFLOP, not 5.1")


def cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def engine_stages(path: Path, engine, out: Path) -> dict[str, float]:
    """Give CPU milliseconds of the whole way from pyramid to GeoJSON, by stage."""
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.nuclei import nucleus_ids
    from nucliseg_qp.pipeline import Analysis
    from nucliseg_qp.qupath.geojson import write_geojson

    colours = [(one.name, one.color_rgb) for one in engine.palette.classes]
    found = []
    with open_slide(path) as slide:
        analysis = Analysis(slide, engine)
        times = {
            "tissue": cpu_ms(lambda: analysis.tissue),
            "statistics": cpu_ms(lambda: analysis.statistics),
            "keypoints": cpu_ms(lambda: analysis.keypoints),
            "masks, measurements, classes": cpu_ms(lambda: found.extend(analysis.nuclei())),
        }
    parts = ((nuclei, nucleus_ids(path.name, nuclei)) for nuclei in found)
    times["GeoJSON"] = cpu_ms(lambda: write_geojson(out, parts, colours))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="side of the slide in px")
    parser.add_argument("--density", type=float, default=400, help="nuclei per 1024 tile")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mask-mpp", type=float, default=0.5, help="pixel size of the masks")
    args = parser.parse_args()

    import torch

    from nucliseg_qp.config import load_settings
    from nucliseg_qp.pipeline import Engine
    from nucliseg_qp.training.slides import write_slide

    torch.set_num_threads(1)
    settings = load_settings(None, {"masks": {"mpp": args.mask_mpp}})
    engine, once = Engine.start(settings), yardstick()
    tiles = (args.size / TILE_PX) ** 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.ome.tif"
        write_slide(path, args.size, args.size, 0.25, 1, args.density)
        engine_stages(path, engine, Path(folder) / "warm.geojson.gz")
        cpu_ms(once)
        runs, yards = [], []
        for number in range(args.runs):
            yards += [cpu_ms(once) for _ in range(5)]
            runs.append(engine_stages(path, engine, Path(folder) / f"{number}.geojson.gz"))
    show(runs, yards, tiles)


def show(runs: list[dict[str, float]], yards: list[float], tiles: float) -> None:
    yard = statistics.median(yards)
    table = Table("stage", "CPU ms per 1024 tile", "in yardsticks")
    for stage in runs[0]:
        value = statistics.median(run[stage] for run in runs) / tiles
        table.add_row(stage, f"{value:.1f}", f"{value / yard:.2f}")
    total = statistics.median(sum(run.values()) for run in runs) / tiles
    table.add_section()
    table.add_row("everything", f"{total:.1f}", f"{total / yard:.2f}")
    table.add_row("yardstick (5.1 GFLOP U-Net, one 256 px input)", f"{yard:.1f}", "1.00")
    Console().print(table)


if __name__ == "__main__":
    main()
