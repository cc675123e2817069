"""A profile can be sent to a stranger: what a run cost, and nothing about whom it was for."""

from __future__ import annotations

import json
import shutil

import pytest

from nucliseg_qp.cli import run
from nucliseg_qp.errors import OutputError
from nucliseg_qp.profile import Profile

SECRET = "Miller_Anna_1961"


@pytest.fixture(scope="module")
def profiled(small_slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp(SECRET)
    image = folder / f"{SECRET}.ome.tif"
    shutil.copy(small_slide, image)
    palette = folder / f"{SECRET}.toml"
    write_palette(palette)
    for name, more in (("plain", []), ("profiled", ["--profile", str(folder / "p.json")])):
        out = str(folder / name)
        assert run(["detect", str(image), "-o", out, "--palette", str(palette), *more]) == 0
    return folder


def write_palette(path):
    from nucliseg_qp.palette import classes

    presets = classes.__file__.replace("classes.py", "presets")
    shutil.copy(f"{presets}/dab.toml", path)


def test_the_profile_names_no_patient_and_no_path(profiled, small_slide):
    text = (profiled / "p.json").read_text("utf-8")
    assert SECRET not in text
    assert str(profiled.parent) not in text
    assert small_slide.name not in text


def test_the_stages_add_up_to_the_run(profiled):
    record = json.loads((profiled / "p.json").read_text("utf-8"))
    stages = record["stages"]
    assert set(stages) >= {"start of the engine", "tissue", "statistics", "keypoints", "outlines"}
    for total in ("seconds", "cpu_seconds"):
        parts = sum(stage[total] for stage in stages.values())
        assert parts == pytest.approx(record[total], abs=0.02)
    assert 0 < stages["outlines"]["waiting_seconds"] <= stages["outlines"]["seconds"]
    assert stages["outlines"]["pieces"] == 1
    assert record["peak_memory_mb"] is None or record["peak_memory_mb"] > 50
    [image] = record["images"]
    assert (image["status"], image["width_px"]) == ("done", 1024)
    assert image["nuclei"] == record["nuclei"] > 300


def test_measuring_changes_no_result(profiled):
    one, other = (
        (profiled / name / "nuclei" / f"{SECRET}.geojson.gz").read_bytes()
        for name in ("plain", "profiled")
    )
    assert one == other


def test_annotate_takes_a_profile_too(small_slide, tmp_path):
    arguments = ["--project", str(tmp_path / "project"), "--writer", "files"]
    profile = tmp_path / "p.json"
    code = run(
        ["annotate", str(small_slide), *arguments, "--region", "0,0,300,300",
         "--profile", str(profile)]
    )  # fmt: skip
    assert code == 0
    assert json.loads(profile.read_text("utf-8"))["nuclei"] > 10


def test_a_profile_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Profile().write(tmp_path / "file" / "p.json", None)
