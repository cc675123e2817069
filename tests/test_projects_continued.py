"""Runs over a project that were cut off or left something damaged, gone on with; no QuPath."""

from __future__ import annotations

import shutil

import pytest
from project_samples import make_project, statuses

from nucliseg_qp.batch import SilentWatcher
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.projects import late, run
from nucliseg_qp.projects.job import ProjectJob
from nucliseg_qp.projects.journal import Journal
from nucliseg_qp.projects.scope import ProjectScope
from nucliseg_qp.projects.selection import Selection, open_project
from nucliseg_qp.qupath.builders import builder_paths
from nucliseg_qp.qupath.data_file import DataState
from nucliseg_qp.qupath.held import Held, Written
from nucliseg_qp.qupath.project_folder import ProjectFolder


class FakeQuPath:
    """QuPath as far as a run sees it: it knows each image's size and takes every result."""

    saved_meanwhile = False
    killed_at = 0

    def __init__(self, root):
        self._project = open_project(root)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, entry_id):
        if entry_id == FakeQuPath.killed_at:
            raise KeyboardInterrupt
        [path] = builder_paths(self._project.builder(entry_id))
        with open_slide(path) as slide:
            size = slide.dimensions
        mpp, kind = (0.25, 0.25), "BRIGHTFIELD_H_DAB"
        return Held(entry_id, *size, 1, True, *mpp, kind, None, (), {}, {}, DataState())

    def write(self, result):
        if FakeQuPath.saved_meanwhile:
            return Written({}, changed=True)
        return Written({"added": 7}, self.read(result.entry_id))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("continued"), 2, 256)


@pytest.fixture
def root(pristine, tmp_path, monkeypatch):
    """Give a project of two images whose QuPath is a fake."""
    monkeypatch.setattr(run, "QuPathWorker", FakeQuPath)
    monkeypatch.setattr(late, "QuPathWorker", FakeQuPath)
    monkeypatch.setattr(FakeQuPath, "saved_meanwhile", False)
    monkeypatch.setattr(FakeQuPath, "killed_at", 0)
    return shutil.copytree(pristine, tmp_path / "p")


def annotate(root, engine, *images):
    job = ProjectJob(root, engine, ProjectScope(), Selection(images))
    return run.annotate_project(job)


# ---- a result that waits and is damaged ----------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "cut off": lambda folder: cut(folder / "result.json"),
    "empty": lambda folder: (folder / "result.json").write_bytes(b""),
    "not JSON": lambda folder: (folder / "result.json").write_bytes(b"\0" * 400),
    "another thing": lambda folder: (folder / "result.json").write_bytes(b"[1]"),
    "nuclei": lambda folder: cut(folder / "nuclei.geojson.gz"),
}


@pytest.fixture(params=DAMAGE)
def damaged(request, root, engine, monkeypatch):
    """Give a project whose first image has a staged result that is damaged."""
    monkeypatch.setattr(FakeQuPath, "saved_meanwhile", True)
    annotate(root, engine, "#1")
    assert statuses(root)[0] == "staged"
    monkeypatch.setattr(FakeQuPath, "saved_meanwhile", False)
    DAMAGE[request.param](ProjectFolder(root).staged(1))
    return root


def test_a_damaged_result_that_waits_is_told_in_one_line_and_kept(damaged):
    folder = ProjectFolder(damaged)
    before = sorted(path.name for path in folder.staged(1).iterdir())
    [outcome] = late.apply_staged(damaged, Selection(), SilentWatcher())
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert str(folder.staged(1)) in outcome.problem
    assert "without --apply-staged" in outcome.problem
    assert "\n" not in outcome.problem
    assert sorted(path.name for path in folder.staged(1).iterdir()) == before


def test_an_image_whose_waiting_result_is_damaged_is_analysed_again(damaged, engine):
    [outcome] = annotate(damaged, engine, "#1")
    assert (outcome.status, outcome.problem) == ("done", "")
    assert Journal(ProjectFolder(damaged).journal).last(1).status == "done"
    assert not ProjectFolder(damaged).staged(1).exists()


def test_an_image_whose_waiting_result_is_whole_still_waits(root, engine, monkeypatch):
    monkeypatch.setattr(FakeQuPath, "saved_meanwhile", True)
    annotate(root, engine, "#1")
    monkeypatch.setattr(FakeQuPath, "saved_meanwhile", False)
    monkeypatch.setattr(run, "analyse", None)
    [outcome] = annotate(root, engine, "#1")
    assert outcome.status == "staged"
    assert [one.status for one in late.apply_staged(root, Selection(), SilentWatcher())] == ["done"]
