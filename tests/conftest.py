"""What several test files share: the QuPath marker and a QuPath to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nucliseg_qp.qupath.install import find_qupath

PROBE = Path(__file__).with_name("qupath_probe.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs QuPath where there is none, and what is slow unless it is asked for."""
    if "slow" not in config.getoption("-m"):
        skip = pytest.mark.skip(reason="takes minutes: run with -m slow")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)
    marked = [item for item in items if item.get_closest_marker("qupath")]
    if marked and find_qupath() is None:
        skip = pytest.mark.skip(reason="no QuPath is installed (PAQUO_QUPATH_DIR names one)")
        for item in marked:
            item.add_marker(skip)


class QuPathProbe:
    """QuPath itself in a process of its own, asked one question at a time."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, str(PROBE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
            )

    def ask(self, question: str, **about: object) -> dict:
        """Send one question to `qupath_probe.py` and give its answer."""
        self._process.stdin.write(json.dumps({"question": question, **about}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"QuPath's process ended:\n{self._log.read_text()[-3000:]}")
        return json.loads(line)

    def read_objects(self, path: Path, points: bool = False) -> dict:
        """Read GeoJSON with QuPath's own reader, the vertices only on demand: they are slow."""
        return self.ask("read_objects", path=str(path), points=points)

    def project(self, folder: Path) -> dict:
        """Open a project with QuPath's own ProjectIO and describe all that is in it."""
        return self.ask("project", path=str(folder / "project.qpproj"))

    def run_script(self, folder: Path, code: str, *args: str, save: bool = True) -> dict:
        """Run Groovy for every image of a project and save, as `Run for project` does."""
        project = str(folder / "project.qpproj")
        return self.ask("run_script", path=project, script=code, args=list(args), save=save)

    def run_steps(self, folder: Path, *steps: dict, save: bool = True, entry: int = 1) -> list:
        """Run scripts one after the other on one open image; see `qupath_probe.run_steps`."""
        project = str(folder / "project.qpproj")
        answer = self.ask("run_steps", path=project, steps=steps, save=save, entry=entry)
        return answer["steps"]

    def read_back(self, folder: Path) -> dict:
        """Read a project with paquo."""
        return self.ask("read_back", path=str(folder / "project.qpproj"))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def qupath_probe(tmp_path_factory: pytest.TempPathFactory):
    """Give a running QuPath; only for tests marked ``qupath``."""
    probe = QuPathProbe(tmp_path_factory.mktemp("qupath") / "probe.log")
    yield probe
    probe.close()


@pytest.fixture(scope="session")
def engine():
    """Give the engine with its defaults, on one thread: tests share two cores."""
    import torch

    from nucliseg_qp.config import Settings
    from nucliseg_qp.pipeline import Engine

    torch.set_num_threads(1)
    return Engine.start(Settings())


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a synthetic slide of 1024 px that must not be changed."""
    from nucliseg_qp.training.slides import write_slide

    path = tmp_path_factory.mktemp("small") / "small.ome.tif"
    write_slide(path, 1024, 1024, 0.25, 3, 400.0)
    return path


@pytest.fixture(scope="session")
def dense_slide(tmp_path_factory: pytest.TempPathFactory):
    """Give a synthetic slide of 2048 px, 400 nuclei per tile, with its truth."""
    from nucliseg_qp.training.slides import write_slide

    path = tmp_path_factory.mktemp("dense") / "dense.ome.tif"
    return path, write_slide(path, 2048, 2048, 0.25, 7, 400.0)
