"""One process per core, or per GPU, of this machine."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nucliseg_qp.errors import NucliSegError
from nucliseg_qp.processes import usable_cores
from nucliseg_qp.workers.shared import Pending, SharedWork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from nucliseg_qp.config import Settings
    from nucliseg_qp.engine import Engine

__all__ = ["ProcessWorkers", "process_count"]

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

    def submit(self, function: Callable[..., Result], *arguments: object) -> Pending[Result]:
        place = self._load.index(min(self._load))
        task = partial(function, self._settings[place], *arguments)
        future = self._given(place, task)
        self._load[place] += 1

        def wait() -> Result:
            try:
                return self._retried(place, future, task)
            finally:
                self._load[place] -= 1

        def drop() -> None:
            future.cancel()
            self._load[place] -= 1

        return Pending(wait, drop)

    def _retried(self, place: int, future: Future[Result], task: Callable[[], Result]) -> Result:
        for _ in range(TRIES - 1):
            try:
                return future.result()
            except BrokenProcessPool:
                # Somebody killed it, most often for memory: its tasks start again in a new one.
                future = self._given(place, task)
        try:
            return future.result()
        except BrokenProcessPool:
            raise NucliSegError(
                f"a worker process ended {TRIES} times without an answer",
                "It was probably short of memory: give fewer --workers.",
            ) from None

    def _given(self, place: int, task: Callable[[], Result]) -> Future[Result]:
        """Hand a task to the process of a place, or to a new one when that has ended."""
        try:
            return self._pool(place).submit(task)
        except BrokenProcessPool:
            self._pools[place] = None
            return self._pool(place).submit(task)

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


def process_count(engine: Engine) -> int:
    """Give the number of processes where none is asked for: one per core, or per GPU in use."""
    return usable_cores() if engine.runner.device.is_cpu else len(_cards(engine))


def _devices(engine: Engine, count: int) -> list[str]:
    cards = _cards(engine)
    return [cards[place % len(cards)] for place in range(count)]


def _cards(engine: Engine) -> list[str]:
    """Name the devices a run may use: all GPUs unless one of them is asked for."""
    import torch

    name = engine.runner.device.name
    if engine.settings.keypoints.device in ("auto", "cuda") and name.startswith("cuda"):
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [name]


def _settings_for(settings: Settings, device: str) -> str:
    keypoints = settings.keypoints.model_copy(update={"device": device})
    return settings.model_copy(update={"keypoints": keypoints}).model_dump_json()
