"""Whoever does the work, the nuclei are the same: processes, a Dask cluster, workers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from nucliseg_qp.config import Settings, load_settings
from nucliseg_qp.engine import Engine
from nucliseg_qp.errors import NucliSegError, UsageError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.keypoints.runtime import Device
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.pipeline import Analysis
from nucliseg_qp.training.slides import write_slide
from nucliseg_qp.work import Inline
from nucliseg_qp.workers import ProcessWorkers, open_workers, processes, shared
from nucliseg_qp.workers.cluster import DaskWorkers
from nucliseg_qp.workers.processes import process_count


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "slide.ome.tif"
    write_slide(path, 2500, 2300, 0.25, 5, 150)
    return path


@pytest.fixture(scope="module")
def engine():
    return Engine.start(
        load_settings(None, {"tiles": {"size_px": 512}, "keypoints": {"window_px": 256}})
    )


@pytest.fixture(scope="module")
def expected(slide_path, engine):
    return analysed(slide_path, engine, Inline(engine))


@pytest.fixture
def every_slide_is_worth_it(monkeypatch):
    monkeypatch.setattr(shared, "WORTH_TILES", 1)


def analysed(path, engine, workers, between=None) -> Nuclei:
    parts = []
    with open_slide(path) as slide:
        for part in Analysis(slide, engine, workers=workers).nuclei():
            parts.append(part)
            if between is not None:
                between(len(parts))
    return Nuclei.concatenate(parts)


def assert_same_bits(found: Nuclei, expected: Nuclei) -> None:
    assert len(expected) > 300
    for name in ("x", "y", "score", "ring_xy", "ring_start", "class_index"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name, column in expected.measurements.items():
        assert np.array_equal(found.measurements[name], column, equal_nan=True), name


@pytest.mark.usefixtures("every_slide_is_worth_it")
def test_two_processes_give_the_bits_of_one(slide_path, engine, expected):
    with ProcessWorkers(engine, 2) as workers:
        assert_same_bits(analysed(slide_path, engine, workers), expected)


@pytest.mark.usefixtures("every_slide_is_worth_it")
def test_a_killed_process_costs_nothing_but_time(slide_path, engine, expected):
    killed = []

    def kill_one(done: int) -> None:
        if done == 2:
            pool = workers._crew._pools[0]
            killed.extend(pool._processes)
            os.kill(killed[0], signal.SIGKILL)

    with ProcessWorkers(engine, 2) as workers:
        found = analysed(slide_path, engine, workers, kill_one)
    assert killed
    assert_same_bits(found, expected)


def test_a_process_that_ended_before_it_got_a_task_is_replaced_once(engine):
    """Whoever was killed between two images: the next task must not end the run."""
    with ProcessWorkers(engine, 1) as workers:
        crew = workers._crew
        first = crew.submit(own_id)()
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: crew._pools[0]._broken, 10)
        second = crew.submit(own_id)()
        waiting = [crew.submit(own_id, second) for _ in range(3)]
        assert second != first
        assert len({wait() for wait in waiting}) == 1, "each lost task started a process of its own"
        assert crew._load == [0]


def test_a_task_that_always_kills_its_process_is_told(engine):
    with ProcessWorkers(engine, 1) as workers, pytest.raises(NucliSegError, match="3 times"):
        workers._crew.submit(die)()


def test_an_image_that_fails_leaves_no_load_behind(engine):
    """The next image must be dealt out evenly, and nobody works for the one that failed."""
    with ProcessWorkers(engine, 2) as workers:
        with pytest.raises(NucliSegError, match="3 times"):
            list(workers._in_order(die, [()] * 12))
        assert workers._crew._load == [0, 0]
        ids = list(workers._in_order(own_id, [()] * 12))
        assert sorted(ids.count(one) for one in set(ids)) == [6, 6]


def test_results_that_nobody_takes_leave_no_load_behind(engine):
    with ProcessWorkers(engine, 2) as workers:
        some = workers._in_order(own_id, [()] * 12)
        next(some)
        some.close()
        assert workers._crew._load == [0, 0]


@pytest.mark.parametrize(
    ("asked", "devices"),
    [("auto", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0", "cuda:1"]), ("cuda:1", ["cuda:1"])],
)
def test_a_gpu_that_is_asked_for_gets_one_process(monkeypatch, asked, devices):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    runner = SimpleNamespace(device=Device(asked if ":" in asked else "cuda:0", "a GPU"))
    engine = SimpleNamespace(
        runner=runner, settings=load_settings(None, {"keypoints": {"device": asked}})
    )
    assert process_count(engine) == len(devices)
    assert processes._devices(engine, len(devices)) == devices


def own_id(_settings: str, kill: int = 0) -> int:
    """Give the id of this process, unless it is the one to be killed."""
    if os.getpid() == kill:
        os.kill(kill, signal.SIGKILL)
    return os.getpid()


def die(_settings: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_small_slides_start_no_process(slide_path):
    """Starting Python and torch twice takes longer than the whole of a small image."""
    engine = Engine.start(Settings())
    with ProcessWorkers(engine, 2) as workers:
        assert len(analysed(slide_path, engine, workers)) > 300
        assert workers._crew._pools == [None, None]


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    """A run killed by force must not leave processes that eat the machine's memory."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "import os\n"
        "from nucliseg_qp.workers.processes import _begin\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, get_context('spawn'), _begin)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: not alive(child), 10), "the worker outlived its parent"


def test_nobody_at_the_scheduler_is_one_line(engine):
    pytest.importorskip("distributed", reason="dask is not installed")
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskWorkers(engine, "tcp://127.0.0.1:9", timeout="1s")


@pytest.mark.usefixtures("every_slide_is_worth_it")
def test_a_dask_cluster_that_loses_a_worker_gives_the_same_bits(
    slide_path, engine, expected, tmp_path
):
    pytest.importorskip("distributed", reason="dask is not installed")
    with dask_cluster(tmp_path, workers=2) as (address, processes):
        settings = engine.settings.model_copy(
            update={"work": engine.settings.work.model_copy(update={"scheduler": address})}
        )
        remote = Engine(settings, engine.runner, engine.palette, engine.stains)

        def kill_one(done: int) -> None:
            if done == 3:
                processes[0].kill()

        with open_workers(remote) as workers:
            found = analysed(slide_path, remote, workers, kill_one)
    assert_same_bits(found, expected)


def test_a_task_that_always_kills_its_dask_worker_is_told(engine, tmp_path, monkeypatch):
    """The image it belongs to is failed; those after it have their turn."""
    pytest.importorskip("distributed", reason="dask is not installed")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with (
        dask_cluster(tmp_path, workers=1) as (address, _),
        DaskWorkers(engine, address) as workers,
        pytest.raises(NucliSegError, match=r"too often.*allowed-failures"),
    ):
        workers._crew.submit(lambda _: os.kill(os.getpid(), signal.SIGKILL))()


@contextmanager
def dask_cluster(folder, workers: int):
    """Start a scheduler and workers as real processes on this machine's loopback."""
    file = folder / "scheduler.json"
    base = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    command = [*base, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen([*command, "--scheduler-file", file], cwd=folder, **quiet)]
    try:
        assert wait_until(file.exists, 60), "the Dask scheduler did not start"
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file]
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        crew = [subprocess.Popen([*worker, *options], cwd=folder, **quiet) for _ in range(workers)]
        processes += crew
        yield json.loads(file.read_text())["address"], crew
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return bool(true())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
