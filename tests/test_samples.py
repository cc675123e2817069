"""The sample projects can be made anew, are what their expected counts say, and unpack anywhere."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from collections import Counter
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nucliseg_qp.cli import run
from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.projects.samples import PLACE, copy_sample, list_samples
from nucliseg_qp.qupath.entries import local_path
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.review.calibrate import calibrate
from nucliseg_qp.review.collect import collect

ROOT = Path(__file__).parents[1]
MAKER = ROOT / "sample_projects" / "make_samples.py"
RENEW = "after a change of model or defaults: python sample_projects/make_samples.py --renew"
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
    """Give the name of a sample, a folder in which it was made anew, its counts, those expected."""
    folder = tmp_path_factory.mktemp(request.param)
    counts = maker.make_sample(request.param, folder, "files")
    return request.param, folder, counts, json.loads(maker.expected_path(request.param).read_text())


@pytest.fixture(scope="module")
def copied(made, tmp_path_factory):
    """Give the folder into which the same sample was unpacked."""
    folder = tmp_path_factory.mktemp("it's a copy, ö") / "sample"
    copy_sample(made[0], folder)
    return folder


def project_of(folder: Path) -> ProjectFile:
    return ProjectFile(ProjectFolder(folder / "project"))


def test_the_images_hold_the_nuclei_they_should(made):
    _, _, counts, expected = made
    for part in ("truth", "truth_scores"):
        drawn, told = ({n: c.get(part) for n, c in both.items()} for both in (counts, expected))
        assert drawn == told


def test_as_many_nuclei_are_found_as_expected(made):
    _, _, counts, expected = made
    for name, one in counts.items():
        allowed = max(2, TOLERANCE * sum(expected[name]["found"].values()))
        for kind, number in one["found"].items():
            assert abs(number - expected[name]["found"][kind]) <= allowed, f"{name} {kind}. {RENEW}"


def test_what_is_found_is_near_the_truth(made):
    sample, _, counts, expected = made
    for name, one in counts.items():
        both = (one["truth"], one["found"])
        shares = [1 - each["Negative"] / sum(each.values()) for each in both]
        if maker.SAMPLES[sample].reviewed:
            assert shares[0] - shares[1] > 0.1, f"{name}: there is nothing to learn from a review"
        else:
            assert abs(shares[0] - shares[1]) < 0.05, f"positive % of {name} is 5 points off"
        if "found_scores" in one:
            scores = expected[name]["truth_scores"], one["found_scores"]
            assert abs(scores[0]["h_score"] - scores[1]["h_score"]) < 15, name
            assert scores[0]["allred_score"] == scores[1]["allred_score"], name


def test_the_images_that_are_kept_are_those_of_the_script(made, copied):
    _, folder, counts, _ = made
    for name in counts:
        kept, drawn = (tifffile.imread(one / "images" / name) for one in (copied, folder))
        assert kept.shape == drawn.shape
        # Other versions of the libraries may round another way, no more.
        assert np.abs(kept.astype(int) - drawn).mean() < 0.5, RENEW


def test_the_project_that_is_kept_holds_the_run_that_is_expected(made, copied):
    _, _, _, expected = made
    project = project_of(copied)
    assert [entry.path.name for entry in project.entries] == list(expected)
    for entry in project.entries:
        assert entry.path.is_file()
        [ledger] = (copied / "project" / "nucliseg").glob(f"{entry.id}.*.ledger.gz")
        rows = gzip.decompress(ledger.read_bytes()).decode().splitlines()
        run_classes = Counter(row.split("\t")[1] for row in rows if "\t" in row)
        found = {kind: n for kind, n in expected[entry.path.name]["found"].items() if n}
        assert {kind: run_classes[kind] for kind in found} == found, RENEW
        assert (copied / "project" / "data" / str(entry.id) / "data.qpdata").is_file()


def test_the_readme_of_er_scores_tells_what_was_drawn():
    text = (maker.HERE / "er_scores" / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    told = {name.strip("`"): [float(cell) for cell in cells] for name, *cells in rows}
    expected = json.loads(maker.expected_path("er_scores").read_text())
    assert told == {
        name: [*map(float, one["truth"].values()), *map(float, one["truth_scores"].values())]
        for name, one in expected.items()
    }


@pytest.mark.parametrize("sample", list(maker.SAMPLES))
def test_the_readme_runs_as_written(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (maker.HERE / sample / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) >= 2
    for line in lines:
        program, *words = (
            one for word in shlex.split(line) for one in sorted(glob(word)) or [word]
        )
        assert program == "nucliseg-qp"
        assert run(words) == 0, line


def test_the_review_that_is_kept_teaches_a_better_palette(tmp_path):
    copy_sample("review_round_trip", tmp_path / "sample")
    review = collect(tmp_path / "sample" / "project", tmp_path / "review", sent=True)
    expected = json.loads(maker.expected_path("review_round_trip").read_text())
    changed = {local_path(one.uris[0]).name: dict(one.counts) for one in review.images}
    assert changed == {name: one["changed"] for name, one in expected.items()}
    assert all(local_path(one.uris[0]).is_file() for one in review.images)
    learnt = calibrate([review], load_palette("dab"), "pale-dab")
    assert learnt.changed
    assert learnt.new.accuracy > learnt.old.accuracy + 0.05
    assert learnt.new.accuracy > 0.95


def test_samples_are_small_and_name_no_place(copied):
    files = [path for path in copied.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert not [path for path in files if PLACE.encode() in path.read_bytes()]


def test_every_sample_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in maker.SAMPLES:
        assert shipped[f"sample_projects/{name}"] == f"nucliseg_qp/sample_projects/{name}"


def test_the_list_describes_every_sample(capsys):
    assert {one.name for one in list_samples()} == set(maker.SAMPLES)
    assert run(["sample", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["samples"]
    for one in told:
        assert one["images"] == len(maker.SAMPLES[one["name"]].images)
        assert 100_000 < one["size_bytes"] < 1_000_000
    assert run(["sample", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(one["name"] in shown and one["description"] in shown for one in told)


def test_copy_takes_the_name_of_the_sample_for_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["sample", "copy", "er_scores"]) == 0
    told = Path(capsys.readouterr().out.strip())
    assert told == tmp_path / "er_scores" / "project" / "project.qpproj"
    assert told.is_file()
    assert {one.name for one in (tmp_path / "er_scores").iterdir()} == {
        "README.md", "expected_counts.json", "images", "project",
    }  # fmt: skip


def test_an_unknown_sample_is_told_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"'er_score'.*er_scores, ki67_synthetic, review_round"):
        copy_sample("er_score", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_is_unpacked_over_files_of_others(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        copy_sample("er_scores", tmp_path)
    with pytest.raises(OutputError, match="it is a file, not a folder"):
        copy_sample("er_scores", tmp_path / "mine.txt")
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"cannot be written .Permission denied"):
        copy_sample("er_scores", tmp_path / "x")


def test_the_report_of_a_copy_shows_the_scores_without_a_run(tmp_path, capsys):
    project = copy_sample("er_scores", tmp_path / "er").parent
    assert run(["report", str(project)]) == 0, capsys.readouterr().err
    with (project / "nucliseg" / "report" / "images.csv").open(encoding="utf-8") as file:
        told = {row["image"]: float(row["H-score"]) for row in csv.DictReader(file)}
    expected = json.loads(maker.expected_path("er_scores").read_text())
    scores = {name: one["found_scores"]["h_score"] for name, one in expected.items()}
    assert told == pytest.approx(scores, abs=0.06)
    page = (project / "nucliseg" / "report" / "report.html").read_text(encoding="utf-8")
    assert "saved after its nuclei were counted" not in page, "copying is not saving"


@pytest.mark.qupath
def test_qupath_and_paquo_open_a_copy_at_once(made, copied, qupath_probe):
    _, _, counts, expected = made
    seen = qupath_probe.project(copied / "project")["images"]
    assert [Path(image["uri"][0]).name for image in seen] == list(counts)
    for image in seen:
        one = expected[Path(image["uri"][0]).name]
        assert image["type"] == "BRIGHTFIELD_H_DAB"
        assert image["mpp"] == pytest.approx(0.25)
        classes = Counter(detection["class"] for detection in image["detections"])
        changed = one.get("changed", {})
        gone = changed.get("deleted", 0) - changed.get("added", 0)
        assert classes.total() == sum(one["found"].values()) - gone
        if not changed:
            assert {kind: classes[kind] for kind in one["found"]} == one["found"]
    names = [image["name"] for image in qupath_probe.read_back(copied / "project")["images"]]
    assert names == [image["name"] for image in seen]
