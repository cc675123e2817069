"""How quickly a project is written and whether memory stays bounded over many images.

python benchmarks/projects.py write 100000
python benchmarks/projects.py memory 200
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from nucliseg_qp.config import load_settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.projects.job import ProjectJob
from nucliseg_qp.projects.run import annotate_project
from nucliseg_qp.projects.scope import ProjectScope
from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS
from nucliseg_qp.qupath.held import EntryResult, Parent
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.results import save_part
from nucliseg_qp.qupath.worker import QuPathWorker
from nucliseg_qp.training.slides import write_slide

PART = 2000
POINTS = 24


def project_with(home: Path, images: list[Path]) -> ProjectFolder:
    """Make a project without Java."""
    folder = ProjectFolder(home / "project")
    folder.root.mkdir()
    project = ProjectFile(folder)
    for path in images:
        project.add(path)
    project.save()
    return folder


def nuclei_parts(folder: Path, count: int, side_px: int) -> tuple[Path, ...]:
    """Make round nuclei with all measurements, as tiles give them."""
    chance, parts = np.random.default_rng(0), []
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle = 12 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for start in range(0, count, PART):
        n = min(PART, count - start)
        xy = np.round(chance.uniform(20, side_px - 20, (n, 2)), 2)
        nuclei = Nuclei(
            x=xy[:, 0], y=xy[:, 1], score=np.full(n, 0.5, np.float32),
            ring_xy=(xy[:, None] + circle).reshape(-1, 2),
            ring_start=np.arange(n + 1) * POINTS,
            class_names=("Negative", "Positive"),
            class_index=chance.integers(0, 2, n).astype(np.int16),
            measurements={
                name: chance.uniform(0, 1, n).astype(np.float32) for name in MEASUREMENT_COLUMNS
            },
        )  # fmt: skip
        parts.append(folder / f"{start}.npz")
        save_part(parts[-1], nuclei, nucleus_ids("big", nuclei))
    return tuple(parts)


def measure_writing(count: int) -> None:
    """Time the step from nuclei on disk to an image that QuPath opens."""
    side = 2048
    with tempfile.TemporaryDirectory() as home:
        image = Path(home) / "big.ome.tif"
        write_slide(image, side, side, 0.25, 0, 100.0)
        folder = project_with(Path(home), [image])
        parts = nuclei_parts(Path(home), count, side)
        box = [[[0, 0], [side, 0], [side, side], [0, side], [0, 0]]]
        parent = Parent(
            "5f0d6f2e-7c0b-5c1e-9d0c-6e75636c6569", "area", {"type": "Polygon", "coordinates": box}
        )
        classes = (("Negative", (112, 112, 225)), ("Positive", (250, 62, 62)))
        with QuPathWorker(folder.root) as worker:
            for number in range(3):
                held = worker.read(1)
                size = (held.width_px, held.height_px, 0.25, "QuPath", image.name)
                result = EntryResult(1, held.state, (parent,), parts, "replace", classes, *size)
                began = time.monotonic()
                written = worker.write(result)
                seconds = time.monotonic() - began
                size_mb = (folder.data(1) / "data.qpdata").stat().st_size / 1e6
                print(f"run {number + 1}: {seconds:.2f} s, {size_mb:.0f} MB, {written.report}")


class Memory(threading.Thread):
    """Watches the resident memory of this process and of Java."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, float]] = []

    def run(self) -> None:
        while True:
            self.seen.append((_rss_mb(os.getpid()), sum(map(_rss_mb, _children(os.getpid())))))
            time.sleep(0.5)


def _rss_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def measure_memory(count: int) -> None:
    """Annotate many images and tell how much memory each quarter of the run took."""
    with tempfile.TemporaryDirectory() as home:
        first = Path(home) / "0.ome.tif"
        write_slide(first, 512, 512, 0.25, 0, 400.0)
        images = [first]
        for number in range(1, count):
            images.append(Path(home) / f"{number}.ome.tif")
            shutil.copyfile(first, images[-1])
        folder = project_with(Path(home), images)
        job = ProjectJob(folder.root, Engine.start(load_settings(None, {})), ProjectScope())
        memory = Memory()
        memory.start()
        began = time.monotonic()
        outcomes = annotate_project(job)
        seconds = time.monotonic() - began
        done = sum(one.status == "done" for one in outcomes)
        print(f"{done} of {count} images in {seconds:.0f} s")
        for number, quarter in enumerate(np.array_split(np.array(memory.seen), 4), start=1):
            ours, java = quarter.max(axis=0)
            print(f"quarter {number}: at most {ours:.0f} MB here, {java:.0f} MB in Java")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["write", "memory"])
    parser.add_argument("count", type=int)
    chosen = parser.parse_args()
    {"write": measure_writing, "memory": measure_memory}[chosen.what](chosen.count)
