"""The sample projects can be made anew and hold what their expected counts say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

MAKER = Path(__file__).parents[1] / "sample_projects" / "make_samples.py"
RENEW = (
    "after a change of model or defaults: python sample_projects/make_samples.py SAMPLE . --renew"
)
TOLERANCE = 0.02
"""Of the nuclei of an image: with bfloat16 a few at the threshold differ between machines."""


def load_maker():
    spec = importlib.util.spec_from_file_location("make_samples", MAKER)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules["make_samples"] = module
    spec.loader.exec_module(module)
    return module


maker = load_maker()


@pytest.fixture(scope="module", params=list(maker.SAMPLES))
def made(request, tmp_path_factory):
    """Give the folder of a sample, its counts and those expected."""
    folder = tmp_path_factory.mktemp(request.param)
    counts = maker.make_sample(request.param, folder)
    return folder, counts, json.loads(maker.expected_path(request.param).read_text())


def test_the_images_hold_the_nuclei_they_should(made):
    _, counts, expected = made
    assert {name: one["truth"] for name, one in counts.items()} == {
        name: one["truth"] for name, one in expected.items()
    }


def test_as_many_nuclei_are_found_as_expected(made):
    _, counts, expected = made
    for name, one in counts.items():
        allowed = max(2, TOLERANCE * sum(expected[name]["found"].values()))
        for kind, number in one["found"].items():
            assert abs(number - expected[name]["found"][kind]) <= allowed, f"{name} {kind}. {RENEW}"


def test_what_is_found_is_near_the_truth(made):
    _, counts, _ = made
    for name, one in counts.items():
        shares = [each["Positive"] / sum(each.values()) for each in (one["truth"], one["found"])]
        assert abs(shares[0] - shares[1]) < 0.05, f"positive % of {name} is 5 points off"


def test_the_sample_is_small_and_complete(made):
    folder, counts, _ = made
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3_000_000
    project = json.loads((folder / "project" / "project.qpproj").read_text())
    assert [image["imageName"] for image in project["images"]] == list(counts)


@pytest.mark.qupath
def test_qupath_opens_the_sample_and_counts_the_same(made, qupath_probe):
    folder, counts, _ = made
    script = folder / "project" / "scripts" / "import_nuclei.groovy"
    answer = qupath_probe.run_script(folder / "project", script.read_text(encoding="utf-8"))
    assert answer["problems"] == []
    for image in qupath_probe.project(folder / "project")["images"]:
        classes = [detection["class"] for detection in image["detections"]]
        found = counts[image["name"]]["found"]
        assert {kind: classes.count(kind) for kind in found} == found
