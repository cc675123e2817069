"""Runs over a project that were cut off or left something damaged, gone on with; no QuPath."""

from __future__ import annotations

import shutil

import pytest
from project_samples import make_project, numbers, statuses

from nucliseg_qp.batch import SilentWatcher
from nucliseg_qp.errors import QuPathError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.projects import late, run
from nucliseg_qp.projects.job import ProjectJob
from nucliseg_qp.projects.journal import Journal
from nucliseg_qp.projects.record import last_run, read_run
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


# ---- the record of a run that was killed ---------------------------------------------------------


def killed_at(root, engine, monkeypatch, entry_id):
    monkeypatch.setattr(FakeQuPath, "killed_at", entry_id)
    with pytest.raises(KeyboardInterrupt):
        annotate(root, engine)
    monkeypatch.setattr(FakeQuPath, "killed_at", 0)


def test_the_record_of_a_killed_run_keeps_the_images_it_did_when_only_the_rest_is_asked_for(
    root, engine, monkeypatch
):
    killed_at(root, engine, monkeypatch, 2)
    cut_off = last_run(ProjectFolder(root))
    [outcome] = annotate(root, engine, "#2")
    record = last_run(ProjectFolder(root))
    assert record["run"] == cut_off["run"]
    assert record["finished"]
    first, second = record["images"]
    names = [one.name for one in open_project(root).entries]
    assert [first["name"], second["name"]] == names
    assert [first["entry_id"], second["entry_id"]] == [1, 2]
    assert (first["status"], first["problem"], first["earlier"]) == ("done", "", False)
    assert first["counts"] == numbers(root, 1)["counts"]
    assert first["report"] == {"added": 7}
    assert first.keys() == second.keys()
    assert second["counts"] == dict(outcome.counts)


def test_a_killed_run_is_not_finished_while_an_image_it_tried_has_failed(root, engine, monkeypatch):
    def broken(*_):
        raise QuPathError("Java is short of memory", "Give it more.")

    monkeypatch.setattr(run, "analyse", broken)
    killed_at(root, engine, monkeypatch, 2)
    monkeypatch.undo()
    monkeypatch.setattr(run, "QuPathWorker", FakeQuPath)
    annotate(root, engine, "#2")
    record = last_run(ProjectFolder(root))
    assert [one["status"] for one in record["images"]] == ["failed", "done"]
    assert "short of memory" in record["images"][0]["problem"]
    assert not record["finished"]


def test_a_run_killed_after_its_last_image_has_the_rows_of_all_once_it_is_asked_for_again(
    root, engine, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "end_run", killed)
    with pytest.raises(KeyboardInterrupt):
        annotate(root, engine)
    monkeypatch.undo()
    monkeypatch.setattr(run, "QuPathWorker", FakeQuPath)
    annotate(root, engine, "#2")
    record = last_run(ProjectFolder(root))
    assert [one["entry_id"] for one in record["images"]] == [1, 2]
    assert not any(one["earlier"] for one in record["images"])


def test_an_image_that_another_run_did_is_no_row_of_the_next_one(root, engine):
    folder = ProjectFolder(root)
    annotate(root, engine, "#1")
    first = last_run(folder)["run"]
    annotate(root, engine, "#2")
    [path] = set(folder.run("x").parent.iterdir()) - {folder.run(first)}
    assert [one["entry_id"] for one in read_run(path)["images"]] == [2]
