"""Whole projects through the real QuPath: finished in the morning, nobody's work lost."""

# ruff: noqa: E501 - Groovy and JavaScript in long lines

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from project_samples import ODD_NAME, add_view, files, make_project, numbers, state, statuses

from nucliseg_qp import cli
from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.projects import run as project_run
from nucliseg_qp.qupath.held import EntryResult, Parent
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.worker import QuPathWorker

pytestmark = pytest.mark.qupath

SLOW_KILLS = pytest.param(60, 10, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


def annotate(root: Path, *options: str) -> int:
    return cli.run(["annotate", str(root), *options])


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Give a project of six slides that nobody has worked on; copies share the images."""
    return make_project(tmp_path_factory.mktemp("six"), 6)


@pytest.fixture(scope="module")
def annotated(pristine):
    """Give the same, annotated."""
    root = pristine.with_name("annotated, é")
    shutil.copytree(pristine, root)
    assert annotate(root) == 0
    return root


@pytest.fixture
def project(annotated, tmp_path):
    """Give a copy of the annotated project to change."""
    return shutil.copytree(annotated, tmp_path / "copy's, ö")


@pytest.fixture
def fresh(pristine, tmp_path):
    """Give a copy of the project that nobody has worked on."""
    return shutil.copytree(pristine, tmp_path / "fresh")


# ---- a batch that finishes ----------------------------------------------------------------------


def start(root: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "nucliseg_qp", "annotate", str(root), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def lines(root: Path) -> int:
    path = ProjectFolder(root).journal
    return path.read_bytes().count(b'"status":"done"') if path.exists() else 0


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def killed(root: Path, after: int, delay_seconds: float, *, java_too: bool) -> None:
    """Kill a run some time after so many images are done."""
    process = start(root)
    while lines(root) < after and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay_seconds)
    victims = [process.pid, *(children(process.pid) if java_too else [])]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
@pytest.mark.parametrize(("images", "kills"), [(8, 3), SLOW_KILLS])
def test_a_run_killed_again_and_again_gives_what_one_gives_that_was_not(
    qupath_probe, tmp_path, images, kills
):
    whole = make_project(tmp_path, images)
    broken = shutil.copytree(whole, tmp_path / "killed")
    assert annotate(whole) == 0
    chance = random.Random(4)
    for number in range(kills):
        after = (number + 1) * images // (kills + 1)
        delay = chance.choice([0.0, 0.05, 0.1, 0.2, 0.4, 0.8]) * chance.random()
        killed(broken, after, delay, java_too=number % 2 == 0)
    assert lines(broken) < 2 * images
    assert annotate(broken) == 0
    found, expected = state(qupath_probe, broken), state(qupath_probe, whole)
    for image, other in zip(found["images"], expected["images"], strict=True):
        for what, value in image.items():
            assert value == other[what], (image["name"], what)
    assert found["classes"] == expected["classes"]
    assert files(broken) == files(whole), "no leftovers"
    assert statuses(broken) == ["done"] * images


def test_what_is_done_is_not_done_again_unless_asked(project, capsys, monkeypatch):
    before = [path.stat().st_mtime_ns for path in sorted(project.glob("data/*/data.qpdata"))]
    monkeypatch.setattr(project_run, "analyse", None)
    assert annotate(project) == 0
    assert [p.stat().st_mtime_ns for p in sorted(project.glob("data/*/data.qpdata"))] == before
    assert "6 of 6 images were done before" in capsys.readouterr().err
    monkeypatch.undo()
    assert annotate(project, "--again", "--image", "#2") == 0
    assert "replaced" in capsys.readouterr().err


def test_a_copy_is_known_to_be_done_and_what_somebody_saved_in_it_is_looked_at(
    qupath_probe, annotated, tmp_path, monkeypatch
):
    root, looked_at = tmp_path / "copy", []
    shutil.copytree(annotated, root, copy_function=shutil.copyfile)
    read = QuPathWorker.read
    monkeypatch.setattr(
        QuPathWorker, "read", lambda self, number: looked_at.append(number) or read(self, number)
    )
    assert annotate(root) == 0
    assert looked_at == [], "known without opening an image"
    qupath_probe.run_script(root, SAVE)
    warning = "was saved after its nuclei were counted"
    assert cli.run(["report", str(root)]) == 0
    page = ProjectFolder(root).report("report.html")
    assert warning in page.read_text(encoding="utf-8")
    assert annotate(root) == 0
    assert 1 in looked_at
    classes = [one["class_name"] for one in numbers(root, 1)["areas"]]
    assert "Mine" in classes, "the annotation that somebody drew is counted"
    assert warning not in page.read_text(encoding="utf-8")


def test_a_tile_that_cannot_be_read_is_all_that_is_tried_again(tmp_path, monkeypatch):
    from nucliseg_qp import work
    from nucliseg_qp.errors import InputError

    root = make_project(tmp_path, 1, 640)
    read, asked = work.read_crop, []

    def damaged(slide, tile, grid):
        asked.append(tile.core)
        if (tile.core.x_px, tile.core.y_px) == (256, 0) and len(asked) < 100:
            raise InputError("damaged there")
        return read(slide, tile, grid)

    monkeypatch.setattr(work, "read_crop", damaged)
    assert annotate(root, "--tile-size", "128") == 1
    assert (statuses(root), numbers(root, 1)["status"]) == (["incomplete"], "incomplete")
    csv = ProjectFolder(root).report("images.csv").read_text().splitlines()
    values = csv[1].replace(ODD_NAME.format(0), "x").split(",")
    row = dict(zip(csv[0].split(","), values, strict=False))
    assert row["Positive %"] == "", "an incomplete image has no score"
    tiles = len(asked)
    asked[:] = [None] * 100
    assert annotate(root, "--tile-size", "128") == 0
    assert [(core.x_px, core.y_px) for core in asked[100:]] == [(256, 0)]
    assert tiles > 4
    assert statuses(root) == ["done"]
    assert not (root / "nucliseg" / "work").exists()


def test_two_runs_exclude_each_other_and_a_killed_one_leaves_no_lock(fresh, capsys):
    process = start(fresh)
    while not lines(fresh):
        time.sleep(0.01)
        assert process.poll() is None
    assert annotate(fresh) == 5
    assert "another nucliseg-qp works on this project" in capsys.readouterr().err
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, process.stderr.read()
    process.stderr.close()
    assert annotate(fresh) == 0
    assert statuses(fresh) == ["done"] * 6


# ---- the user's work ----------------------------------------------------------------------------

BY_HAND = """
def nuclei = getDetectionObjects().sort { it.getID().toString() }
def other = { it.getPathClass() == getPathClass('Positive') ? 'Negative' : 'Positive' }
nuclei[0..<40].each { it.setPathClass(getPathClass(other(it))) }
removeObjects(nuclei[40..<65], true)
nuclei[65..<75].each { it.setLocked(true) }
def plane = ImagePlane.getDefaultPlane()
nuclei[75..<80].each { it.setROI(it.getROI().translate(3, 2)) }
def mine = (0..<15).collect {
    PathObjects.createDetectionObject(ROIs.createEllipseROI(20 + 40 * it, 5, 9, 9, plane), getPathClass('Positive'))
}
addObjects(mine)
return [nuclei[0..<40], nuclei[40..<65], nuclei[65..<75], nuclei[75..<80], mine]
    .collect { list -> list.collect { it.getID().toString() }.join(' ') }.join(';')
"""


@pytest.fixture(scope="module")
def edited(qupath_probe, tmp_path_factory):
    """Give a project whose nuclei somebody worked on, and which ones."""
    root = make_project(tmp_path_factory.mktemp("edited"), 1, 1024)
    assert annotate(root) == 0
    [result] = qupath_probe.run_script(root, BY_HAND)["results"]
    return root, [one.split() for one in result.split(";")]


def test_a_run_with_other_settings_leaves_all_that_people_did(qupath_probe, edited, tmp_path):
    root, (reclassified, deleted, locked, moved, drawn) = edited
    root = shutil.copytree(root, tmp_path / "p")
    before = {item["id"]: item for item in qupath_probe.project(root)["images"][0]["detections"]}
    assert annotate(root, "--threshold", "0.3", "--masks.otsu-offset", "12") == 0
    after = {item["id"]: item for item in qupath_probe.project(root)["images"][0]["detections"]}
    for one in [*reclassified, *locked, *moved, *drawn]:
        kept = {k: v for k, v in before[one].items() if k != "parent"}
        assert {k: v for k, v in after[one].items() if k != "parent"} == kept
    assert not after.keys() & set(deleted)
    report = numbers(root, 1)["report"]
    counted = [report[k] for k in ("reclassified", "deleted", "locked", "moved", "drawn")]
    assert counted == [40, 25, 10, 5, 15]
    assert report["replaced"] > 100, "what nobody touched was renewed"
    assert len(after) == report["added"] + 40 + 10 + 5 + 15


def test_all_is_replaced_only_after_a_yes(qupath_probe, edited, tmp_path, capsys):
    root, hands = edited
    root = shutil.copytree(root, tmp_path / "p")
    data = (root / "data" / "1" / "data.qpdata").read_bytes()
    assert annotate(root, "--dry-run", "--threshold", "0.3") == 0
    plan = capsys.readouterr().out.splitlines()[-1].split()
    assert plan[-1] == "95", "kept by hand"
    assert annotate(root, "--replace-all") == 2
    assert "95 nuclei" in capsys.readouterr().err
    assert (root / "data" / "1" / "data.qpdata").read_bytes() == data
    assert annotate(root, "--replace-all", "--yes") == 0
    found = {item["id"]: item for item in qupath_probe.project(root)["images"][0]["detections"]}
    assert found.keys() >= set(hands[1]), "the deleted are back"
    assert not found.keys() & set(hands[4]), "the added are gone"
    assert numbers(root, 1)["report"]["kept"] == 0


def test_nothing_is_asked_where_nothing_is_lost(project, capsys):
    assert annotate(project, "--replace-all", "--image", "#1") == 0
    assert "loses" not in capsys.readouterr().err
    assert numbers(project, 1)["report"]["replaced"] > 0


SAVE = """
if (getProjectEntry().getID() == '1')
    addObject(PathObjects.createAnnotationObject(ROIs.createRectangleROI(9, 9, 50, 50,
        ImagePlane.getDefaultPlane()), getPathClass('Mine')))
"""


def test_what_somebody_saves_meanwhile_stays_and_ours_waits(
    qupath_probe, project, monkeypatch, capsys
):
    analyse = project_run.analyse

    def slow(opened, *rest):
        found = analyse(opened, *rest)
        qupath_probe.run_script(project, SAVE)
        return found

    monkeypatch.setattr(project_run, "analyse", slow)
    assert annotate(project, "--threshold", "0.2", "--image", "#1") == 5
    assert "their work is untouched" in capsys.readouterr().err.lower()
    assert statuses(project)[0] == "staged"
    staged = ProjectFolder(project).staged(1)
    assert "apply-staged" in (staged / "NOTE.txt").read_text()
    ours = len(qupath_probe.read_objects(staged / "nuclei.geojson.gz")["objects"]) - 1
    monkeypatch.undo()
    classes = [one["class"] for one in qupath_probe.project(project)["images"][0]["annotations"]]
    assert "Mine" in classes
    assert annotate(project, "--apply-staged") == 0
    image = qupath_probe.project(project)["images"][0]
    assert "Mine" in [one["class"] for one in image["annotations"]]
    assert len(image["detections"]) == ours
    assert statuses(project)[0] == "done"
    assert not staged.exists()


def test_damaged_images_stay_as_they_are_and_the_others_are_done(project, capsys):
    data = [project / "data" / str(k) / "data.qpdata" for k in range(1, 7)]
    whole = data[1].read_bytes()
    data[0].write_bytes(b"")
    data[1].write_bytes(whole[: len(whole) // 2])
    middle = bytearray(data[2].read_bytes())
    middle[200:4000] = bytes(3800)
    data[2].write_bytes(middle)
    data[3].with_name("data.qpdata.bkp").write_bytes(whole)
    content = json.loads((project / "project.qpproj").read_text())
    uri = content["images"][4]["serverBuilder"]["uri"]
    content["images"][4]["serverBuilder"]["uri"] = uri.replace("bilder", "moved")
    (project / "project.qpproj").write_text(json.dumps(content))
    before = [path.read_bytes() for path in data[:5]]
    assert annotate(project, "--threshold", "0.2") == 1
    assert [path.read_bytes() for path in data[:5]] == before
    assert statuses(project) == ["failed"] * 5 + ["done"]
    told = capsys.readouterr().err
    assert told.count("error:") == 5
    assert "relink" in told
    assert "could not be read" in told
    assert "interrupted save" in told


def test_a_damaged_image_keeps_no_other_from_being_counted_and_collected(
    qupath_probe, project, tmp_path, capsys
):
    qupath_probe.run_script(project, SAVE)
    data = project / "data" / "2" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-40])
    before = numbers(project, 2)
    assert cli.run(["report", str(project), "--refresh", "--json"]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert "data.qpdata is damaged" in problem
    assert numbers(project, 2) == before
    assert "Mine" in [one["class_name"] for one in numbers(project, 1)["areas"]]
    out = tmp_path / "review"
    assert cli.run(["review", "collect", str(project), "-o", str(out), "--image", "#2"]) == 5
    some = ["--image", "#1", "--image", "#2"]
    assert cli.run(["review", "collect", str(project), "-o", str(out), *some]) == 1
    review = json.loads((out / "review.json").read_text())
    assert [one["entry"] for one in review["images"]] == ["1"]
    assert "data.qpdata is damaged" in review["notes"][-1]


def test_numbers_are_not_counted_again_while_a_run_works(project, capsys):
    with locked(ProjectFolder(project).run_lock):
        assert cli.run(["report", str(project), "--refresh"]) == 5
    assert "another nucliseg-qp works on this project" in capsys.readouterr().err


def test_a_scope_that_no_image_has_loses_nothing(project, monkeypatch, capsys):
    before = [numbers(project, number) for number in range(1, 7)]
    assert annotate(project, "--scope", "class:Tumour") == 2
    assert "no chosen image has anything for --scope class:Tumour" in capsys.readouterr().err
    for number, old in enumerate(before, start=1):
        now = numbers(project, number)
        assert now["status"] == "skipped"
        for name in ("counts", "found", "digest", "run", "areas", "description", "data"):
            assert now[name] == old[name], name
    monkeypatch.setattr(project_run, "analyse", None)
    assert annotate(project) == 0, "what was done is still done"
    assert [numbers(project, number) for number in range(1, 7)] == before
    assert statuses(project) == ["done"] * 6


def test_an_image_that_fails_keeps_the_numbers_of_the_nuclei_it_holds(
    qupath_probe, project, monkeypatch
):
    before = numbers(project, 1)

    def broken(*_):
        raise QuPathError("Java is short of memory", "Give it more.")

    monkeypatch.setattr(project_run, "analyse", broken)
    assert annotate(project, "--threshold", "0.2", "--image", "#1") == 5
    monkeypatch.undo()
    now = numbers(project, 1)
    assert (now["status"], now["counts"], now["digest"]) == (
        "failed", before["counts"], before["digest"],
    )  # fmt: skip
    qupath_probe.run_script(project, "removeObjects(getDetectionObjects().take(7), true)")
    assert cli.run(["report", str(project), "--refresh"]) == 0
    held = sum(before["counts"].values()) - 7
    assert sum(numbers(project, 1)["counts"].values()) == held
    row = ProjectFolder(project).report("images.csv").read_text().splitlines()[1]
    assert row.partition(",1,")[2].startswith(f"failed,{held},")


def empty_result(worker: QuPathWorker) -> EntryResult:
    """Give what a run hands over for the first image, without nuclei."""
    held = worker.read(1)
    parent = Parent(held.areas[0].id, "x", held.areas[0].geometry)
    size = (held.width_px, held.height_px, 0.25, "QuPath", "x")
    return EntryResult(1, held.state, (parent,), (), "replace", (), *size)


def test_a_full_disk_leaves_the_old_state(project):
    data = project / "data" / "1"
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    with QuPathWorker(project) as worker:
        wanted = empty_result(worker)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (3000, 3000))
        with pytest.raises(OutputError, match="cannot be written"):
            worker.write(wanted)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert annotate(project, "--again", "--image", "#1") == 0


def test_a_java_that_dies_is_an_error_of_one_image(project):
    with QuPathWorker(project) as worker:
        worker.read(1)
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="process ended"):
            worker.read(2)
        assert worker.read(2).entry_id == 2, "the next question starts it anew"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_project_that_cannot_be_written_to_is_told_before_any_work(fresh, capsys):
    fresh.chmod(0o555)
    try:
        assert annotate(fresh) == 6
    finally:
        fresh.chmod(0o755)
    assert "cannot be written" in capsys.readouterr().err


def test_a_place_that_is_taken_is_told_before_any_work(fresh, capsys):
    (fresh / "nucliseg").write_text("a file")
    assert annotate(fresh) == 6
    assert "cannot be written" in capsys.readouterr().err
    assert statuses(fresh) == [""] * 6


# ---- places -------------------------------------------------------------------------------------

VIEWS = {
    "crop": {"builderType": "cropped",
             "region": {"x": 100, "y": 60, "width": 400, "height": 300, "z": 0, "t": 0}},
    "90": {"builderType": "rotated", "rotation": "ROTATE_90"},
    "180": {"builderType": "rotated", "rotation": "ROTATE_180"},
    "270": {"builderType": "rotated", "rotation": "ROTATE_270"},
    "flip x": {"builderType": "affine", "transform": {
        "m00": -1.0, "m10": 0.0, "m01": 0.0, "m11": 1.0, "m02": 640.0, "m12": 0.0}},
    "flip y": {"builderType": "affine", "transform": {
        "m00": 1.0, "m10": 0.0, "m01": 0.0, "m11": -1.0, "m02": 0.0, "m12": 640.0}},
    "turn by affine": {"builderType": "affine", "transform": {
        "m00": 0.0, "m10": 1.0, "m01": -1.0, "m11": 0.0, "m02": 640.0, "m12": 0.0}},
}  # fmt: skip
PLACES = {
    "crop": lambda x, y: (x - 100, y - 60),
    "90": lambda x, y: (640 - y, x),
    "180": lambda x, y: (640 - x, 640 - y),
    "270": lambda x, y: (y, 640 - x),
    "flip x": lambda x, y: (640 - x, y),
    "flip y": lambda x, y: (x, 640 - y),
    "turn by affine": lambda x, y: (640 - y, x),
}
PIXELS = """
def image = getCurrentServer().readRegion(1.0, 30, 50, 40, 24)
def values = (0..<24).collect { y -> (0..<40).collect { x -> image.getRGB(x, y) & 0xffffff } }.flatten()
return getProjectEntry().getImageName() + '|' + values.join(' ')
"""


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Give a project with a slide and views of it."""
    root = make_project(tmp_path_factory.mktemp("views"), 1, 640)
    for name, builder in VIEWS.items():
        add_view(root, name, **builder)
    return root


def test_views_have_the_pixels_that_qupath_shows(qupath_probe, views):
    from nucliseg_qp.qupath.builders import open_entry
    from nucliseg_qp.qupath.project_file import ProjectFile

    seen = {}
    for line in qupath_probe.run_script(views, PIXELS, save=False)["results"]:
        name, _, text = line.partition("|")
        packed = np.array(text.split(), np.int64).reshape(24, 40)
        seen[name] = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=2)
    project = ProjectFile(ProjectFolder(views))
    for entry in project.entries[1:]:
        size = (400, 300) if entry.name == "crop" else (640, 640)
        with open_entry(project.builder(entry.id), size, None, entry.name).slide as slide:
            ours = slide.read_level(0, 30, 50, 40, 24).astype(int)
        # Two JPEG decoders may differ by a few levels, a pixel's neighbour by many more.
        assert np.abs(ours - seen[entry.name]).mean() < 1.5, entry.name


CENTRES = """
return getProjectEntry().getImageName() + '|' + getDetectionObjects().collect {
    it.getROI().getCentroidX() + ' ' + it.getROI().getCentroidY() }.join(' ')
"""


def test_nuclei_of_views_lie_on_their_true_places(qupath_probe, views, tmp_path):
    root = shutil.copytree(views, tmp_path / "p")
    assert annotate(root) == 0
    found = {}
    for line in qupath_probe.run_script(root, CENTRES, save=False)["results"]:
        name, _, text = line.partition("|")
        found[name] = np.array(text.split(), float).reshape(-1, 2)
    plain = found.pop(ODD_NAME.format(0))
    assert len(plain) > 60
    for name, xy in found.items():
        true = np.stack(PLACES[name](*plain.T), axis=1)
        gap = true[:, None] - xy[None]
        nearest = np.hypot(*np.moveaxis(gap, 2, 0)).argmin(axis=1)
        moved = gap[np.arange(len(true)), nearest]
        inside = (true > 12).all(axis=1) & (true < np.array(xy.max(axis=0)) - 4).all(axis=1)
        near = np.hypot(*moved.T) < 3
        # The network is not quite the same on a mirror image, but nothing may be shifted.
        assert near[inside].mean() > 0.9, name
        assert np.abs(moved[near].mean(axis=0)).max() < 0.5, name
        assert np.median(np.hypot(*moved[near].T)) < 1, name


def test_a_slide_cut_to_its_scanned_part_has_the_places_of_qupath(qupath_probe, tmp_path):
    pytest.importorskip("openslide")
    import tifffile
    from test_images import PER_CM, SCN

    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.qupath.project_file import ProjectFile
    from nucliseg_qp.training.slides import write_slide

    write_slide(tmp_path / "a.ome.tif", 1024, 768, 0.25, 5, 300.0)
    with open_slide(tmp_path / "a.ome.tif") as slide:
        image, small = slide.read_level(0, 0, 0, 1024, 768), slide.thumbnail(256)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "b.scn", bigtiff=True) as writer:
        macro = np.full((256, 256, 3), 200, np.uint8)
        writer.write(macro, description=SCN.encode(), **options, **PER_CM)
        writer.write(image, **options, **PER_CM)
        writer.write(small, subfiletype=1, **options)
    project = ProjectFile(ProjectFolder(tmp_path / "p"))
    (tmp_path / "p").mkdir()
    project.add(tmp_path / "b.scn")
    project.add(tmp_path / "a.ome.tif")
    project.save()
    [line, plain] = qupath_probe.run_script(
        tmp_path / "p", "return getCurrentServer().getWidth()", save=False
    )["results"]
    if line != "1024":
        pytest.skip(f"this QuPath has no OpenSlide and sees {line} px")
    assert annotate(tmp_path / "p") == 0
    cut, plain = (
        np.array(line.partition("|")[2].split(), float).reshape(-1, 2)
        for line in qupath_probe.run_script(tmp_path / "p", CENTRES, save=False)["results"]
    )
    gap = np.hypot(*np.moveaxis(cut[:, None] - plain[None], 2, 0)).min(axis=1)
    assert np.median(gap) < 1
    assert (gap < 3).mean() > 0.9


def test_other_kinds_of_images_are_refused_by_name(fresh, capsys):
    half = {"m00": 0.5, "m10": 0.0, "m01": 0.0, "m11": 0.5, "m02": 0.0, "m12": 0.0}
    add_view(fresh, "half", builderType="affine", transform=half)
    sizes = {"tileWidth": 256, "tileHeight": 256, "downsamples": [1.0, 2.0]}
    add_view(fresh, "tiled", builderType="pyramidize", **sizes)
    assert annotate(fresh, "--image", "half", "--image", "tiled") == 5
    told = capsys.readouterr().err
    assert "half is scaled" in told
    assert "'pyramidize'" in told


# ---- scope, stains, numbers ---------------------------------------------------------------------

DRAW = """
def plane = ImagePlane.getDefaultPlane()
def draw = { roi, name, type ->
    def made = PathObjects.createAnnotationObject(roi, type == null ? null : getPathClass(type))
    made.setName(name)
    addObject(made)
}
draw(ROIs.createEllipseROI(40, 60, 400, 300, plane), 'big one', 'Tumor')
draw(ROIs.createRectangleROI(100, 100, 150, 120, plane), 'inner', 'Tumor')
draw(ROIs.createRectangleROI(500, 500, 400, 400, plane), 'hot spot', 'Stroma')
draw(ROIs.createRectangleROI(700, 20, 200, 200, plane), '', 'Ignore*')
setImageType('BRIGHTFIELD_H_DAB')
setColorDeconvolutionStains('{"Name": "mine", "Stain 1": "Hematoxylin", "Values 1": "0.70 0.65 0.29",' +
    '"Stain 2": "DAB", "Values 2": "0.30 0.55 0.78", "Background": "245 244 240"}')
"""

LAZY = """
import qupath.lib.lazy.objects.PathObjectLazyValues as Lazy
def data = getCurrentImageData()
def base = [null, getPathClass('Tumor')] as PathClass[]
def none = { 0d } as java.util.function.Supplier
def asked = [Lazy.createPositivePercentageMeasurement(data, base), Lazy.createHScoreMeasurement(data, base),
    Lazy.createAllredProportionMeasurement(data, none, base), Lazy.createAllredIntensityMeasurement(data, none, base),
    Lazy.createAllredMeasurement(data, none, base),
    Lazy.createDetectionClassDensityMeasurement(data, getPathClass('Positive'))]
return getAnnotationObjects().collect { one ->
    one.getID().toString() + ' ' + asked.collect { it.getValue(one) }.join(' ') }.join(';')
"""

FIFTY = """
def chance = new Random(7)
def plane = ImagePlane.getDefaultPlane()
def made = (0..<50).collect {
    int points = 3 + chance.nextInt(6)
    double x = 1024 * chance.nextDouble(), y = 1024 * chance.nextDouble(), r = 20 + 200 * chance.nextDouble()
    def roi = it % 3 == 0 ? ROIs.createEllipseROI(x - r, y - r, 2 * r, r, plane) :
        ROIs.createPolygonROI((0..<points).collect { k ->
            double angle = 2 * Math.PI * k / points, far = r * (0.4 + 0.6 * chance.nextDouble())
            new qupath.lib.geom.Point2(x + far * Math.cos(angle), y + far * Math.sin(angle)) }, plane)
    PathObjects.createAnnotationObject(roi)
}
addObjects(made)
def nuclei = getDetectionObjects()
nuclei.take(30).each { it.setPathClass(null) }
nuclei.drop(30).take(30).each { it.setPathClass(getPathClass('Tumor: 2+')) }
"""

COLUMNS = ("Positive %", "H-score", "Allred proportion", "Allred intensity", "Allred score",
           "Num Positive per mm^2")  # fmt: skip


@pytest.fixture(scope="module")
def drawn(qupath_probe, tmp_path_factory):
    """Give a project with annotations and stains of its own, annotated by class."""
    root = make_project(tmp_path_factory.mktemp("drawn"), 1, 1024)
    assert qupath_probe.run_script(root, DRAW)["problems"] == []
    assert annotate(root, "--scope", "class:Tumor", "--palette", "dab-intensity") == 0
    return root


def test_nuclei_go_under_the_annotation_they_lie_in(qupath_probe, drawn):
    [image] = qupath_probe.project(drawn)["images"]
    names = {one["id"]: one for one in image["annotations"]}
    by_name = {one["name"]: one for one in image["annotations"]}
    parents = {names[one["parent"]]["name"] for one in image["detections"]}
    assert parents == {"big one", "inner"}
    assert (by_name["big one"]["locked"], by_name["hot spot"]["locked"]) == (True, False)
    inner = [one for one in image["detections"] if names[one["parent"]]["name"] == "inner"]
    assert 5 < len(inner) < len(image["detections"]) / 2
    assert len(image["annotations"]) == 4, "nothing of ours is drawn around people's annotations"


def test_stains_are_those_that_qupath_holds(qupath_probe, drawn, tmp_path):
    held = numbers(drawn, 1)["description"]["stains"]
    assert held["background"] == [245, 244, 240]
    assert np.allclose(np.array(held["DAB"]) * np.linalg.norm([0.3, 0.55, 0.78]), [0.3, 0.55, 0.78])
    other = shutil.copytree(drawn, tmp_path / "p")
    reset = "setColorDeconvolutionStains(null as qupath.lib.color.ColorDeconvolutionStains)"
    code = reset.replace(
        "setColorDeconvolutionStains(", "getCurrentImageData().setColorDeconvolutionStains("
    )
    qupath_probe.run_script(other, code)
    before = {one["id"]: one for one in qupath_probe.project(drawn)["images"][0]["detections"]}
    assert annotate(other, "--scope", "class:Tumor", "--palette", "dab-intensity") == 0
    after = {one["id"]: one for one in qupath_probe.project(other)["images"][0]["detections"]}
    same = before.keys() & after.keys()
    name = "Nucleus: DAB OD mean"
    gap = [before[one]["measurements"][name] - after[one]["measurements"][name] for one in same]
    assert np.median(np.abs(gap)) > 0.01, "other stains, other densities"


def test_scores_of_fifty_annotations_are_those_of_qupath(qupath_probe, drawn, tmp_path):
    import pyarrow.parquet as pq

    root = shutil.copytree(drawn, tmp_path / "p")
    assert annotate(root, "--scope", "image", "--palette", "dab-intensity") == 0
    assert qupath_probe.run_script(root, FIFTY)["problems"] == []
    assert cli.run(["report", str(root), "--refresh"]) == 0
    [answer] = qupath_probe.run_script(root, LAZY, save=False)["results"]
    rows = pq.read_table(ProjectFolder(root).report("annotations.parquet")).to_pylist()
    counted = {one["id"]: one for one in numbers(root, 1)["areas"]}
    ours = {one["id"]: one for one in rows}
    from nucliseg_qp.quantify.scores import score_counts

    compared = 0
    for line in answer.split(";"):
        one, *values = line.split()
        known = counted[one]
        score = score_counts(known["counts"], known["area_mm2"])
        expected = [float(value) for value in values]
        found = [score.positive_percent, score.h_score, score.allred_proportion,
                 score.allred_intensity, score.allred_score, score.positive_per_mm2]  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-9, equal_nan=True)
        assert sum(known["counts"].values()) == ours[one]["nuclei"]
        compared += 1
    assert compared == 55
    assert sum(sum(one["counts"].values()) > 5 for one in counted.values()) > 30


# ---- again, and elsewhere -----------------------------------------------------------------------


def test_a_run_can_be_repeated_from_its_record(project, capsys):
    assert cli.run(["reproduce", str(project)]) == 0
    told = capsys.readouterr().out
    assert told.count("identical") == 6
    [record] = (project / "nucliseg" / "runs").iterdir()
    about = json.loads(record.read_text())
    about["settings"]["keypoints"]["threshold"] = 0.9
    record.write_text(json.dumps(about))
    assert cli.run(["reproduce", str(record)]) == 1
    assert "different" in capsys.readouterr().out


def test_a_moved_project_is_mended_and_goes_on(annotated, tmp_path, capsys):
    home = shutil.copytree(annotated.parent, tmp_path / "else, where")
    root = home / annotated.name
    hidden = annotated.parent.with_name("hidden")
    annotated.parent.rename(hidden)
    try:
        assert annotate(root, "--again", "--image", "#1") == 5
        assert "relink" in capsys.readouterr().err
        before = (root / "project.qpproj").read_bytes()
        assert cli.run(["relink", str(root), "--dry-run"]) == 0
        assert (root / "project.qpproj").read_bytes() == before
        assert capsys.readouterr().out.count("relative path") == 6
        assert cli.run(["relink", str(root)]) == 0
        # The first image failed meanwhile, the others are still known to be done.
        assert annotate(root) == 0
        assert "5 of 6 images were done before" in capsys.readouterr().err
        first = min((root / "nucliseg" / "runs").iterdir())
        (root / "nucliseg" / "results" / "2 (copy).json").write_text("{}")
        assert cli.run(["reproduce", str(first)]) == 0
        assert capsys.readouterr().out.count("identical") == 5, "found where they are now"
    finally:
        hidden.rename(annotated.parent)
