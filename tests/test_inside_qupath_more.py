"""Importing, reclassifying, reviewing and checking inside a real QuPath."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from qupath_samples import CLASSES, image_file, result, some_nuclei
from script_samples import code, draw, project_with, step, tissue_image, use_engine, use_fake

from nucliseg_qp.images.fingerprint import fingerprint
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.palette.classes import CLASS_MARGIN
from nucliseg_qp.qupath.engine_place import local_engine
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.script_install import install_scripts

pytestmark = pytest.mark.qupath

IMPORT = "import_nuclei.groovy"
CHECK = "check_installation.groovy"


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    """Give an image and the folder that ``detect`` wrote for a part of it."""
    from nucliseg_qp.cli import run

    folder = tmp_path_factory.mktemp("server")
    image = tissue_image(folder / "slide é, 1.ome.tif")
    region = ("--region", "0,0,300,512")
    assert run(["detect", str(image), "-o", str(folder / "results"), *region]) == 0
    return image, folder / "results"


def test_results_of_another_computer_are_imported(qupath_probe, tmp_path, detected):
    image, results = detected
    local = tmp_path / "elsewhere" / image.name
    local.parent.mkdir()
    shutil.copy(image, local)
    other = tissue_image(tmp_path / "not analysed.ome.tif")
    folder = project_with(tmp_path / "p", local, other)
    said = qupath_probe.run_steps(
        folder, step(IMPORT, f"from={results}"), step(IMPORT, f"from={results}")
    )
    [nothing] = qupath_probe.run_steps(folder, step(IMPORT, f"from={results}"), entry=2)
    assert said[0]["problem"] == ""
    assert "nuclei of an earlier run are there, nothing changed" in said[1]["text"]
    assert said[1]["unchanged"]
    assert "nothing to import" in nothing["text"]
    found = qupath_probe.read_back(folder)["images"][0]
    run = json.loads((results / "run.json").read_text(encoding="utf-8"))
    assert len(found["detections"]) == sum(run["images"][0]["counts"].values()) > 50
    [area] = found["annotations"]
    assert area["locked"]
    assert area["x"] == pytest.approx(150), "the part that was analysed"
    assert found["metadata"]["NucliSeg status"] == "done"
    assert all(one["parent"] == area["id"] for one in found["detections"])


def test_results_of_another_image_of_the_same_name_are_refused(qupath_probe, tmp_path, detected):
    image, results = detected
    impostor = tmp_path / image.name
    content = bytearray(image.read_bytes())
    content[-10] ^= 1
    impostor.write_bytes(bytes(content))
    folder = project_with(tmp_path / "p", impostor)
    [said] = qupath_probe.run_steps(folder, step(IMPORT, f"from={results}"))
    assert "another image of that name" in said["problem"]
    assert said["unchanged"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run["images"][0].update(status="incomplete", problem="5 tiles"), "incomplete"),
        (lambda run: run["images"][0].update(width_px=999), "another image of that name"),
        (lambda run: run["images"].append(run["images"][0]), "2 results fit"),
    ],
)
def test_results_that_do_not_fit_are_refused(qupath_probe, tmp_path, detected, change, words):
    image, results = detected
    shutil.copytree(results, tmp_path / "results")
    path = tmp_path / "results" / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    change(run)
    path.write_text(json.dumps(run), encoding="utf-8")
    folder = project_with(tmp_path / "p", image)
    [said] = qupath_probe.run_steps(folder, step(IMPORT, f"from={tmp_path / 'results'}"))
    assert words in said["problem"]
    assert said["unchanged"]


def test_a_folder_without_results_is_named(qupath_probe, tmp_path, detected):
    folder = project_with(tmp_path / "p", detected[0])
    [said] = qupath_probe.run_steps(folder, step(IMPORT, f"from={tmp_path}"))
    assert f"{tmp_path} holds no run.json" in said["problem"]


def test_groovy_and_python_tell_files_apart_alike(qupath_probe, tmp_path):
    folder = project_with(tmp_path / "p", image_file(tmp_path))
    for size in (0, 10, 65536, 65537, 300_000):
        path = tmp_path / f"{size}.bin"
        path.write_bytes(np.random.default_rng(size).bytes(size))
        text = step(IMPORT)["script"].replace(
            "boolean renew =",
            f"println NucliSegResults.fingerprint(Paths.get('{path}')); return\nboolean renew =",
        )
        [said] = qupath_probe.run_steps(folder, {"script": text})
        assert said["text"].strip() == fingerprint(path)


def batch(tmp_path, count=3):
    """Make a project with nuclei beside it for all of its images."""
    images = [image_file(tmp_path, f"{number}.png") for number in range(count)]
    results = [result(image, tmp_path / "parts") for image in images]
    write_files(tmp_path / "p", results, CLASSES)
    install_scripts(tmp_path / "p", *local_engine(None, None))
    return tmp_path / "p"


def test_all_images_of_a_project_at_once(qupath_probe, tmp_path):
    folder = batch(tmp_path)
    (folder / "nucliseg" / "2.geojson.gz").write_bytes(b"\x1f\x8bnothing")
    [said] = qupath_probe.run_steps(folder, step(IMPORT, "all"))
    assert "1 of 3 images were left as they were: 1.png" in said["problem"]
    assert "2.geojson.gz is damaged" in said["text"]
    found = qupath_probe.read_back(folder)["images"]
    assert [len(one["detections"]) for one in found] == [60, 0, 60]


def test_a_damaged_data_file_stops_that_image_only(qupath_probe, tmp_path):
    folder = batch(tmp_path, 2)
    qupath_probe.run_steps(folder, step(IMPORT, "all"))
    data = folder / "data" / "2" / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-1000])
    cut = data.read_bytes()
    [said] = qupath_probe.run_steps(folder, step(IMPORT, "all", "replace"))
    assert "data.qpdata is damaged" in said["text"]
    assert data.read_bytes() == cut


def test_a_result_in_many_files_is_one_event(qupath_probe, tmp_path):
    image = image_file(tmp_path)
    nuclei = some_nuclei(60)
    made = result(image, tmp_path / "parts", nuclei)
    write_files(tmp_path / "p", [made], CLASSES, shard=7)
    [said] = qupath_probe.run_steps(tmp_path / "p", step(IMPORT))
    assert said["problem"] == ""
    assert said["events"] == ["OTHER_STRUCTURE_CHANGE"]
    found = qupath_probe.read_back(tmp_path / "p")["images"][0]["detections"]
    assert {one["id"] for one in found} == set(nucleus_ids(image.name, nuclei))


def test_a_nucleus_that_is_found_again_elsewhere_does_not_cover_a_corrected_one(
    qupath_probe, tmp_path
):
    image = image_file(tmp_path)
    folder = tmp_path / "p"
    write_files(folder, [result(image, tmp_path / "parts")], CLASSES)
    qupath_probe.run_steps(
        folder,
        step(IMPORT),
        code(
            "getDetectionObjects()[0].setLocked(true)\nremoveObject(getDetectionObjects()[1], true)"
        ),
    )
    shifted = some_nuclei(60, shift_px=0.5)
    write_files(folder, [result(image, tmp_path / "parts", shifted)], CLASSES)
    [said] = qupath_probe.run_steps(folder, step(IMPORT, "replace"))
    assert "58 nuclei added, 58 removed" in said["text"]
    found = qupath_probe.read_back(folder)["images"][0]["detections"]
    assert len(found) == 59


# ---- reclassify, doubt, check --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(qupath_probe, tmp_path_factory):
    """Give a project with the nuclei of a small rectangle, found by the real engine."""
    folder = tmp_path_factory.mktemp("small")
    project_with(folder / "p", tissue_image(folder / "a.ome.tif"))
    said = qupath_probe.run_steps(
        folder / "p", draw(50, 50, 220, 220, "area"), step("detect_nuclei.groovy", "scope=all")
    )
    assert said[1]["problem"] == ""
    return folder / "p"


@pytest.fixture
def project(small, tmp_path):
    shutil.copytree(small, tmp_path / "p")
    return tmp_path / "p"


def test_other_thresholds_reclassify_and_a_correction_stays(qupath_probe, project):
    flip = code(
        "def one = getDetectionObjects().max { it.getMeasurements()['Nucleus: DAB OD mean'] }\n"
        "one.setPathClass(getPathClass('Negative')); println one.getID()"
    )
    said = qupath_probe.run_steps(
        project,
        step("reclassify.groovy", "palette=dab", "thresholds=0.05"),
        flip,
        step("reclassify.groovy", "palette=dab", "thresholds=0.02"),
    )
    assert [one["problem"] for one in said] == ["", "", ""]
    hand = said[1]["text"].strip()
    for nucleus in qupath_probe.read_back(project)["images"][0]["detections"]:
        strong = nucleus["measurements"]["Nucleus: DAB OD mean"] >= 0.02
        wanted = "Negative" if nucleus["id"] == hand or not strong else "Positive"
        assert nucleus["class"] == wanted
    [said] = qupath_probe.run_steps(project, step("send_corrections.groovy"))
    assert "1 reclassified" in said["text"], "what the program changed is no correction"


def test_without_a_palette_the_image_keeps_its_own(qupath_probe, project):
    said = qupath_probe.run_steps(
        project,
        step("reclassify.groovy", "palette=dab-intensity"),
        step("reclassify.groovy", "thresholds=0.001,0.002,0.003"),
    )
    assert [one["problem"] for one in said] == ["", ""]
    [found] = qupath_probe.read_back(project)["images"]
    assert found["metadata"]["NucliSeg palette"] == "dab-intensity"
    assert "3+" in {nucleus["class"] for nucleus in found["detections"]}


LABELS = """
Path there = NucliSegFiles.folder(getProjectEntry())
List<String> names = NucliSegPalettes.names(there)
println NucliSegPalettes.labels(there, names + ['dab', '/a/b.toml']).values().join('\\n')
return
ImageData imageData ="""


def test_dialogs_name_the_classes_and_what_tells_them_apart(qupath_probe, project):
    palettes = project / "nucliseg" / "palettes"
    (palettes / "broken.json").write_text("{")
    (palettes / "half.json").write_text('{"format": 1, "rule": "nearest-color", "name": "half"}')
    text = step("reclassify.groovy")["script"].replace("ImageData imageData =", LABELS, 1)
    [said] = qupath_probe.run_steps(project, {"script": text})
    assert said["text"].splitlines() == [
        "broken",
        "Negative / Positive, by DAB OD mean from 0.2 (dab)",
        "Negative / 1+ / 2+ / 3+, by DAB OD mean from 0.2, 0.4, 0.6 (dab-intensity)",
        "half",
        "Negative / Positive, by colour (hsv)",
        "/a/b.toml",
    ]


JSON = """
println NucliSegJson.write([a: "x${1}", b: null, c: [1, 2.5d], 'é': '<"'])
println NucliSegJson.read('{"n": 12345678901, "d": 1.50}').values()*.class*.simpleName
['', '{', '[1,]', "{'a': 1}", '{"a": 1} x', 'hello', '{"a": NaN}'].each {
    try { println NucliSegJson.read(it) } catch (RuntimeException e) { print 'no ' }
}
return
ImageData imageData ="""


def test_scripts_read_json_strictly_and_write_it_in_plain_letters(qupath_probe, project):
    text = step("reclassify.groovy")["script"].replace("ImageData imageData =", JSON, 1)
    [said] = qupath_probe.run_steps(project, {"script": text})
    assert said["text"].splitlines() == [
        r"""{"a":"x1","b":null,"c":[1,2.5],"\u00e9":"<\""}""",
        "[Long, Double]",
        "no " * 7,
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["palette=none"], 'no palette "none"'),
        (["palette=hsv", "thresholds=1"], "has reference colours, no thresholds"),
        (["palette=dab", "thresholds=1,2,3"], "wants 1 rising thresholds"),
        (["palette=dab", "thresholds=much"], "are not numbers"),
        (["colour=red"], '"colour=red" is not known'),
    ],
)
def test_reclassifying_refuses_what_does_not_fit(qupath_probe, project, args, words):
    [said] = qupath_probe.run_steps(project, step("reclassify.groovy", *args))
    assert words in said["problem"]
    assert said["unchanged"]


def test_the_least_sure_nuclei_come_first_and_decisions_stay(qupath_probe, project):
    name = "show_doubtful_nuclei.groovy"
    decide = step(name)["script"].replace(
        "doubt.select()\n",
        "doubt.select()\n"
        "assert doubt.decide(doubt.current().getPathClass())\n"
        "def other = doubt.classes.find { it != doubt.current().getPathClass() }\n"
        "assert doubt.step(1) && doubt.step(-1) && doubt.decide(other)\n"
        "println 'now ' + doubt.line(); return\n",
    )
    said = qupath_probe.run_steps(project, step(name, "count=5"), {"script": decide}, step(name))
    assert [one["problem"] for one in said] == ["", "", ""]
    rows = [line.split("\t") for line in said[0]["text"].splitlines()]
    found = {d["id"]: d for d in qupath_probe.read_back(project)["images"][0]["detections"]}
    margins = sorted(d["measurements"][CLASS_MARGIN] for d in found.values())
    ids = [row[0].split()[-1] for row in rows]
    assert [found[one]["measurements"][CLASS_MARGIN] for one in ids] == margins[:5]
    assert found[ids[0]]["locked"]
    assert found[ids[1]]["locked"]
    assert found[ids[0]]["class"] == rows[0][1]
    assert found[ids[1]]["class"] != rows[1][1]
    assert "now 3 of" in said[1]["text"]
    assert said[2]["text"].split("\t")[0].split()[-1] == ids[2], (
        "what was decided is not shown again"
    )


def test_check_installation_tells_engine_device_and_what_to_mend(qupath_probe, project):
    [said] = qupath_probe.run_steps(project, step(CHECK), save=False)
    assert said["problem"] == ""
    assert "all is well" in said["text"]
    assert "nucliseg-qp 0." in said["text"]
    assert "device: CPU" in said["text"]
    assert said["unchanged"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('No module named nucliseg_qp')", "does not start"),
        ("print('hm')", "answer is not understood"),
        (
            'one = {"name": "model", "status": "fail", "seen": "gone", "fix": "get it"}\n'
            'print(json.dumps({"checks": [one]}))',
            "model: get it",
        ),
    ],
)
def test_check_installation_says_what_is_wrong(qupath_probe, project, body, words):
    use_fake(project, body)
    [said] = qupath_probe.run_steps(project, step(CHECK), save=False)
    assert words in said["problem"]
    use_engine(project, str(project / "gone" / "python"))
    [said] = qupath_probe.run_steps(project, step(CHECK), save=False)
    assert "was not found" in said["problem"]


def test_folders_of_windows_have_another_name_on_the_other_computer(qupath_probe, project):
    ask = "println NucliSegEngine.translated([builder: [uri: '{}']], ['{}': '/mnt/s']).builder.uri"
    body = "\n".join(
        ask.format(*one)
        for one in [
            ("file:///C:/slides/a%20b.svs", "C:\\\\slides"),
            ("file://server/slides/a%20b.svs", "\\\\\\\\server\\\\slides"),
            ("file:////server/slides/a%20b.svs", "\\\\\\\\server\\\\slides"),
            ("file:///other/a%20b.svs", "C:\\\\slides"),
        ]
    )
    script = step("detect_nuclei.groovy")["script"]
    first = "ImageData imageData = getCurrentImageData()"
    [said] = qupath_probe.run_steps(
        project, code(script.replace(first, body + "; return\n" + first))
    )
    assert said["problem"] == ""
    assert said["text"].split() == ["file:///mnt/s/a%20b.svs"] * 3 + ["file:///other/a%20b.svs"]


def test_an_engine_on_another_computer(qupath_probe, tmp_path):
    # In place of ssh: another environment and another name for the folder of the images.
    image = tissue_image(tmp_path / "here é" / "a, b.ome.tif")
    folder = project_with(tmp_path / "p", image)
    (tmp_path / "here é").rename(tmp_path / "there é")
    shutil.copytree(tmp_path / "there é", tmp_path / "here é")
    use_engine(
        folder, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", sys.executable, "-m", "nucliseg_qp",
        remote=True, paths={f"{tmp_path}/here é/": f"{tmp_path}/there é/"},
    )  # fmt: skip
    [said] = qupath_probe.run_steps(folder, step("detect_nuclei.groovy", "scope=image"))
    assert said["problem"] == ""
    assert said["children"] == 0
    found = qupath_probe.read_back(folder)["images"][0]
    assert len(found["detections"]) > 150
