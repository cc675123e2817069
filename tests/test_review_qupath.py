"""Reviews through the real QuPath: collected exactly, applied without touching a decision."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from project_samples import make_project

from nucliseg_qp import cli
from nucliseg_qp.palette.user import FOLDER_VARIABLE
from nucliseg_qp.review.collect import collect
from nucliseg_qp.review.folder import read_review

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


def test_another_palette_reaches_every_nucleus_but_those_somebody_decided_about(
    edited, tmp_path, qupath_probe
):
    root, done = edited
    before = detections(qupath_probe, root)
    palette = tmp_path / "strict.toml"
    palette.write_text(
        'rule = "optical-density"\n'
        '[[class]]\nname = "Negative"\ncolor = [112, 112, 225]\n'
        '[[class]]\nname = "3+"\ncolor = [250, 62, 62]\nfrom = -9.0\n'
    )
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
