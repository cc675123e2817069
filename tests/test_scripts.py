"""Scripts into a project, the engine's place, and the engine as scripts start it: no QuPath."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import numpy as np
import pytest
from script_samples import project_with, tissue_image

from nucliseg_qp.cli import run
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.palette.classes import available_palettes, load_palette
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.qupath.engine_place import local_engine, remote_engine
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.qupath.scripts import SCRIPT_NAMES, groovy_source
from nucliseg_qp.request import parse_request

MODULE = ["-I", "-m", "nucliseg_qp"]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return tissue_image(tmp_path_factory.mktemp("i") / "a b, 'c' é.ome.tif")


def test_install_puts_scripts_palettes_and_the_engine_into_a_project(tmp_path, capsys):
    folder = project_with(tmp_path / "p é, 'q'")
    for name in SCRIPT_NAMES:
        assert (folder / "scripts" / name).read_text(encoding="utf-8") == groovy_source(name)
    stored = {path.stem for path in (folder / "nucliseg" / "palettes").glob("*.json")}
    assert stored == set(available_palettes())
    mine = folder / "scripts" / SCRIPT_NAMES[0]
    mine.write_text("// mine")
    assert run(["scripts", "install", str(folder / "project.qpproj")]) == 0
    assert mine.read_text(encoding="utf-8") == groovy_source(SCRIPT_NAMES[0])
    assert mine.with_name(mine.name + ".backup").read_text() == "// mine"
    assert str(mine) in capsys.readouterr().out


def test_install_wants_a_project(tmp_path, capsys):
    assert run(["scripts", "install", str(tmp_path)]) == 5
    assert "File > Project > Create project" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_every_system_keeps_its_own_engine(tmp_path):
    folder = project_with(tmp_path / "p")
    place = "C:\\Program Files\\nqp, env"
    assert run(["scripts", "install", str(folder), "--engine", place]) == 0
    assert run(["scripts", "install", str(folder), "--engine", "/opt/x", "--system", "mac"]) == 0
    engines = json.loads((folder / "nucliseg" / "engine.json").read_text())["engines"]
    assert engines["windows"]["command"] == [f"{place}\\python.exe", *MODULE]
    assert engines["mac"]["command"] == ["/opt/x/bin/python", *MODULE]
    assert any(one["command"][0] == sys.executable for one in engines.values())


@pytest.mark.parametrize(
    ("place", "system", "python"),
    [
        ("/opt/env/", None, "/opt/env/bin/python"),
        ("/opt/env/bin/python3.12", None, "/opt/env/bin/python3.12"),
        ("D:\\e\\Scripts\\python.exe", None, "D:\\e\\Scripts\\python.exe"),
        ("\\\\server\\envs\\n", None, "\\\\server\\envs\\n\\python.exe"),
    ],
)
def test_an_environment_is_told_by_its_path(place, system, python):
    found, engine = local_engine(place, system)
    assert engine["command"][0] == python
    assert (found == "windows") == ("\\" in place)


def test_a_remote_engine(tmp_path):
    folder = project_with(tmp_path / "p")
    words = ["--remote", "ssh 'gpu 1' /opt/nqp", "--path-map", "/Volumes/s=/mnt/s"]
    assert run(["scripts", "install", str(folder), *words]) == 0
    engines = json.loads((folder / "nucliseg" / "engine.json").read_text())["engines"]
    assert engines["any"] == {
        "command": ["ssh", "gpu 1", "/opt/nqp"],
        "remote": True,
        "paths": {"/Volumes/s": "/mnt/s"},
    }
    assert set(engines) == {"any"}, "a local engine would win over it"
    assert run(["scripts", "install", str(folder), *words, "--engine", "/x"]) == 2
    assert run(["scripts", "install", str(folder), "--remote", "x", "--path-map", "rubbish"]) == 2
    with pytest.raises(UsageError):
        remote_engine([], {})


def test_the_list_names_every_script(capsys):
    assert run(["scripts", "list"]) == 0
    out = capsys.readouterr().out
    for name in SCRIPT_NAMES:
        assert name.removesuffix(".groovy") in out


@pytest.mark.parametrize("name", available_palettes())
def test_a_palette_loses_no_digit_on_its_way(name):
    palette = load_palette(name)
    content = json.loads(json.dumps(palette_json(palette)))
    assert [one["name"] for one in content["classes"]] == list(palette.names)
    if content["rule"] == "nearest-color":
        assert np.array_equal(np.array(content["references"]), palette.rule.references)
        assert content["owners"] == palette.rule.owners.tolist()
    else:
        assert content["thresholds"] == palette.rule.thresholds.tolist()


# ---- the engine ----------------------------------------------------------------------------------


def request(image, **changes):
    about = {
        "builder": {"builderType": "uri", "uri": image.as_uri(), "args": []},
        "width_px": 512,
        "height_px": 512,
    }
    settings = {"keypoints": {"device": "cpu"}, "work": {"workers": 1}}
    return {"format": 1, "image": {**about, **changes}, "settings": settings}


def ask(words, *args):
    command = [sys.executable, "-m", "nucliseg_qp", "run-request", *args]
    text = words.encode() if words is not None else None
    ended = subprocess.run(command, input=text, capture_output=True, check=False)
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


def test_progress_comes_as_lines_and_the_result_as_a_whole_folder(tmp_path, image):
    path = tmp_path / "request.json"
    path.write_text(json.dumps({**request(image), "output": str(tmp_path / "out"), "shard": 50}))
    code, events = ask(None, str(path))
    assert code == 0
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["hello", "engine"]
    assert kinds[-1] == "result"
    told = [event for event in events if event["event"] == "progress"]
    assert told[-1]["done"] == told[-1]["total"]
    assert told[-1]["nuclei"] == events[-1]["nuclei"]
    assert any(event["seconds_left"] is not None for event in told)
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert len(result["files"]) > 2
    number = 0
    for one in result["files"]:
        file = tmp_path / "out" / one["name"]
        assert file.stat().st_size == one["bytes"]
        number += len(read_geojson(file).ids)
    assert number == result["nuclei"] == sum(result["counts"].values()) > 150
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json",
        *(one["name"] for one in result["files"]),
    }


def test_a_remote_engine_sends_its_files_itself(image, tmp_path):
    code, events = ask(json.dumps(request(image)) + "\n", "-")
    assert code == 0
    for event in events:
        if event["event"] == "file":
            with (tmp_path / event["name"]).open("ab") as file:
                file.write(base64.b64decode(event["base64"]))
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert len(read_geojson(tmp_path / "nuclei.geojson.gz").ids) == result["nuclei"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"width_px": 500}, 5, "QuPath sees 500 x 512 px"),
        ({"builder": {"builderType": "pyramidize"}}, 5, "pyramidize"),
        ({"builder": {"builderType": "uri", "uri": "https://x/y.svs"}}, 5, "is not there"),
        ({"mpp_x": 900.0}, 3, "900"),
        ({"mpp_x": -1}, 2, "mpp_x"),
        ({"rubbish": 1}, 2, "rubbish"),
    ],
)
def test_a_request_that_cannot_be_is_answered_with_what_to_do(tmp_path, image, change, code, words):
    content = {**request(image, **change), "output": str(tmp_path / "out")}
    (tmp_path / "r.json").write_text(json.dumps(content))
    ended, events = ask(None, str(tmp_path / "r.json"))
    assert ended == code
    assert events[-1]["event"] == "error"
    assert events[-1]["exit_code"] == code
    assert words in events[-1]["message"]
    assert events[-1]["hint"]
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_request_of_another_version_is_refused(image):
    with pytest.raises(UsageError, match="format"):
        parse_request(json.dumps({**request(image), "format": 2}).encode())
    with pytest.raises(UsageError, match="JSON"):
        parse_request(b"{")


def test_a_part_of_a_turned_image_is_found_where_qupath_shows_it(tmp_path, image):
    from nucliseg_qp.pipeline import Silent
    from nucliseg_qp.serve import run_request

    plain = {"builderType": "uri", "uri": image.as_uri(), "args": []}
    turned = {"builderType": "rotated", "builder": plain, "rotation": "ROTATE_180"}
    box = [[100, 150], [300, 150], [300, 350], [100, 350], [100, 150]]
    back = [[512 - x, 512 - y] for x, y in box]
    places = []
    for name, builder, ring in [("plain", plain, box), ("turned", turned, back)]:
        regions = {"type": "Polygon", "coordinates": [ring]}
        asked = {**request(image, builder=builder), "regions": regions}
        parsed = parse_request(json.dumps(asked).encode())
        content = run_request(parsed, tmp_path / name, Silent(), lambda _: None)
        nuclei = read_geojson(tmp_path / name / content["files"][0]["name"]).nuclei
        places.append(np.stack([nuclei.x, nuclei.y], axis=1))
    there = 512 - places[1]
    near = [np.abs(there - one).max(axis=1).min() for one in places[0]]
    assert len(places[0]) > 20
    # The network sees another image, so it does not find each nucleus again.
    assert np.median(near) < 1


def test_regions_that_are_none_are_refused(tmp_path, image):
    from nucliseg_qp.pipeline import Silent
    from nucliseg_qp.serve import run_request

    asked = {**request(image), "regions": {"type": "Point", "coordinates": [1, 2]}}
    parsed = parse_request(json.dumps(asked).encode())
    with pytest.raises(InputError, match="no polygon"):
        run_request(parsed, tmp_path, Silent(), lambda _: None)
