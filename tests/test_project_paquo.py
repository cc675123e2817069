"""A project written by QuPath itself: it reopens as it was meant, and nobody's work is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from qupath_samples import CLASSES, HEIGHT_PX, WIDTH_PX, counts, image_file, result, some_nuclei

from nucliseg_qp.errors import OutputError, QuPathError, UsageError
from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.qupath import install
from nucliseg_qp.qupath.data_file import data_problem
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.install import choose_writer, find_qupath
from nucliseg_qp.qupath.project import write_project
from nucliseg_qp.qupath.request import Request, read_answer, read_request, write_answer
from nucliseg_qp.qupath.results import WrittenImage

ODD_NAMES = ["plain.png", "blank, comma & 'quote' #1 50%.png", "Übersicht 核.png"]


# ---- without QuPath -----------------------------------------------------------------------------


def test_importing_the_writer_starts_no_java():
    code = (
        "import sys, nucliseg_qp.qupath.project, nucliseg_qp.qupath.files;"
        "print([m for m in ('jpype', 'paquo', 'torch') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def no_qupath(monkeypatch, tmp_path):
    from paquo import settings

    monkeypatch.setitem(settings.store, "QUPATH_DIR", "")
    monkeypatch.setitem(settings.store, "QUPATH_SEARCH_DIRS", [str(tmp_path)])
    monkeypatch.setitem(settings.store, "QUPATH_SEARCH_CONDA", False)


def test_without_qupath_auto_writes_files_and_paquo_says_what_to_do(monkeypatch, tmp_path):
    no_qupath(monkeypatch, tmp_path)
    assert find_qupath() is None
    assert choose_writer("auto") == "files"
    with pytest.raises(QuPathError, match="PAQUO_QUPATH_DIR"):
        choose_writer("paquo")
    with pytest.raises(QuPathError, match="PAQUO_QUPATH_DIR"):
        write_project(tmp_path / "p", [], CLASSES)
    with pytest.raises(UsageError, match="other"):
        choose_writer("other")


def test_a_wrong_qupath_folder_is_an_error_not_a_silent_change_of_writer(monkeypatch, tmp_path):
    from paquo import settings

    monkeypatch.setitem(settings.store, "QUPATH_DIR", str(tmp_path / "nothing"))
    with pytest.raises(QuPathError, match="nothing"):
        choose_writer("auto")


def test_a_qupath_folder_tells_its_versions(tmp_path):
    app, runtime = tmp_path / "QuPath" / "lib" / "app", tmp_path / "QuPath" / "lib" / "runtime"
    app.mkdir(parents=True)
    runtime.mkdir()
    (app / "qupath-core-0.7.0-rc1.jar").touch()
    (app / "qupath-core-processing-0.7.0-rc1.jar").touch()
    (runtime / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="25.0.1"\n')
    found = install._install(app, runtime, runtime / "libjvm.so")
    assert (found.version, found.java_version) == ("0.7.0-rc1", "25.0.1")
    assert found.folder == tmp_path / "QuPath"


def test_the_request_arrives_as_it_was_sent(tmp_path):
    image = image_file(tmp_path, ODD_NAMES[1])
    sent = Request(tmp_path / "p", (result(image, tmp_path / "parts"),), tuple(CLASSES))
    (tmp_path / "request").write_text(json.dumps(sent.to_json()))
    assert read_request(tmp_path / "request") == sent
    answer = [WrittenImage(image, "3", 1, 2, 3, 4, 5, "odd")]
    write_answer(tmp_path / "answer", answer)
    assert read_answer(tmp_path / "answer") == answer


WHOLE = b"\xac\xed\x00\x05w\x15\x00\x13Data file version 3" + bytes(50) + b"t\x00\x03EOF"


@pytest.mark.parametrize(
    ("content", "good"),
    [(WHOLE, True), (b"", False), (b"EOF", False), (WHOLE[:-1], False), (b"x" + WHOLE, False)],
)
def test_a_damaged_data_file_is_seen_before_qupath_is_asked(tmp_path, content, good):
    assert data_problem(tmp_path) == "", "an image without data is new"
    (tmp_path / "data.qpdata").write_bytes(content)
    assert (data_problem(tmp_path) == "") == good
    (tmp_path / "data.qpdata.bkp").touch()
    assert "interrupted" in data_problem(tmp_path)


# ---- with QuPath --------------------------------------------------------------------------------


def by_id(image):
    return {item["id"]: item for item in image["detections"]}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """Write a project once: starting Java takes seconds."""
    home = tmp_path_factory.mktemp("first run")
    paths = [image_file(home / "it's, odd", name) for name in ODD_NAMES]
    images = [result(path, home / "parts" / str(k)) for k, path in enumerate(paths)]
    return home / "p", images, write_project(home / "p", images, CLASSES)


@pytest.fixture
def project(first_run, tmp_path):
    """Give a copy of that project to change."""
    shutil.copytree(first_run[0], tmp_path / "p")
    return tmp_path / "p", first_run[1]


@pytest.mark.qupath
def test_a_new_project_reopens_with_all_that_was_meant(qupath_probe, first_run):
    folder, images, written = first_run
    assert [(w.problem, w.added, w.nuclei) for w in written] == [("", 60, 60)] * 3
    project, nuclei = qupath_probe.project(folder), some_nuclei()
    assert project["classes"] == [
        ["Negative", -9408287],
        ["Positive", -377282],
        ["Odd one", -16711165],
    ]
    for image, path in zip(project["images"], (one.image_path for one in images), strict=True):
        assert path.name in image["name"]
        assert (image["size"], image["type"]) == ([WIDTH_PX, HEIGHT_PX], "BRIGHTFIELD_H_DAB")
        assert image["mpp"] == 0.25, "a PNG gets the pixel size of the analysis"
        assert image["metadata"]["NucliSeg status"] == "done"
        [area] = image["annotations"]
        assert (area["locked"], area["area"]) == (True, WIDTH_PX * HEIGHT_PX)
        expected = dict.fromkeys(["Negative", "Positive", "Odd one", None], 15)
        assert counts(image["detections"]) == expected
        assert {item["parent"] for item in image["detections"]} == {area["id"]}
        assert all(item["valid"] for item in image["detections"])
        check_measurements(by_id(image), path, nuclei)


def check_measurements(found: dict, path, nuclei: Nuclei) -> None:
    for row, key in enumerate(nucleus_ids(path.name, nuclei)):
        expected = {
            name: float(column[row])
            for name, column in nuclei.measurements.items()
            if np.isfinite(column[row])
        }
        assert found[key]["measurements"] == expected, "float32, and no NaN"


EDIT = """
def place = { it.getROI().getCentroidX() + 1000 * it.getROI().getCentroidY() }
def nuclei = getDetectionObjects().sort(place)
nuclei[0].setPathClass(getPathClass('Odd one'))
nuclei[1].setLocked(true)
removeObjects([nuclei[2]], true)
def drawn = ROIs.createRectangleROI(100, 200, 5, 5, ImagePlane.getDefaultPlane())
addObject(PathObjects.createDetectionObject(drawn))
addObject(PathObjects.createAnnotationObject(drawn, getPathClass('Mine')))
getProject().setPathClasses([getPathClass('Mine'), getPathClass('Positive')])
getCurrentImageData().setImageType(ImageData.ImageType.BRIGHTFIELD_OTHER)
"""


@pytest.mark.qupath
def test_a_second_run_renews_what_nobody_changed(qupath_probe, project, tmp_path, capfd):
    folder, images = project
    path = images[0].image_path
    qupath_probe.run_script(folder, EDIT)
    # Other settings: half of the nuclei again, all of another class, and new ones elsewhere.
    half, other = some_nuclei().take(np.arange(30)), some_nuclei(10, shift_px=3)
    nuclei = Nuclei.concatenate([half, other])
    nuclei = nuclei.with_classes(nuclei.class_names, np.ones(40, np.int16))
    new = image_file(tmp_path, "new.png")
    again = [result(path, tmp_path / "x", nuclei), *two_halves(new, tmp_path)]
    first, left, right = write_project(folder, again, CLASSES)
    assert capfd.readouterr() == ("", ""), "QuPath's log stays in its process"
    assert (first.added, first.replaced, first.kept, first.deleted) == (34, 57, 3, 1)
    assert (first.nuclei, left.nuclei, right.nuclei) == (37, 28, 60)
    reopened = qupath_probe.project(folder)
    assert [name for name, _ in reopened["classes"]] == ["Mine", "Positive", "Negative", "Odd one"]
    image = reopened["images"][0]
    assert image["type"] == "BRIGHTFIELD_OTHER", "somebody chose it"
    assert [item["class"] for item in image["annotations"]] == [None, "Mine"]
    ids, found = nucleus_ids(path.name, nuclei), by_id(image)
    assert found[ids[0]]["class"] == "Odd one"
    assert found[ids[1]]["locked"]
    assert ids[2] not in found
    assert {found[key]["class"] for key in ids[3:30] + ids[33:]} == {"Positive"}, "the new class"
    assert not found.keys() & set(ids[30:33]), "none on top of a nucleus kept or deleted"
    both = reopened["images"][3]
    assert len(both["annotations"]) == 2, "another area adds to the first"
    assert len({item["parent"] for item in both["detections"]}) == 2


def two_halves(path, folder):
    """Give the left and the right half of an image as two runs with an area each."""
    nuclei, runs = some_nuclei(), []
    for x, inside in ((0, nuclei.x < 150), (150, nuclei.x >= 150)):
        ring = [[x, 0], [x + 150, 0], [x + 150, 240], [x, 240], [x, 0]]
        area = {"type": "Polygon", "coordinates": [ring]}
        runs.append(result(path, folder / f"x{x}", nuclei.take(inside), geometry=area))
    return runs


@pytest.mark.qupath
def test_a_project_written_as_files_goes_on_with_qupath(qupath_probe, tmp_path):
    folder, images = tmp_path / "p", [result(image_file(tmp_path), tmp_path / "parts")]
    write_files(folder, images, CLASSES)
    [written] = write_project(folder, images, CLASSES)
    assert (written.entry_id, written.nuclei, written.problem) == ("1", 60, "")
    assert len(qupath_probe.project(folder)["images"]) == 1


@pytest.mark.qupath
def test_one_bad_image_does_not_stop_the_others(qupath_probe, tmp_path):
    good = result(image_file(tmp_path), tmp_path / "parts")
    (tmp_path / "text.png").write_text("no image")
    wrong_size = replace(good, image_path=image_file(tmp_path, "b.png"), width_px=7)
    no_image = replace(good, image_path=tmp_path / "text.png")
    gone = replace(good, image_path=tmp_path / "gone.png")
    no_parts = replace(good, image_path=image_file(tmp_path, "c.png"), parts=(tmp_path / "x.npz",))
    written = write_project(tmp_path / "p", [wrong_size, no_image, gone, no_parts, good], CLASSES)
    assert "320 x 240 px" in written[0].problem
    assert all(item.problem for item in written[:4])
    assert (written[4].problem, written[4].nuclei) == ("", 60)
    images = qupath_probe.project(tmp_path / "p")["images"]
    assert [len(image["detections"]) for image in images][-1] == 60
    assert sum(len(image["detections"]) for image in images) == 60


@pytest.mark.qupath
def test_unreadable_data_files_stay_as_they_are(project):
    folder, images = project
    truncated, empty, interrupted = (folder / "data" / str(k) / "data.qpdata" for k in (1, 2, 3))
    truncated.write_bytes(truncated.read_bytes()[:5000])
    empty.write_bytes(b"")
    interrupted.rename(interrupted.with_name("data.qpdata.bkp"))
    before = {path: path.read_bytes() for path in folder.glob("data/*/*")}
    written = write_project(folder, images, CLASSES)
    assert all("data.qpdata" in item.problem for item in written)
    assert {path: path.read_bytes() for path in folder.glob("data/*/*")} == before


MEDDLE = """
import sys
from pathlib import Path
from nucliseg_qp.qupath import java, java_process
load = java.load_part
data = Path(sys.argv[3])
def somebody_saves(path):
    data.write_bytes(data.read_bytes() + b"saved by somebody")
    return load(path)
java.load_part = somebody_saves
java_process.main(sys.argv[1:3])
"""


@pytest.mark.qupath
def test_what_somebody_saves_meanwhile_is_not_overwritten(project, tmp_path):
    folder, images = project
    data = folder / "data" / "1" / "data.qpdata"
    request = Request(folder, tuple(images[:1]), tuple(CLASSES)).to_json()
    (tmp_path / "request").write_text(json.dumps(request))
    arguments = [str(tmp_path / "request"), str(tmp_path / "answer"), str(data)]
    subprocess.run([sys.executable, "-c", MEDDLE, *arguments], check=True, capture_output=True)
    [written] = read_answer(tmp_path / "answer")
    assert "changed meanwhile" in written.problem
    assert data.read_bytes().endswith(b"saved by somebody")


@pytest.mark.qupath
def test_only_a_project_or_an_empty_folder_is_written_to(tmp_path):
    images = [result(image_file(tmp_path), tmp_path / "parts")]
    with pytest.raises(OutputError, match="not empty"):
        write_project(tmp_path, images, CLASSES)
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "project.qpproj").write_text('{"images": [{"entryID": "../../x"}]}')
    with pytest.raises(QuPathError):
        write_project(hostile, images, CLASSES)
    assert [path.name for path in hostile.iterdir()] == ["project.qpproj"]


@pytest.mark.qupath
def test_a_java_that_breaks_down_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PAQUO_JAVA_OPTS", "-Xmx1m")
    with pytest.raises(QuPathError, match="PAQUO_JAVA_OPTS"):
        write_project(tmp_path / "p", [result(image_file(tmp_path), tmp_path / "x")], CLASSES)
