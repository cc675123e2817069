"""Runs that fail, end too early or meet another: what is done stays, and nothing is mistaken."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
import tifffile

import nucliseg_qp.annotate
import nucliseg_qp.detect
import nucliseg_qp.qupath.files
from nucliseg_qp.annotate import annotate_images
from nucliseg_qp.batch import ImageOutcome, Job, SilentWatcher
from nucliseg_qp.config import load_settings
from nucliseg_qp.detect import detect_images
from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.outputs import OutputFolder, whole_file
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.qupath.lock import claimed, locked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def job(engine) -> Job:
    return Job(engine, Scope(), 0.25)


@pytest.fixture
def images(tmp_path, small_slide) -> list[Path]:
    """Give three small images."""
    pixels = tifffile.imread(small_slide)[:200, :200]
    paths = [tmp_path / f"{name}.tif" for name in "abc"]
    for path in paths:
        tifffile.imwrite(path, pixels, photometric="rgb")
    return paths


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def files(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def of_image(name: str) -> set[str]:
    return {f"nuclei/{name}.geojson.gz", f"tables/{name}.parquet", f"previews/{name}.jpg"}


def summary(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


RECORDS = {"summary.csv", "run.json"}


def moved(names: set[str]) -> set[str]:
    return {f"earlier/{name}" for name in names}


# --- an image that fails after it was done before ------------------------------------------------


def test_files_of_an_earlier_run_are_set_aside_when_the_image_fails_now(images, out, job):
    detect_images(images[:2], out, job)
    before = (out / "nuclei" / "a.geojson.gz").read_bytes()
    images[0].write_bytes(b"no image any more")
    outcomes = detect_images(images[:2], out, job)
    assert [one.status for one in outcomes] == ["failed", "done"]
    assert files(out) == of_image("b") | RECORDS | moved(of_image("a") | RECORDS)
    assert (out / "earlier" / "nuclei" / "a.geojson.gz").read_bytes() == before
    rows = summary(out)
    assert rows["a.tif"]["files"] == "an earlier run, in earlier"
    assert "a.tif" in rows["a.tif"]["problem"]
    assert (rows["b.tif"]["files"], rows["b.tif"]["problem"]) == ("this run", "")


def test_once_the_image_succeeds_nothing_old_is_left(images, out, job):
    good = images[0].read_bytes()
    for content in (good, b"broken", b"broken still", good):
        images[0].write_bytes(content)
        detect_images(images[:1], out, job)
    assert files(out) == of_image("a") | RECORDS
    assert not (out / "earlier").exists()


def test_an_image_that_fails_twice_keeps_the_record_of_the_run_that_did_it(images, out, job):
    detect_images(images[:2], out, job)
    record = (out / "run.json").read_bytes()
    images[0].write_bytes(b"no image any more")
    for some in (images[:2], images[:2], images[1:2]):
        detect_images(some, out, job)
        assert moved(of_image("a") | RECORDS) <= files(out)
        assert (out / "earlier" / "run.json").read_bytes() == record
    assert files(out) == of_image("b") | RECORDS | moved(of_image("a") | RECORDS)


def test_images_done_one_by_one_into_a_folder_all_keep_their_record(images, out, job):
    for one in images:
        detect_images([one], out, job)
    assert set(summary(out)) == {"c.tif"}, "a record tells about one run"
    assert summary(out / "earlier").keys() == {"a.tif"}
    second = json.loads((out / "earlier" / "run.2.json").read_text(encoding="utf-8"))
    assert [os.path.basename(one["path"]) for one in second["images"]] == ["b.tif"]
    detect_images(images[1:2], out, job)
    left = {"summary.csv", "run.json", "summary.3.csv", "run.3.json"}
    assert files(out / "earlier") == left, "what tells about no file any more is gone"
    detect_images(images, out, job)
    assert not (out / "earlier").exists()


def test_shards_of_an_earlier_run_are_set_aside_together(images, out, job):
    sharded = Engine.start(load_settings(None, {"output": {"shard": 5}}))
    detect_images(images[:1], out, Job(sharded, Scope(), 0.25))
    shards = files(out / "nuclei")
    assert len(shards) > 1
    images[0].unlink()
    detect_images(images[:1], out, job)
    assert files(out / "earlier" / "nuclei") == shards
    assert not files(out / "nuclei")


# --- a run that ends too early -------------------------------------------------------------------


def test_an_interruption_while_a_run_tidies_up_leaves_no_part_of_a_file(
    images, out, job, monkeypatch
):
    remove, calls = shutil.rmtree, []

    def interrupted_once(path, **options):
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        detect_images(images, out, job)
    assert calls[0] in calls[1:], "what was not removed at first is removed at last"
    assert not list(out.rglob("*.part"))


def full_disk(monkeypatch, name: str) -> None:
    """Let no file of an image be written, as on a full disk."""
    real = nucliseg_qp.detect._write_image

    def write(analysis, stem, *rest) -> None:
        if stem == name:
            raise OutputError("the disk is full", "Free some space.")
        real(analysis, stem, *rest)

    monkeypatch.setattr(nucliseg_qp.detect, "_write_image", write)


def test_a_full_disk_in_the_middle_keeps_what_is_done_and_tells_about_it(
    images, out, job, monkeypatch
):
    detect_images(images[2:], out, job)
    full_disk(monkeypatch, "b")
    with pytest.raises(OutputError, match=r"disk is full; 1 of 3 .* summary.csv and run.json"):
        detect_images(images, out, job)
    rows = summary(out)
    assert [row["status"] for row in rows.values()] == ["done", "failed", "skipped"]
    assert [row["files"] for row in rows.values()] == ["this run", "none", "an earlier run"]
    assert "disk is full" in rows["b.tif"]["problem"]
    assert rows["c.tif"]["nuclei"] == ""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert [one["status"] for one in record["images"]] == ["done", "failed", "skipped"]
    assert of_image("a") | of_image("c") <= files(out)


def test_records_go_elsewhere_when_the_folder_takes_nothing(
    images, out, job, monkeypatch, tmp_path
):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    real = nucliseg_qp.detect.write_summary

    def write(path, rows) -> None:
        if path.parent == out:
            raise OutputError("the disk is full", "Free some space.")
        real(path, rows)

    monkeypatch.setattr(nucliseg_qp.detect, "write_summary", write)
    with pytest.raises(OutputError, match=r"1 of 1 images are written.*spare"):
        detect_images(images[:1], out, job)
    [place] = spare.glob("*")
    assert summary(place)["a.tif"]["status"] == "done"
    assert of_image("a") <= files(out)


def test_a_result_takes_the_place_of_the_old_one_only_once_it_is_on_the_disk(tmp_path, monkeypatch):
    (tmp_path / "numbers.json").write_text("old")

    def full(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space"), whole_file(tmp_path / "numbers.json") as new:
        new.write_text("new")
    assert (tmp_path / "numbers.json").read_text() == "old"
    assert files(tmp_path) == {"numbers.json"}


def test_an_interrupted_run_leaves_a_summary_of_what_is_done(images, out, job):
    class Impatient(SilentWatcher):
        def finished(self, outcome: ImageOutcome) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_images(images, out, job, Impatient())
    statuses = [row["status"] for row in summary(out).values()]
    assert statuses == ["done", "failed", "skipped"], "an image that was told as done is lost"


@pytest.mark.parametrize("stop", [OutputError("the disk is full", "Free it."), KeyboardInterrupt()])
def test_images_that_are_done_reach_the_project_when_the_run_ends_at_a_later_one(
    images, tmp_path, job, monkeypatch, stop
):
    real = nucliseg_qp.annotate.save_parts

    def save(folder, stem, parts):
        if stem == "b":
            raise stop
        return real(folder, stem, parts)

    monkeypatch.setattr(nucliseg_qp.annotate, "save_parts", save)
    with pytest.raises(type(stop)):
        annotate_images(images, tmp_path / "project", job, "files")
    project = json.loads((tmp_path / "project" / "project.qpproj").read_text(encoding="utf-8"))
    assert [one["imageName"] for one in project["images"]] == ["a.tif"]


def test_one_image_qupath_breaks_down_over_costs_no_other(images, tmp_path, job, monkeypatch):
    """Java ends for all images of a process, however long their analysis took."""
    real = nucliseg_qp.annotate.write_files

    def write(root, results, colours):
        if any(one.image_path == images[1] for one in results):
            raise QuPathError(
                "QuPath's process ended with 1: out of memory", "Set PAQUO_JAVA_OPTS."
            )
        return real(root, results, colours)

    monkeypatch.setattr(nucliseg_qp.annotate, "write_files", write)
    outcomes = annotate_images(images, tmp_path / "project", job, "files")
    assert [one.status for one in outcomes] == ["done", "failed", "done"]
    assert (outcomes[1].exit_code, "PAQUO_JAVA_OPTS" in outcomes[1].problem) == (5, True)
    project = json.loads((tmp_path / "project" / "project.qpproj").read_text())
    assert [entry["imageName"] for entry in project["images"]] == ["a.tif", "c.tif"]


def test_a_project_lists_the_images_whose_nuclei_found_room(images, tmp_path, job, monkeypatch):
    real = nucliseg_qp.qupath.files.write_manifest

    def write(folder, entry_id, *rest) -> None:
        if entry_id == 3:
            raise OutputError("the disk is full", "Free some space.")
        real(folder, entry_id, *rest)

    monkeypatch.setattr(nucliseg_qp.qupath.files, "write_manifest", write)
    with pytest.raises(OutputError, match="disk is full"):
        annotate_images(images, tmp_path / "project", job, "files")
    project = json.loads((tmp_path / "project" / "project.qpproj").read_text(encoding="utf-8"))
    assert [one["imageName"] for one in project["images"]] == ["a.tif", "b.tif"]


def test_an_error_names_the_place_of_the_file_not_where_it_was_being_made(
    images, out, job, monkeypatch
):
    def save(_preview, path) -> None:
        raise OutputError(f"{path} cannot be written", "Free some space.")

    monkeypatch.setattr(nucliseg_qp.detect.Preview, "save", save)
    with pytest.raises(OutputError, match=f"^{out}/previews/a.jpg cannot be written"):
        detect_images(images[:1], out, job)


def test_a_pipe_given_as_an_image_does_not_keep_the_run_waiting(tmp_path, out, job):
    os.mkfifo(tmp_path / "pipe.tif")
    [outcome] = detect_images([tmp_path / "pipe.tif"], out, job)
    assert "pipe" in outcome.problem


def test_links_that_lead_in_a_circle_are_one_failed_image(tmp_path, out, job):
    (tmp_path / "circle.tif").symlink_to("circle.tif")
    [outcome] = detect_images([tmp_path / "circle.tif"], out, job)
    assert (outcome.status, outcome.exit_code) == ("failed", 3)


# --- places that belong to somebody else ---------------------------------------------------------


def test_a_project_is_not_written_into_a_folder_of_something_else(images, tmp_path, job):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").touch()
    with pytest.raises(OutputError, match=r"not empty \(letter.txt\)"):
        annotate_images(images[:1], tmp_path / "theirs", job, "files")
    assert files(tmp_path / "theirs") == {"letter.txt"}


def test_a_project_goes_into_what_a_killed_run_left_of_it(images, tmp_path, job):
    annotate_images(images[:1], tmp_path / "p", job, "files")
    (tmp_path / "p" / "project.qpproj").unlink()
    (tmp_path / "p" / ".DS_Store").touch()
    assert annotate_images(images[:1], tmp_path / "p", job, "files")[0].status == "done"


def test_two_runs_do_not_write_into_one_folder(images, out, job):
    with claimed(OutputFolder(out).lock), pytest.raises(OutputError, match="another nucliseg-qp"):
        detect_images(images[:1], out, job)
    assert not files(out)
    assert detect_images(images[:1], out, job)[0].status == "done"


def test_two_runs_do_not_write_into_one_project(images, tmp_path, job):
    lock = tmp_path / "p" / "nucliseg" / ".run.lock"
    with locked(lock), pytest.raises(QuPathError, match="another nucliseg-qp"):
        annotate_images(images[:1], tmp_path / "p", job, "files")


# --- what a killed run leaves --------------------------------------------------------------------


def test_half_written_files_of_a_killed_run_are_removed_by_the_next(images, out, job):
    for folder in (out, out / "nuclei", out / "tables"):
        folder.mkdir(exist_ok=True)
        (folder / ".1a2b3c4d.999999.part").write_bytes(b"half")
    (out / ".0a2b3c4d.999999.part" / "nuclei").mkdir(parents=True)
    mine = out / ".notes.part"
    mine.touch()
    detect_images(images[:1], out, job)
    assert [one.name for one in out.rglob("*.part")] == [mine.name]


def test_half_written_files_stay_where_nobody_can_tell_whose_they_are(
    images, out, job, monkeypatch
):
    """A file system without locks: another run may be writing them."""

    def no_locks(_file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("nucliseg_qp.qupath.lock._take", no_locks)
    out.mkdir()
    with whole_file(out / "other.txt") as partial:
        partial.touch()
        assert detect_images(images[:1], out, job)[0].status == "done"
        assert partial.exists()
    with pytest.raises(QuPathError, match="cannot be locked"), locked(out / "lock"):
        pass
