"""One process per core, or per GPU, of this machine."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from nucliseg_qp.errors import NucliSegError
from nucliseg_qp.processes import usable_cores
from nucliseg_qp.workers.shared import SharedWork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nucliseg_qp.config import Settings
    from nucliseg_qp.engine import Engine

__all__ = ["ProcessWorkers", "usable_cores"]

Result = TypeVar("Result")

TRIES = 3
"""How often a task is given to a process that ended without an answer."""


class ProcessWorkers(SharedWork):
    """One process per core, or per GPU, of this machine.

    Parameters
    ----------
    engine : Engine
        Model, palette and settings.
    count : int
        Number of processes; on GPUs they are dealt out to the devices in turn.
    """

    def __init__(self, engine: Engine, count: int) -> None:
        super().__init__(engine, _Processes(engine.settings, _devices(engine, count)))


class _Processes:
    """Pools of one process each, so that every process keeps its own device."""

    def __init__(self, settings: Settings, devices: Sequence[str]) -> None:
        self._settings = [_settings_for(settings, device) for device in devices]
        self._pools: list[ProcessPoolExecutor | None] = [None] * len(devices)
        self._load = [0] * len(devices)

    @property
    def size(self) -> int:
        return len(self._pools)

    def submit(self, function: Callable[..., Result], *arguments: object) -> Callable[[], Result]:
        place = self._load.index(min(self._load))
        self._load[place] += 1
        future = self._pool(place).submit(function, self._settings[place], *arguments)

        def wait() -> Result:
            try:
                return self._retried(place, future.result, function, arguments)
            finally:
                self._load[place] -= 1

        return wait

    def _retried(
        self,
        place: int,
        result: Callable[[], Result],
        function: Callable[..., Result],
        arguments: tuple[object, ...],
    ) -> Result:
        for _ in range(TRIES):
            try:
                return result()
            except BrokenProcessPool:
                # Somebody killed it, most often for memory: its tasks start again in a new one.
                self._pools[place] = None
                pool, settings = self._pool(place), self._settings[place]
                result = pool.submit(function, settings, *arguments).result
        raise NucliSegError(
            f"a worker process ended {TRIES} times without an answer",
            "It was probably short of memory: give fewer --workers.",
        )

    def _pool(self, place: int) -> ProcessPoolExecutor:
        from multiprocessing import get_context

        pool = self._pools[place]
        if pool is None:
            pool = ProcessPoolExecutor(1, get_context("spawn"), _begin)
            self._pools[place] = pool
        return pool

    def close(self) -> None:
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Make a worker leave Ctrl-C to its parent and end with it, however that ends."""
    import signal
    from multiprocessing import parent_process
    from multiprocessing.connection import wait
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def follow() -> None:
            wait([sentinel])
            os._exit(1)

        Thread(target=follow, daemon=True).start()


def _devices(engine: Engine, count: int) -> list[str]:
    import torch

    name = engine.runner.device.name
    if engine.settings.keypoints.device in ("auto", "cuda") and name.startswith("cuda"):
        return [f"cuda:{k % torch.cuda.device_count()}" for k in range(count)]
    return [name] * count


def _settings_for(settings: Settings, device: str) -> str:
    keypoints = settings.keypoints.model_copy(update={"device": device})
    return settings.model_copy(update={"keypoints": keypoints}).model_dump_json()
