"""The scripts inside a real QuPath with the real engine, from the start to saved nuclei."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from script_samples import code, draw, project_with, step, tissue_image

from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.palette.classes import CLASS_MARGIN, available_palettes, load_palette
from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS
from nucliseg_qp.qupath.reading import read_geojson

pytestmark = pytest.mark.qupath

ODD = "Gewebe é 核, 'quoted' #1"
DETECT = "detect_nuclei.groovy"


@pytest.fixture(scope="module")
def whole(qupath_probe, tmp_path_factory):
    """Give a project, at an odd place, whose image was detected as a whole, and what was said."""
    folder = tmp_path_factory.mktemp("p") / ODD
    project_with(folder, tissue_image(folder / f"{ODD}.ome.tif"))
    [said] = qupath_probe.run_steps(folder, step(DETECT, "scope=image", "device=cpu"))
    assert said["problem"] == ""
    return folder, said


@pytest.fixture
def copy(whole, tmp_path):
    """Give a copy of that project to change; its image stays where it is."""
    shutil.copytree(whole[0], tmp_path / "copy", ignore=shutil.ignore_patterns("*.tif"))
    return tmp_path / "copy"


def test_detected_nuclei_are_those_of_the_command_line(qupath_probe, whole, tmp_path):
    from nucliseg_qp.cli import run

    folder, _ = whole
    image = next(folder.glob("*.tif"))
    assert run(["detect", str(image), "-o", str(tmp_path), "--device", "cpu"]) == 0
    alone = read_geojson(next((tmp_path / "nuclei").glob("*.gz")))
    [found] = qupath_probe.read_back(folder)["images"]
    assert len(alone.ids) > 150
    assert {d["id"] for d in found["detections"]} == set(alone.ids)
    classes = dict(zip(alone.ids, alone.nuclei.class_index.tolist(), strict=True))
    names = alone.nuclei.class_names
    assert all(d["class"] == names[classes[d["id"]]] for d in found["detections"])


def test_what_qupath_holds_after_a_detection(qupath_probe, whole):
    folder, said = whole
    project = qupath_probe.read_back(folder)
    [found] = project["images"]
    [area] = found["annotations"]
    assert area["locked"]
    palette = load_palette("hsv")
    for one in palette.classes:
        assert tuple(project["classes"][one.name]) == one.color_rgb
    for nucleus in found["detections"]:
        assert nucleus["parent"] == area["id"]
        assert set(nucleus["measurements"]) >= {*MEASUREMENT_COLUMNS, CLASS_MARGIN}
        assert tuple(nucleus["color"]) == tuple(project["classes"][nucleus["class"]])
    assert found["type"] == "BRIGHTFIELD_H_DAB"
    assert found["workflow"].count("NucliSeg QP: detect nuclei") == 1
    assert found["metadata"]["NucliSeg status"] == "done"
    assert "CPU" in found["metadata"]["NucliSeg device"]
    assert f"{len(found['detections'])} nuclei added" in said["text"]
    structural = [event for event in said["events"] if "STRUCTURE" in event or "OTHER" in event]
    assert len(structural) == 1, "every event makes QuPath draw anew"
    assert said["children"] == 0


def test_the_history_makes_a_script_that_repeats_the_run(qupath_probe, copy):
    repeat = code(
        "def step = getCurrentImageData().getHistoryWorkflow().getSteps()"
        ".find { it.getName() == 'NucliSeg QP: detect nuclei' }\n"
        "new GroovyShell(this.class.classLoader, new Binding(out: out)).evaluate("
        "'import static qupath.lib.scripting.QP.*\\n' + step.getScript())"
    )
    [said] = qupath_probe.run_steps(copy, repeat)
    assert said["problem"] == ""
    assert " nuclei added" in said["text"]


def test_nuclei_go_under_the_smallest_annotation_around_them(qupath_probe, tmp_path):
    folder = project_with(tmp_path / "p", tissue_image(tmp_path / "i" / "a.ome.tif"))
    said = qupath_probe.run_steps(
        folder,
        draw(20, 20, 300, 400, "large"),
        draw(60, 60, 120, 120, "inner"),
        draw(400, 10, 100, 300, "other"),
        step(DETECT, "scope=all"),
    )
    assert said[-1]["problem"] == ""
    [found] = qupath_probe.read_back(folder)["images"]
    areas = {one["name"]: one for one in found["annotations"]}
    assert set(areas) == {"large", "inner", "other"}
    assert all(one["locked"] for one in areas.values())
    owners = {one["id"]: name for name, one in areas.items()}
    boxes = {"large": (20, 20, 320, 420), "inner": (60, 60, 180, 180), "other": (400, 10, 500, 310)}
    for nucleus in found["detections"]:
        left, top, right, bottom = boxes[owners[nucleus["parent"]]]
        # The keypoint lies inside; the centroid may lie a little beside it.
        assert left - 6 < nucleus["x"] < right + 6
        assert top - 6 < nucleus["y"] < bottom + 6
    assert set(owners.values()) == {owners[d["parent"]] for d in found["detections"]}


def test_only_selected_annotations_are_analysed(qupath_probe, tmp_path):
    folder = project_with(tmp_path / "p", tissue_image(tmp_path / "i" / "a.ome.tif"))
    select = code("selectObjects { it.getName() == 'this' }")
    said = qupath_probe.run_steps(
        folder,
        draw(20, 20, 200, 200, "this"),
        draw(300, 300, 150, 150, "not this"),
        code("resetSelection()"),
        step(DETECT, "scope=selected"),
        select,
        step(DETECT, "scope=selected"),
    )
    assert "no annotation is selected" in said[3]["problem"]
    assert said[3]["unchanged"]
    [found] = qupath_probe.read_back(folder)["images"]
    locked = {one["name"]: one["locked"] for one in found["annotations"]}
    assert locked == {"this": True, "not this": False}
    assert found["detections"]
    assert all(nucleus["x"] < 230 for nucleus in found["detections"])


EDIT = """
def nuclei = getDetectionObjects().sort {{ it.getID().toString() }}
def other = {{ it.getPathClass().toString() == 'Positive' ? 'Negative' : 'Positive' }}
nuclei[0..2].each {{ it.setPathClass(getPathClass(other(it))) }}
nuclei[3].setLocked(true)
def moved = nuclei[4]
moved.setROI(moved.getROI().translate(0.7, 0.7))
removeObjects(nuclei[5..6], true)
def roi = ROIs.createEllipseROI(2, 2, 9, 9, ImagePlane.getDefaultPlane())
def added = PathObjects.createDetectionObject(roi, getPathClass('Positive'))
nuclei[0].getParent().addChildObject(added)
fireHierarchyUpdate()
new File('{}').text = (nuclei[0..6]*.getID() + [added.getID()]).join('\\n')
"""


def edited_ids(folder):
    return (folder / "edits.txt").read_text().split()


def edit(folder):
    """Do by hand what people do: reclassify 3, confirm 1, redraw 1, delete 2, add 1."""
    return code(EDIT.format(folder / "edits.txt"))


@pytest.mark.parametrize("settings", [[], ["threshold=0.35", "masks.smooth_um=0.4"]])
def test_a_second_run_keeps_what_a_person_did(qupath_probe, copy, settings):
    qupath_probe.run_steps(copy, edit(copy))
    before = {d["id"]: d for d in qupath_probe.read_back(copy)["images"][0]["detections"]}
    [said] = qupath_probe.run_steps(copy, step(DETECT, "scope=image", *settings))
    assert said["problem"] == ""
    after = {d["id"]: d for d in qupath_probe.read_back(copy)["images"][0]["detections"]}
    changed = edited_ids(copy)
    kept, deleted = [*changed[:5], changed[7]], changed[5:7]
    for one in kept:
        assert after[one]["class"] == before[one]["class"]
        assert (after[one]["x"], after[one]["y"]) == (before[one]["x"], before[one]["y"])
    assert not set(deleted) & set(after)
    for one in kept:
        near = [d for d in after.values() if distance(d, before[one]) < 2]
        assert len(near) == 1, "nothing is put on top of a nucleus that was kept"


REVIEW = """
def left = ROIs.createRectangleROI(0, 0, 256, 512, ImagePlane.getDefaultPlane())
def area = PathObjects.createAnnotationObject(left)
area.setName('Reviewed')
addObject(area)
"""


def test_an_area_somebody_reviewed_is_no_region_to_detect_in(qupath_probe, copy):
    qupath_probe.run_steps(copy, code(REVIEW))
    before = {d["id"]: d for d in qupath_probe.read_back(copy)["images"][0]["detections"]}
    again = step(DETECT, "scope=auto", "device=cpu", "palette=dab-intensity", "threshold=0.3")
    [said] = qupath_probe.run_steps(copy, again)
    assert said["problem"] == ""
    after = {d["id"]: d for d in qupath_probe.read_back(copy)["images"][0]["detections"]}
    looked_at = {id_ for id_, one in before.items() if one["x"] < 255}
    now = {id_ for id_, one in after.items() if one["x"] < 255}
    assert looked_at == now
    assert {id_: after[id_]["class"] for id_ in now} == {id_: before[id_]["class"] for id_ in now}
    elsewhere = {one["class"] for one in after.values() if one["x"] > 257}
    assert "Positive" not in elsewhere
    assert "1+" in elsewhere


def distance(one, other):
    return np.hypot(one["x"] - other["x"], one["y"] - other["y"])


def test_corrections_are_exactly_what_was_changed(qupath_probe, copy):
    said = qupath_probe.run_steps(
        copy, step("send_corrections.groovy"), edit(copy), step("send_corrections.groovy")
    )
    assert "0 reclassified, 0 redrawn, 0 confirmed, 0 added, 0 deleted" in said[0]["text"]
    assert said[2]["unchanged"]
    path = copy / "nucliseg" / "corrections" / "1.geojson"
    document = json.loads(path.read_text(encoding="utf-8"))
    head = document["nucliseg"]
    assert head["counts"] == {
        "reclassified": 3, "redrawn": 1, "confirmed": 1, "added": 1, "deleted": 2
    }  # fmt: skip
    assert (head["width_px"], head["height_px"]) == (512, 512)
    ids = edited_ids(copy)
    change = {one["id"]: one["properties"]["change"] for one in document["features"]}
    wanted = ["reclassified"] * 3 + ["confirmed", "redrawn", "deleted", "deleted", "added"]
    assert change == dict(zip(ids, wanted, strict=True))
    for one in document["features"]:
        properties = one["properties"]
        if properties["change"] == "reclassified":
            assert properties["class_before"] != properties["classification"]["name"]
        if properties["change"] == "deleted":
            assert one["geometry"]["type"] == "Point"


@pytest.mark.parametrize("name", available_palettes())
def test_reclassifying_gives_the_engines_own_classes(qupath_probe, copy, name):
    [said] = qupath_probe.run_steps(copy, step("reclassify.groovy", f"palette={name}"))
    assert said["problem"] == ""
    found = qupath_probe.read_back(copy)["images"][0]["detections"]
    palette = load_palette(name)
    table = classified(palette, found)
    for row, nucleus in enumerate(found):
        assert nucleus["class"] == palette.names[table.class_index[row]]
        margin = table.measurements[CLASS_MARGIN][row]
        assert np.float32(nucleus["measurements"][CLASS_MARGIN]) == margin


def classified(palette, found):
    columns = {
        name: np.array([one["measurements"][name] for one in found], np.float32)
        for name in palette.rule.measurements
    }
    none = Nuclei.empty()
    rows = Nuclei(
        **{**none.__dict__, "x": np.zeros(len(found)), "y": np.zeros(len(found))}
        | {"measurements": columns}
    )
    return palette.classify(rows)
