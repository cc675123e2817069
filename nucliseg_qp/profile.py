"""Where time and memory of a run went, as JSON that can be sent to somebody else.

Nothing in it names a file, a folder, an image, a computer or a person.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.provenance import machine_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.errors import InputError
    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.keypoints.search import Keypoints
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Analysis
    from nucliseg_qp.work import TilePlan, Workers

__all__ = ["Profile", "Stage"]

Item = TypeVar("Item")

NOTE = (
    "Where time and memory of a run went. No names of files, folders, images, computers or people "
    "are in here."
)


@dataclass
class Stage:
    """What one step of the work cost.

    Parameters
    ----------
    seconds : float
        On the clock.
    cpu_seconds : float
        Of this process, all threads.
    waiting_seconds : float
        Part of ``seconds`` in which the thread that leads stood still: for pixels, for workers,
        or for a core.
    pieces : int
        Windows, tiles or images done.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    waiting_seconds: float = 0.0
    pieces: int = 0

    def as_json(self) -> dict[str, float]:
        """Give the numbers, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in vars(self).items()}


@dataclass
class Profile:
    """Collects what the steps of a run cost; make it as early as possible."""

    stages: dict[str, Stage] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    worker_cpu_seconds: float = 0.0
    worker_peak_mb: list[float] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Count what the block costs towards a step."""
        stage = self.stages.setdefault(name, Stage())
        clocks = time.perf_counter, time.process_time, time.thread_time
        before = [clock() for clock in clocks]
        try:
            yield stage
        finally:
            wall, cpu, own = (clock() - start for clock, start in zip(clocks, before, strict=True))
            stage.seconds += wall
            stage.cpu_seconds += cpu
            stage.waiting_seconds += max(0.0, wall - own)

    def workers(self, inner: Workers) -> Workers:
        """Give workers that do what ``inner`` does and are measured."""
        return _MeasuredWorkers(inner, self)

    def prepare(self, analysis: Analysis) -> None:
        """Do, one by one, the steps that come before the network."""
        with self.stage("tissue") as stage:
            stage.pieces += 1
            _ = analysis.tissue
        with self.stage("statistics") as stage:
            stage.pieces += 1
            _ = analysis.statistics

    def image(self, status: str, seconds: float, nuclei: int, facts: dict[str, Any]) -> None:
        """Note how one image ended."""
        kept = ("width_px", "height_px", "mpp", "reader", "tissue_mm2", "tiles_done")
        numbers = {name: facts[name] for name in kept if name in facts}
        self.images.append(
            {"status": status, "seconds": round(seconds, 3), "nuclei": nuclei, **numbers}
        )

    def children(self) -> None:
        """Look at the processes this one started, while they are there."""
        from nucliseg_qp.processes import child_usage

        usage = child_usage()
        self.worker_cpu_seconds = sum((cpu for cpu, _ in usage), 0.0)
        self.worker_peak_mb = [round(peak, 1) for _, peak in usage]

    def write(self, path: Path, engine: Engine | None) -> None:
        """Write the file.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        record = json.dumps(self._record(engine), indent=2, ensure_ascii=False)
        with whole_file(path) as partial:
            partial.write_text(record + "\n", encoding="utf-8")

    def _record(self, engine: Engine | None) -> dict[str, Any]:
        from nucliseg_qp.processes import peak_memory_mb

        seconds, cpu = time.perf_counter() - self.began, time.process_time()
        known = Stage(
            *(sum(getattr(one, name) for one in self.stages.values()) for name in _SUMMED)
        )
        rest = Stage(max(0.0, seconds - known.seconds), max(0.0, cpu - known.cpu_seconds))
        stages = {**self.stages, "everything else": rest}
        return {
            "note": NOTE,
            **machine_record(engine),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu, 3),
            "worker_processes_cpu_seconds": round(self.worker_cpu_seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "worker_processes_peak_memory_mb": self.worker_peak_mb,
            "nuclei": sum(image["nuclei"] for image in self.images),
            "stages": {name: stage.as_json() for name, stage in stages.items()},
            "images": self.images,
        }


_SUMMED = ("seconds", "cpu_seconds")


class _MeasuredWorkers:
    def __init__(self, inner: Workers, profile: Profile) -> None:
        self._inner, self._profile = inner, profile

    def keypoints(
        self, slide: Slide, windows: Sequence[Tile], downsample: float
    ) -> Iterator[tuple[int, Keypoints]]:
        source = self._inner.keypoints(slide, windows, downsample)
        for count, part in self._measured("keypoints", source):
            self._profile.stages["keypoints"].pieces += count
            yield count, part
        self._profile.children()

    def nuclei(
        self, slide: Slide, tiles: Sequence[Tile], plan: TilePlan
    ) -> Iterator[tuple[Tile, Nuclei | InputError]]:
        name = "outlines"
        for item in self._measured(name, self._inner.nuclei(slide, tiles, plan)):
            self._profile.stages[name].pieces += 1
            yield item
        self._profile.children()

    def _measured(self, name: str, source: Iterator[Item]) -> Iterator[Item]:
        while True:
            with self._profile.stage(name):
                item = next(source, None)
            if item is None:
                return
            yield item
