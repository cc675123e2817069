"""The measurements of ``benchmarks/run.py``: one function a table, giving what JSON can hold."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plain
from accuracy import analyse, measure, overlaps, synthetic_field
from memory import write_large
from qupath_cells import DEFAULTS, detections, qupath_with_launcher
from speed import cpu_ms, engine_stages, plain_net, yardstick

TILE_PX = 1024
DENSITY = 400.0
PLAIN_TILES = 4

# One run in a process of its own: its peak memory is its own, and nothing before warms its caches.
CHILD = """
import json, os, sys, time
from pathlib import Path
if sys.argv[5] == "one core":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import cv2, torch
torch.set_num_threads(1); cv2.setNumThreads(1)
from nucliseg_qp.config import load_settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.pipeline import Analysis
from nucliseg_qp.processes import child_usage, peak_memory_mb
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.workers import open_workers
warm, slide, workers, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
engine = Engine.start(load_settings(None, {"work": {"workers": workers}}))
colours = [(one.name, one.color_rgb) for one in engine.palette.classes]
def go(path, crew):
    count = 0
    def parts(analysis):
        nonlocal count
        for nuclei in analysis.nuclei():
            count += len(nuclei)
            yield nuclei, nucleus_ids("image", nuclei)
    with open_slide(path) as opened:
        write_geojson(Path(warm).with_name("child.geojson.gz"),
                      parts(Analysis(opened, engine, workers=crew)), colours)
    return count
def spent():
    return time.process_time() + sum(one[0] for one in child_usage())
with open_workers(engine) as crew:
    for number in range(runs + 1):
        path = warm if number == 0 and workers == 1 else slide
        before, wall = spent(), time.perf_counter()
        count = go(path, crew)
        cpu, wall = spent() - before, time.perf_counter() - wall
        if number:
            peak = peak_memory_mb(), sum(one[1] for one in child_usage())
            print(json.dumps({"cpu_s": cpu, "seconds": wall, "nuclei": count,
                              "peak_mb": peak[0], "workers_peak_mb": peak[1]}), flush=True)
"""


def child(slide: Path, workers: int = 1, runs: int = 1, cores: str = "all") -> list[dict]:
    """Run pyramid to GeoJSON in a process of its own, on "all" cores or "one core"."""
    arguments = [str(slide.with_name("warm.ome.tif")), str(slide), str(workers), str(runs), cores]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def median(values) -> float:
    return float(statistics.median(values))


def slide_of(folder: Path, size_px: int, density: float = DENSITY):
    from nucliseg_qp.training.slides import write_slide

    path = folder / f"slide_{size_px}_{density:.0f}.ome.tif"
    return path, write_slide(path, size_px, size_px, 0.25, 7, density)


def engine_of(mask_mpp: float = 0.5):
    from nucliseg_qp.config import load_settings
    from nucliseg_qp.engine import Engine

    return Engine.start(load_settings(None, {"masks": {"mpp": mask_mpp}}))


def ratio(folder: Path, args) -> dict:
    """CPU by stage beside the plain algorithm and the yardstick, all in turn in one process."""
    from nucliseg_qp.images.slide import open_slide

    path, truth = slide_of(folder, args.ratio_size)
    tiles = (args.ratio_size / TILE_PX) ** 2
    engines = {"0.5 um": engine_of(), "0.25 um": engine_of(0.25)}
    net, once, out = plain_net(), yardstick(), folder / "ratio.geojson.gz"
    yards, plains, runs = [], [], {name: [] for name in engines}
    for number in range(args.runs + 1):
        found = [cpu_ms(once) for _ in range(5)]
        stages = {name: engine_stages(path, one, out) for name, one in engines.items()}
        with open_slide(path) as slide:
            done = plain.analyse(slide, truth.points, net, folder / "plain.json", PLAIN_TILES)
        if number:
            yards += found
            plains.append({k: v for k, v in done.cpu_ms.items() if k != "not counted"})
            for name, one in stages.items():
                runs[name].append(one)
    result = {name: per_tile(some, tiles) for name, some in runs.items()}
    result["plain"] = per_tile(plains, PLAIN_TILES**2)
    result["yardstick"] = {"everything": median(yards)}
    result["nuclei_per_second"] = len(truth.points) / tiles / result["0.5 um"]["everything"] * 1e3
    return result


def per_tile(runs: list[dict[str, float]], tiles: float) -> dict[str, float]:
    stages = {name: median(run[name] for run in runs) / tiles for name in runs[0]}
    return {**stages, "everything": median(sum(run.values()) for run in runs) / tiles}


def quality(folder: Path, _args) -> dict:
    """Panoptic quality and F1 on a slide with known truth; the plain one is given the points."""
    from nucliseg_qp.images.slide import open_slide

    result = {}
    for density in (100, 400):
        field = synthetic_field(folder, density)
        for mpp in (0.25, 0.5):
            figures = measure(field, analyse(field, engine_of(mpp)), 12.0, 0.0)
            name = f"{density} nuclei a tile, outlines at {mpp} um"
            result[name] = {"PQ": figures.panoptic, "F1": figures.points.f1}
        with open_slide(field.path) as slide:
            done = plain.analyse(slide, field.points, plain_net(), folder / "plain.json", 2)
        iou, _, one, other = overlaps(done.labels, field.labels)
        result[f"{density} nuclei a tile, plain, told the true points"] = {
            "PQ": iou / ((one + other) / 2),
            "F1": 1.0,
        }
    return result


def scaling(folder: Path, args) -> dict:
    """CPU per tile, clock and peak memory over the size of the slide, one worker."""
    slide_of(folder, TILE_PX)[0].rename(folder / "warm.ome.tif")
    paths = {size: folder / f"large_{size}.ome.tif" for size in args.sizes}
    for size, path in paths.items():
        write_large(path, size, size // 512)
    found: dict[int, list[dict]] = {size: [] for size in args.sizes}
    for _ in range(args.scaling_runs):
        for size, path in paths.items():
            found[size] += child(path)
    return {
        str(size): {
            "CPU ms per tile": median(run["cpu_s"] for run in runs) * 1e3 / (size / TILE_PX) ** 2,
            "seconds": median(run["seconds"] for run in runs),
            "nuclei": runs[0]["nuclei"],
            "peak MB": max(run["peak_mb"] for run in runs),
            "runs": len(runs),
        }
        for size, runs in found.items()
    }


def density(folder: Path, args) -> dict:
    """CPU per tile over the number of nuclei in it, and the straight line through it."""
    engine, out = engine_of(), folder / "density.geojson.gz"
    rows, sides = {}, 4
    for wanted in args.densities:
        path, truth = slide_of(folder, sides // 2 * TILE_PX, wanted)
        runs = [engine_stages(path, engine, out) for _ in range(args.runs + 1)][1:]
        tiles = (sides / 2) ** 2
        rows[len(truth.points) / tiles] = median(sum(run.values()) for run in runs) / tiles
    x, y = np.array(list(rows)), np.array(list(rows.values()))
    slope, start = np.polyfit(x, y, 1)
    residual = np.abs(slope * x + start - y) / y
    return {
        "CPU ms per tile": {f"{key:.0f}": value for key, value in rows.items()},
        "line": {"ms per tile": float(start), "us per nucleus": float(slope * 1e3)},
        "largest distance from the line %": float(residual.max() * 100),
    }


def workers(folder: Path, args) -> dict:
    """Clock and CPU of one and of two processes on the same slide, warm, in turn.

    One worker has one core; left alone it reads ahead on a second one, which is told beside it.
    """
    path = folder / "workers.ome.tif"
    warm = folder / "warm.ome.tif"
    if not warm.exists():
        slide_of(folder, TILE_PX)[0].rename(warm)
    write_large(path, args.workers_size, args.workers_size // 512)
    kinds = {"one": (1, "one core"), "one, free": (1, "all"), "two": (2, "all")}
    runs: dict[str, list[dict]] = {name: [] for name in kinds}
    for _ in range(args.scaling_runs):
        for name, (count, cores) in kinds.items():
            runs[name] += child(path, count, 1, cores)
    seconds, cpu, peak = (
        {name: median(run[key] for run in found) for name, found in runs.items()}
        for key in ("seconds", "cpu_s", "workers_peak_mb")
    )
    return {
        "seconds, one worker on one core": seconds["one"],
        "seconds, one worker that reads on a second core": seconds["one, free"],
        "seconds, two workers": seconds["two"],
        "throughput": seconds["one"] / seconds["two"],
        "CPU seconds, one worker": cpu["one"],
        "CPU seconds, two workers and the leading process": cpu["two"],
        "peak MB of each worker": peak["two"] / 2,
    }


def glass(folder: Path, args) -> dict:
    """CPU of a slide that is 70 % glass beside the same slide full of tissue."""
    warm = folder / "warm.ome.tif"
    if not warm.exists():
        slide_of(folder, TILE_PX)[0].rename(warm)
    size, cpu = 10_240, {}
    for name, tissue in (("full", 20), ("glass", 11)):
        path = folder / f"{name}.ome.tif"
        write_large(path, size, tissue)
        cpu[name] = median(run["cpu_s"] for run in child(path, 1, args.scaling_runs))
    return {**cpu, "glass %": 100 * (1 - 121 / 400), "share %": 100 * cpu["glass"] / cpu["full"]}


def start(folder: Path, args) -> dict:
    """Clock and CPU of whole commands, start-up included."""
    import resource

    path, _ = slide_of(folder, TILE_PX)
    commands = {
        "import nucliseg_qp": ["-c", "import nucliseg_qp"],
        "nucliseg-qp --help": ["-m", "nucliseg_qp", "--help"],
        "detect on 1024 x 1024": ["-m", "nucliseg_qp", "detect", str(path), "-o", str(folder)],
    }
    result = {}
    for name, arguments in commands.items():
        seconds, cpu = [], []
        for _ in range(args.runs):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(time.perf_counter() - began)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        result[name] = {"seconds": median(seconds), "CPU seconds": median(cpu)}
    return result


def qupath(folder: Path, args) -> dict:
    """QuPath's own positive cell detection, headless, in a Java process of its own."""
    install = qupath_with_launcher()
    if install is None:
        return {"skipped": "no QuPath with bin/QuPath is installed"}
    path, _ = slide_of(folder, 2 * TILE_PX)
    # The first two warm Java's compiler.
    runs = detections(install, path, 0.25, [DEFAULTS] * (args.runs + 2))
    return {
        "CPU ms per tile": median(run.cpu_s for run in runs[2:]) * 1e3 / 4,
        "first run": runs[0].cpu_s * 1e3 / 4,
        "nuclei per tile": len(runs[-1].nuclei) / 4,
        "version": install.version,
    }


def gpu(_folder: Path, args) -> dict:
    """Windows per second of the network on each CUDA device, by batch size."""
    import torch

    from nucliseg_qp.keypoints.model import load_model
    from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device

    if not torch.cuda.is_available():
        return {"skipped": "no CUDA device on this machine"}
    image = np.random.default_rng(0).integers(0, 255, (16, 1024, 1024, 3), dtype=np.uint8)
    table = {}
    for number in range(torch.cuda.device_count()):
        device = pick_device(f"cuda:{number}")
        runner = KeypointRunner(load_model(), device)
        for batch in (1, 4, 16):
            times = []
            for _ in range(args.runs + 3):
                began = time.perf_counter()
                runner.detect(image[:batch])
                times.append(time.perf_counter() - began)
            table[f"{device.label}, {batch} windows at once"] = batch / median(times[3:])
    return {"windows of 1024 px per second": table}


SECTIONS = {
    one.__name__: one
    for one in (ratio, quality, qupath, start, density, glass, workers, scaling, gpu)
}
