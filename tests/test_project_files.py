"""A project written without Java: QuPath opens it, a second run loses nothing, bad ones refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import shapely
from qupath_samples import CLASSES, HEIGHT_PX, WIDTH_PX, counts, image_file, result, some_nuclei

from nucliseg_qp.errors import InputError, OutputError, QuPathError
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.qupath.results import analysed_area

ODD_NAMES = ["plain.png", "with blank, comma & 'quote' #1 50%.png", "Gewebe Übersicht 核.png"]


def read_project(folder):
    return json.loads((folder / "project.qpproj").read_text(encoding="utf-8"))


def test_the_folder_holds_what_qupath_and_a_person_need(tmp_path):
    image = image_file(tmp_path)
    [written] = write_files(tmp_path / "p", [result(image, tmp_path / "parts")], CLASSES)
    assert (written.entry_id, written.nuclei, written.problem) == ("1", 60, "")
    files = {str(path.relative_to(tmp_path / "p")) for path in (tmp_path / "p").rglob("*")}
    assert {
        "project.qpproj",
        "README.txt",
        "classifiers/classes.json",
        "scripts/import_nuclei.groovy",
        "nucliseg/1.geojson.gz",
        "nucliseg/1.json",
    } <= files
    [entry] = read_project(tmp_path / "p")["images"]
    assert entry["serverBuilder"] == {"builderType": "uri", "uri": image.as_uri(), "args": []}
    assert entry["metadata"]["NucliSeg status"] == "done"
    detections = read_geojson(tmp_path / "p" / "nucliseg" / "1.geojson.gz")
    assert list(detections.ids) == nucleus_ids("a.png", some_nuclei())
    [area] = detections.annotations
    assert area["properties"]["isLocked"]
    assert "Run for project" in (tmp_path / "p" / "README.txt").read_text()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_second_run_does_not_add_an_image_twice(tmp_path, name):
    image = image_file(tmp_path, name)
    write_files(tmp_path / "p", [result(image, tmp_path / "parts")], CLASSES)
    os.symlink(tmp_path, tmp_path / "link")
    again = tmp_path / "link" / name
    write_files(tmp_path / "p", [result(again, tmp_path / "parts")], CLASSES)
    [entry] = read_project(tmp_path / "p")["images"]
    assert " " not in entry["serverBuilder"]["uri"]
    assert entry["serverBuilder"]["uri"].isascii()


def users_project(folder, image):
    """Make a project as somebody left it, with things this program does not know."""
    project = {
        "version": "0.7.0",
        "createTimestamp": 1,
        "modifyTimestamp": 2,
        "uri": "file:/elsewhere/project.qpproj",
        "lastID": 7,
        "from the future": {"a": 1},
        "images": [
            {
                "serverBuilder": {
                    "builderType": "rotated",
                    "builder": {"builderType": "uri", "uri": image.as_uri(), "args": []},
                    "rotation": "ROTATE_90",
                },
                "entryID": 4,
                "imageName": "turned",
                "metadata": {"who": "me"},
                "tags": ["x"],
            }
        ],
    }
    (folder / "classifiers").mkdir(parents=True)
    (folder / "scripts").mkdir()
    (folder / "project.qpproj").write_text(json.dumps(project))
    classes = {"pathClasses": [{"name": "Positive", "color": -1}, {"name": "Mine", "color": -2}]}
    (folder / "classifiers" / "classes.json").write_text(json.dumps(classes))
    (folder / "scripts" / "import_nuclei.groovy").write_text("// mine")
    (folder / "README.txt").write_text("mine")
    return project


def test_a_users_project_keeps_all_it_holds(tmp_path):
    image, folder = image_file(tmp_path), tmp_path / "p"
    before = users_project(folder, image)
    [written] = write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert written.entry_id == "8", "ids are not used again; a rotated image is another image"
    after = read_project(folder)
    for key in ("version", "createTimestamp", "uri", "from the future"):
        assert after[key] == before[key], key
    assert after["images"][0] == before["images"][0]
    assert json.loads((folder / "project.qpproj.backup").read_text()) == before
    classes = json.loads((folder / "classifiers" / "classes.json").read_text())["pathClasses"]
    assert classes[:2] == [{"name": "Positive", "color": -1}, {"name": "Mine", "color": -2}]
    assert [item["name"] for item in classes[2:]] == ["Negative", "Odd one"]
    assert classes[2]["color"] == -9408287, "QuPath's packed colour of Negative"
    assert (folder / "README.txt").read_text() == "mine"
    assert (folder / "scripts" / "import_nuclei.groovy.backup").read_text() == "// mine"


def test_an_image_of_another_size_in_the_project_is_not_touched(tmp_path):
    image, folder = image_file(tmp_path), tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    project = read_project(folder)
    project["images"][0]["serverBuilder"]["metadata"] = {"width": 9, "height": 9}
    (folder / "project.qpproj").write_text(json.dumps(project))
    [written] = write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert "9 x 9 px" in written.problem
    assert len(read_project(folder)["images"]) == 1


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    good, bad = image_file(tmp_path, "good.png"), image_file(tmp_path, "bad.png")
    broken = result(bad, tmp_path / "parts", parts=(tmp_path / "missing.npz",))
    fine = result(good, tmp_path / "parts")
    reports = write_files(tmp_path / "p", [broken, fine], CLASSES)
    assert "missing.npz" in reports[0].problem
    assert reports[1].problem == ""
    assert [entry["imageName"] for entry in read_project(tmp_path / "p")["images"]] == ["good.png"]
    assert [p.name for p in (tmp_path / "p" / "nucliseg").glob("*.json")] == ["1.json"]


def test_many_nuclei_go_to_several_files_and_a_rerun_leaves_none_behind(tmp_path):
    image, folder = image_file(tmp_path), tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES, shard=25)
    manifest = json.loads((folder / "nucliseg" / "1.json").read_text())
    assert manifest["files"] == [f"1.00{n}.geojson.gz" for n in (1, 2, 3)], "61 features"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert [path.name for path in (folder / "nucliseg").glob("*.gz")] == ["1.geojson.gz"]


def test_the_area_is_made_good_for_qupath_and_known_again(tmp_path):
    # One invalid annotation would make QuPath reject the whole file.
    bow_tie = [[0.001, 0], [90.123456, 90], [90, 0], [0, 90], [0.001, 0]]
    other_start = tuple(tuple(point) for point in [*bow_tie[2:], *bow_tie[1:3]])
    areas = [
        analysed_area(
            result(
                tmp_path / "a.png", tmp_path, geometry={"type": "Polygon", "coordinates": [ring]}
            )
        )
        for ring in (bow_tie, other_start)
    ]
    assert areas[0] == areas[1]
    found = shapely.geometry.shape(areas[0].geometry)
    assert found.is_valid
    assert found.area == pytest.approx(90 * 90 / 2, rel=0.01)
    assert np.array_equal(
        np.round(shapely.get_coordinates(found), 2), shapely.get_coordinates(found)
    )
    line = {"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [0, 0]]]}
    with pytest.raises(InputError, match="empty"):
        analysed_area(result(tmp_path / "a.png", tmp_path, geometry=line))


# ---- projects that are refused ---------------------------------------------------------------


def entry(**changes):
    return {
        "serverBuilder": {"builderType": "uri", "uri": "file:///a.png", "args": []},
        "entryID": 1,
        "imageName": "a",
        "metadata": {},
        **changes,
    }


def builder(uri):
    return {"builderType": "rotated", "builder": {"builderType": "uri", "uri": uri, "args": []}}


HOSTILE = {
    "not json": "{",
    "no object": "[]",
    "images no list": '{"images": {}}',
    "entry no object": '{"images": [1]}',
    "id climbs out": json.dumps({"images": [entry(entryID="../../etc")]}),
    "id is a path": json.dumps({"images": [entry(entryID="1/../../x")]}),
    "id missing": json.dumps({"images": [entry(entryID=None)]}),
    "id is true": json.dumps({"images": [entry(entryID=True)]}),
    "id negative": json.dumps({"images": [entry(entryID=-1)]}),
    "same id twice": json.dumps({"images": [entry(), entry()]}),
    "http image": json.dumps({"images": [entry(serverBuilder=builder("http://x/a.png"))]}),
    "java jar": json.dumps({"images": [entry(serverBuilder=builder("jar:file:/x.jar!/a"))]}),
    "no uri text": json.dumps({"images": [entry(serverBuilder=builder(["file:///a"]))]}),
    "broken uri": json.dumps({"images": [entry(serverBuilder=builder("file://[/a"))]}),
    "nul in uri": json.dumps({"images": [entry(serverBuilder=builder("file:///a%00b"))]}),
    "last id a text": '{"images": [], "lastID": "x"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_projects_are_refused_and_left_alone(tmp_path, name):
    image, folder = image_file(tmp_path), tmp_path / "p"
    folder.mkdir()
    (folder / "project.qpproj").write_text(HOSTILE[name])
    with pytest.raises(QuPathError, match=r"project\.qpproj"):
        write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert [path.name for path in folder.iterdir()] == ["project.qpproj"]
    assert (folder / "project.qpproj").read_text() == HOSTILE[name]


@pytest.mark.parametrize("name", ["nucliseg", "scripts", "classifiers", "data", "data/3"])
def test_nothing_is_written_through_a_link_out_of_the_project(tmp_path, name):
    image, folder, outside = image_file(tmp_path), tmp_path / "p", tmp_path / "outside"
    outside.mkdir()
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(QuPathError, match="leads out"):
        write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert list(outside.iterdir()) == []


def test_a_project_that_changes_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    image, folder = image_file(tmp_path), tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    changed = (folder / "project.qpproj").read_text().replace('"imageName": "a', '"imageName": "b')

    def change_first(*_):
        (folder / "project.qpproj").write_text(changed)

    monkeypatch.setattr("nucliseg_qp.qupath.files.merge_classes", change_first)
    with pytest.raises(QuPathError, match="meanwhile"):
        write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    assert (folder / "project.qpproj").read_text() == changed


def test_a_folder_that_is_a_file_is_an_error_of_one_line(tmp_path):
    image = image_file(tmp_path)
    (tmp_path / "p").write_text("x")
    with pytest.raises((OutputError, QuPathError), match="p"):
        write_files(tmp_path / "p", [result(image, tmp_path / "parts")], CLASSES)


# ---- the same with QuPath --------------------------------------------------------------------


def script_of(folder):
    return (folder / "scripts" / "import_nuclei.groovy").read_text(encoding="utf-8")


@pytest.mark.qupath
def test_qupath_opens_the_project_and_its_script_imports_all(qupath_probe, tmp_path):
    images = [image_file(tmp_path / "odd folder's", name) for name in ODD_NAMES]
    results = [result(image, tmp_path / "parts" / str(k)) for k, image in enumerate(images)]
    write_files(tmp_path / "p", results, CLASSES, shard=25)
    answer = qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    assert answer["problems"] == []
    project = qupath_probe.project(tmp_path / "p")
    assert project["classes"] == [
        ["Negative", -9408287],
        ["Positive", -377282],
        ["Odd one", -16711165],
    ]
    nuclei = some_nuclei()
    for image, path in zip(project["images"], images, strict=True):
        assert image["name"] == path.name
        assert image["size"] == [WIDTH_PX, HEIGHT_PX]
        assert image["type"] == "BRIGHTFIELD_H_DAB"
        assert image["mpp"] == 0.25, "a PNG gets the pixel size of the analysis"
        assert image["metadata"]["NucliSeg model"] == "test"
        [area] = image["annotations"]
        assert area["locked"]
        assert {item["parent"] for item in image["detections"]} == {area["id"]}
        assert counts(image["detections"]) == dict.fromkeys(
            ["Negative", "Positive", "Odd one", None], 15
        )
        found = {item["id"]: item for item in image["detections"]}
        for row, key in enumerate(nucleus_ids(path.name, nuclei)):
            expected = {
                name: float(column[row])
                for name, column in nuclei.measurements.items()
                if np.isfinite(column[row])
            }
            assert found[key]["measurements"] == expected


@pytest.mark.qupath
def test_an_image_of_another_size_is_not_filled(qupath_probe, tmp_path):
    wrong = result(image_file(tmp_path), tmp_path / "parts", width_px=WIDTH_PX + 1)
    write_files(tmp_path / "p", [wrong], CLASSES)
    answer = qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    assert "321 x 240 px were analysed" in answer["problems"][0]
    assert qupath_probe.project(tmp_path / "p")["images"][0]["detections"] == []


@pytest.mark.qupath
def test_missing_nuclei_are_noticed(qupath_probe, tmp_path):
    write_files(
        tmp_path / "p", [result(image_file(tmp_path), tmp_path / "parts")], CLASSES, shard=25
    )
    manifest = tmp_path / "p" / "nucliseg" / "1.json"
    manifest.write_text(manifest.read_text().replace('"1.002.geojson.gz",', ""))
    answer = qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    assert "35 nuclei in the files instead of 60" in answer["problems"][0]


@pytest.mark.qupath
def test_without_the_argument_a_second_import_changes_nothing(qupath_probe, tmp_path):
    write_files(tmp_path / "p", [result(image_file(tmp_path), tmp_path / "parts")], CLASSES)
    for _ in range(2):
        qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    assert len(qupath_probe.project(tmp_path / "p")["images"][0]["detections"]) == 60


EDIT = """
def place = { it.getROI().getCentroidX() + 1000 * it.getROI().getCentroidY() }
def nuclei = getDetectionObjects().sort(place)
nuclei[0].setPathClass(getPathClass('Odd one'))
nuclei[1].setLocked(true)
nuclei[2].setROI(ROIs.createRectangleROI(1, 1, 9, 9, ImagePlane.getDefaultPlane()))
removeObjects([nuclei[3]], true)
def drawn = ROIs.createRectangleROI(100, 200, 5, 5, ImagePlane.getDefaultPlane())
addObject(PathObjects.createDetectionObject(drawn))
"""


@pytest.mark.qupath
def test_replacing_keeps_what_a_person_did(qupath_probe, tmp_path):
    image, folder = image_file(tmp_path), tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    qupath_probe.run_script(folder, script_of(folder))
    qupath_probe.run_script(folder, EDIT)
    # The next run finds half of the nuclei again and others elsewhere.
    same, other = some_nuclei().take(np.arange(30)), some_nuclei(10, shift_px=3)
    nuclei = type(same).concatenate([same, other])
    write_files(folder, [result(image, tmp_path / "parts", nuclei)], CLASSES)
    qupath_probe.run_script(folder, script_of(folder), "replace")
    renew = script_of(folder).replace("boolean renew = false", "boolean renew = true")
    qupath_probe.run_script(folder, renew)
    found = {d["id"]: d for d in qupath_probe.project(folder)["images"][0]["detections"]}
    ids = nucleus_ids(image.name, nuclei)
    assert found[ids[0]]["class"] == "Odd one"
    assert found[ids[1]]["locked"]
    assert found[ids[2]]["area"] == 81
    assert ids[3] not in found, "what was deleted does not come back"
    # The new ones that lie on a kept or deleted nucleus give way to what the person decided.
    covered = {ids[30], ids[31], ids[33]}
    assert set(ids[4:]) - set(found) == covered
    assert len(found) == 39 - 3 + 1, "one more was drawn by hand; the old half is gone"


@pytest.mark.qupath
def test_an_import_that_was_never_saved_does_not_count(qupath_probe, tmp_path):
    image, folder = image_file(tmp_path), tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    qupath_probe.run_script(folder, script_of(folder))
    other = some_nuclei(10, shift_px=3)
    write_files(folder, [result(image, tmp_path / "parts", other)], CLASSES)
    qupath_probe.run_script(folder, script_of(folder), "replace", save=False)
    qupath_probe.run_script(folder, script_of(folder), "replace")
    found = {item["id"] for item in qupath_probe.project(folder)["images"][0]["detections"]}
    assert found == set(nucleus_ids(image.name, other)), "not taken for deleted by hand"
    assert len(list((folder / "nucliseg").glob("*.ledger.gz"))) == 2, "the old ones are gone"


@pytest.mark.qupath
def test_emptying_an_image_and_importing_again_brings_all_back(qupath_probe, tmp_path):
    write_files(tmp_path / "p", [result(image_file(tmp_path), tmp_path / "parts")], CLASSES)
    qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    qupath_probe.run_script(tmp_path / "p", "getCurrentHierarchy().clearAll()")
    answer = qupath_probe.run_script(tmp_path / "p", script_of(tmp_path / "p"))
    assert answer["problems"] == []
    assert len(qupath_probe.project(tmp_path / "p")["images"][0]["detections"]) == 60


@pytest.mark.qupath
@pytest.mark.parametrize("damage", ["truncated", "interrupted save"])
def test_an_unreadable_data_file_is_not_taken_for_an_empty_image(qupath_probe, tmp_path, damage):
    # QuPath opens such an image as if it were empty, and saving would destroy the work for good.
    folder = tmp_path / "p"
    write_files(folder, [result(image_file(tmp_path), tmp_path / "parts")], CLASSES)
    qupath_probe.run_script(folder, script_of(folder))
    data = folder / "data" / "1" / "data.qpdata"
    content = data.read_bytes()
    if damage == "truncated":
        data.write_bytes(content[: len(content) // 2])
    else:
        data.rename(data.with_name("data.qpdata.bkp"))
    answer = qupath_probe.run_script(folder, script_of(folder), "replace")
    assert "NucliSeg QP" in answer["problems"][0]
