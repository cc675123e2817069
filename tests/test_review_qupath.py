"""Reviews through the real QuPath: collected exactly, applied without touching a decision."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from project_samples import make_project

from nucliseg_qp import cli
from nucliseg_qp.palette.user import FOLDER_VARIABLE
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.review.collect import collect
from nucliseg_qp.review.folder import read_review
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.slides import write_slide

pytestmark = pytest.mark.qupath

EDIT = """
import qupath.lib.objects.PathObjects
import qupath.lib.roi.ROIs
import qupath.lib.regions.ImagePlane
import qupath.lib.objects.classes.PathClass

def hierarchy = getCurrentHierarchy()
def plane = ImagePlane.getDefaultPlane()
def far = hierarchy.getDetectionObjects().findAll { it.getROI().getCentroidX() > 140 }
    .sort { it.getID().toString() }
def told = []
def tell = { what, it -> told << what + ' ' + it.getID() }
far[0..2].each {
    def other = it.getPathClass().toString() == 'Positive' ? 'Negative' : 'Positive'
    it.setPathClass(PathClass.fromString(other))
    tell('reclassified', it)
}
far[3].setLocked(true); tell('confirmed', far[3])
def roi = far[4].getROI()
far[4].setROI(ROIs.createEllipseROI(roi.getBoundsX(), roi.getBoundsY(), 30, 30, plane))
tell('redrawn', far[4])
far[4].getMeasurementList().clear()
far[5..6].each { tell('deleted', it) }
hierarchy.removeObjects(far[5..6], true)
def circle = ROIs.createEllipseROI(200, 200, 20, 20, plane)
def drawn = PathObjects.createDetectionObject(circle, PathClass.fromString('Positive'))
hierarchy.addObject(drawn); tell('added', drawn)
def area = PathObjects.createAnnotationObject(ROIs.createRectangleROI(0, 0, 100, 256, plane))
area.setName('Reviewed')
hierarchy.addObject(area)
def near = hierarchy.getDetectionObjects().findAll { it.getROI().getCentroidX() <= 100 }
near.each { tell('confirmed', it) }
new File('TOLD').text = told.join('\\n')
"""

ALL_POSITIVE = """rule = "optical-density"
[[class]]
name = "Negative"
color = [112, 112, 225]
[[class]]
name = "3+"
color = [250, 62, 62]
from = -9.0
"""


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    root = make_project(tmp_path_factory.mktemp("review"), 1)
    assert cli.run(["annotate", str(root)]) == 0
    return root


@pytest.fixture
def edited(annotated, tmp_path, qupath_probe, monkeypatch):
    """Give a copy in which somebody corrected, and what was done to which nucleus."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "palettes"))
    root = shutil.copytree(annotated, tmp_path / "copy, ö")
    told = tmp_path / "told.txt"
    answer = qupath_probe.run_script(root, EDIT.replace("TOLD", str(told)))
    assert answer["problems"] == []
    pairs = [line.split() for line in told.read_text().splitlines()]
    return root, {id_: what for what, id_ in pairs}


def detections(probe, root):
    return {one["id"]: one for one in probe.project(root)["images"][0]["detections"]}


def test_corrections_are_collected_exactly(edited, tmp_path, qupath_probe):
    root, done = edited
    found = collect(root, tmp_path / "review", reviewer="Anna")
    [image] = read_review(tmp_path / "review").images
    assert dict(zip(image.ids, image.change.tolist(), strict=True)) == done
    assert image.counts == Counter(done.values())
    assert len(image.areas) == 1
    assert found.looked_at == len(done)
    here = detections(qupath_probe, root)
    for id_, change, now in zip(image.ids, image.change, image.class_now, strict=True):
        assert change == "deleted" or now == here[id_]["class"]
    row = image.change.tolist().index("reclassified")
    stored = here[image.ids[row]]["measurements"]
    for name, column in image.measurements.items():
        assert column[row] == pytest.approx(stored[name], rel=1e-6)
    open_ids = {one.id for one in image.open}
    assert open_ids == {
        id_
        for id_, one in here.items()
        if id_ not in done and "NucliSeg: Hue" in one["measurements"]
    }


def test_a_new_run_keeps_what_was_looked_at_and_left_and_renews_the_rest(
    edited, tmp_path, qupath_probe
):
    root, done = edited
    before = detections(qupath_probe, root)
    palette = tmp_path / "strict.toml"
    palette.write_text(ALL_POSITIVE)
    # Another threshold finds further nuclei: in a reviewed area there are none.
    again = ["annotate", str(root), "--again", "-p", str(palette), "--threshold", "0.2"]
    assert cli.run(again) == 0
    after = detections(qupath_probe, root)
    assert done.keys() & before.keys() <= after.keys()
    assert not {id_ for id_, what in done.items() if what == "deleted"} & after.keys()
    for id_, one in after.items():
        if id_ in done:
            assert one == before[id_]
        else:
            assert one["class"] == "3+"
    assert len(after.keys() - done.keys()) >= 5
    collect(root, tmp_path / "again")
    [image] = read_review(tmp_path / "again").images
    assert dict(zip(image.ids, image.change.tolist(), strict=True)) == done


def test_another_palette_reaches_every_nucleus_but_those_somebody_decided_about(
    edited, tmp_path, qupath_probe
):
    root, done = edited
    before = detections(qupath_probe, root)
    palette = tmp_path / "strict.toml"
    palette.write_text(ALL_POSITIVE)
    assert cli.run(["review", "apply", str(root), "--palette", str(palette)]) == 0
    after = detections(qupath_probe, root)
    assert after.keys() == before.keys()
    for id_, one in after.items():
        assert one["class"] == (before[id_]["class"] if id_ in done else "3+")
        assert one["locked"] == before[id_]["locked"]
    collect(root, tmp_path / "again")
    [image] = read_review(tmp_path / "again").images
    assert dict(zip(image.ids, image.change.tolist(), strict=True)) == done


def test_reclassifying_fails_by_name_where_an_image_cannot_be_read(edited, capsys):
    root, _ = edited
    path = root / "data" / "1" / "data.qpdata"
    path.write_bytes(path.read_bytes()[:-9])
    assert cli.run(["review", "apply", str(root), "--palette", "hsv"]) == 1
    assert "damaged" in capsys.readouterr().err


# ---- a scanner whose colours the shipped palette mistakes ---------------------------------------

CORRECT = """
import qupath.lib.objects.classes.PathClass

def wanted = new com.google.gson.Gson().fromJson(new File('WANTED').getText('UTF-8'), Map)
getDetectionObjects().each {
    def name = wanted[it.getID().toString()]
    if (name != null && it.getPathClass().toString() == name)
        it.setLocked(true)
    else if (name != null)
        it.setPathClass(PathClass.fromString(name))
}
"""
FAR_TOO_YELLOW = (1.0, 0.9, 0.72)


def yellow_project(home):
    """Make a project of two slides of a scanner that is far too yellow, and give their truth."""
    import tifffile

    root = home / "shifted"
    root.mkdir()
    project, truths = ProjectFile(ProjectFolder(root)), []
    for number in range(2):
        path = home / f"{number}.ome.tif"
        truths.append(write_slide(path, 640, 640, 0.25, number, 400.0))
        rgb = (tifffile.imread(path) * np.array(FAR_TOO_YELLOW)).astype(np.uint8)
        sizes = {f"PhysicalSize{axis}": 0.25 for axis in "XY"}
        units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
        about = {"axes": "YXS", **sizes, **units}
        tifffile.imwrite(path, rgb, ome=True, photometric="rgb", metadata=about)
        project.add(path)
    project.save()
    return root, truths


def named(probe, root, truths):
    """Give the class of each nucleus in the project, as paquo reads it, and the true one."""
    told, true = {}, {}
    for image, truth in zip(probe.read_back(root)["images"], truths, strict=True):
        found = image["detections"]
        places = np.array([[one["x"], one["y"]] for one in found])
        for mine, theirs in match_points(truth.points, places, 12.0).tolist():
            told[found[theirs]["id"]] = found[theirs]["class"]
            true[found[theirs]["id"]] = "Positive" if truth.classes[mine] else "Negative"
    return told, true


def test_sixty_corrected_nuclei_mend_a_project_of_a_shifted_scanner(
    tmp_path, qupath_probe, monkeypatch
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "palettes"))
    root, truths = yellow_project(tmp_path)
    assert cli.run(["annotate", str(root)]) == 0
    told, true = named(qupath_probe, root, truths)
    assert np.mean([told[id_] == true[id_] for id_ in told]) < 0.8

    corrected = np.random.default_rng(5).permutation(sorted(told))[:60].tolist()
    wanted = tmp_path / "wanted.json"
    wanted.write_text(json.dumps({id_: true[id_] for id_ in corrected}))
    answer = qupath_probe.run_script(root, CORRECT.replace("WANTED", str(wanted)))
    assert answer["problems"] == []
    review, verbs = str(tmp_path / "review"), ("collect", "calibrate", "apply")
    options = (
        [str(root), "-o", review],
        [review, "--name", "yellow scanner"],
        [str(root), "--palette", "yellow scanner"],
    )
    for verb, given in zip(verbs, options, strict=True):
        assert cli.run(["review", verb, *given]) == 0
    assert read_review(tmp_path / "review").looked_at == 60

    after, _ = named(qupath_probe, root, truths)
    assert after.keys() == told.keys()
    assert [after[id_] for id_ in corrected] == [true[id_] for id_ in corrected]
    others = after.keys() - set(corrected)
    assert np.mean([after[id_] == true[id_] for id_ in others]) > 0.95
