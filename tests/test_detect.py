"""The files of ``detect``: whole, valid, alike, and true to each other."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from importlib import resources
from pathlib import Path

import cv2
import geojson
import numpy as np
import pytest
import shapely
import tifffile
from pyarrow import parquet

from nucliseg_qp.batch import ImageOutcome, Job, SilentWatcher, each_image, named_images
from nucliseg_qp.config import load_settings
from nucliseg_qp.detect import detect_images
from nucliseg_qp.errors import InputError, OutputError, UsageError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.projects.reproduce import open_record

PART = Scope(Region(0, 0, 400, 400))


@pytest.fixture(scope="module")
def results(small_slide, engine, tmp_path_factory) -> tuple[Path, ImageOutcome]:
    folder = tmp_path_factory.mktemp("results")
    return folder, detect_images([small_slide], folder, Job(engine, Scope()))[0]


def read_features(path: Path) -> list[dict]:
    return json.loads(gzip.decompress(path.read_bytes()))["features"]


# --- the files -----------------------------------------------------------------------------------


def test_all_files_are_there_and_no_temporary_one_is_left(results):
    folder, _ = results
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "nuclei/small.geojson.gz",
        "tables/small.parquet",
        "previews/small.jpg",
        "summary.csv",
        "run.json",
    }


def test_the_geojson_is_valid_for_its_own_library_and_for_shapely(results):
    data = gzip.decompress((results[0] / "nuclei" / "small.geojson.gz").read_bytes())
    collection = geojson.loads(data)
    assert collection.is_valid
    polygons = [shapely.geometry.shape(one["geometry"]) for one in collection["features"]]
    assert len(polygons) > 300
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).min() > 0
    assert all(one["properties"]["objectType"] == "detection" for one in collection["features"])


def test_table_geojson_summary_and_record_tell_the_same(results):
    folder, outcome = results
    features = read_features(folder / "nuclei" / "small.geojson.gz")
    table = parquet.read_table(folder / "tables" / "small.parquet")
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))["images"][0]
    classes = Counter(one["properties"]["classification"]["name"] for one in features)
    assert table.num_rows == len(features) == int(row["nuclei"]) == outcome.nuclei
    assert table["id"].to_pylist() == [one["id"] for one in features]
    assert table["class"].to_pylist() == [
        one["properties"]["classification"]["name"] for one in features
    ]
    assert {name: int(row[f"Num {name}"]) for name in record["counts"]} == record["counts"]
    assert {name: number for name, number in record["counts"].items() if number} == classes
    positive = 100 * classes["Positive"] / len(features)
    assert float(row["Positive %"]) == pytest.approx(positive, abs=1e-3)


def test_measurements_in_geojson_and_table_are_equal(results):
    folder, _ = results
    features = read_features(folder / "nuclei" / "small.geojson.gz")
    table = parquet.read_table(folder / "tables" / "small.parquet")
    for name in features[0]["properties"]["measurements"]:
        told = [one["properties"]["measurements"].get(name, np.nan) for one in features]
        assert np.float32(told) == pytest.approx(table[name].to_numpy(), nan_ok=True), name


def test_the_record_says_how_to_repeat_the_run(results, small_slide, engine):
    record = json.loads((results[0] / "run.json").read_text(encoding="utf-8"))
    assert record["program"].startswith("nucliseg_qp ")
    assert record["packages"]["torch"] != "not installed"
    assert record["model"]["sha256"] == engine.runner.info.sha256
    assert record["device"]["name"] == "cpu"
    assert record["seconds"] > 0
    image = record["images"][0]
    assert Path(image["path"]) == small_slide.resolve()
    assert (image["width_px"], image["height_px"], image["mpp"]) == (1024, 1024, 0.25)
    assert image["mpp_source"]
    assert (image["tiles_done"], image["tiles_failed"], image["windows_failed"]) == (1, 0, 0)
    assert image["status"] == "done"
    assert load_settings(None, record["settings"]) == engine.settings


def test_a_run_with_a_palette_of_ones_own_is_repeated_from_anywhere(
    small_slide, tmp_path, monkeypatch
):
    shipped = resources.files("nucliseg_qp.palette").joinpath("presets", "hsv.toml")
    own = tmp_path / "ours.toml"
    own.write_bytes(shipped.read_bytes())
    monkeypatch.chdir(tmp_path)
    engine = Engine.start(load_settings(None, {"classes": {"palette": "ours.toml"}}))
    detect_images([small_slide], tmp_path / "out", Job(engine, PART))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    repetition = open_record(tmp_path / "out" / "run.json")
    assert not repetition.warnings
    own.write_text(own.read_text().replace("Positive", "Ki-67"))
    assert open_record(tmp_path / "out" / "run.json").warnings == [
        "the palette ours was edited after the run"
    ]


def test_the_preview_shows_outlines_in_class_colours(results):
    picture = cv2.imread(str(results[0] / "previews" / "small.jpg"))[:, :, ::-1].astype(int)
    assert picture.shape[0] == picture.shape[1] >= 1024
    blue = (picture[..., 2] > 180) & (picture[..., 0] < 130) & (picture[..., 1] < 130)
    red = (picture[..., 0] > 180) & (picture[..., 1] < 130) & (picture[..., 2] < 130)
    assert blue.mean() > 0.005
    assert red.mean() > 0.005


def test_two_runs_give_the_same_bytes(results, small_slide, engine, tmp_path):
    detect_images([small_slide], tmp_path, Job(engine, Scope()))
    for name in ("nuclei/small.geojson.gz", "tables/small.parquet", "previews/small.jpg"):
        assert (tmp_path / name).read_bytes() == (results[0] / name).read_bytes(), name


def test_a_second_run_replaces_the_first_and_its_shards(small_slide, tmp_path, engine):
    sharded = Engine.start(load_settings(None, {"output": {"shard": 10}}))
    detect_images([small_slide], tmp_path, Job(sharded, PART))
    parts = sorted((tmp_path / "nuclei").iterdir())
    assert len(parts) > 2
    one_file = detect_images([small_slide], tmp_path, Job(engine, PART))[0]
    assert [path.name for path in (tmp_path / "nuclei").iterdir()] == ["small.geojson.gz"]
    assert len(read_features(tmp_path / "nuclei" / "small.geojson.gz")) == one_file.nuclei


def test_an_image_named_like_a_shard_keeps_its_nuclei_in_a_later_run(small_slide, tmp_path, engine):
    for name in ("a.001.ome.tif", "a.ome.tif"):
        (tmp_path / name).symlink_to(small_slide)
        detect_images([tmp_path / name], tmp_path / "out", Job(engine, PART))
    names = {path.name for path in (tmp_path / "out" / "nuclei").iterdir()}
    assert names == {"a.001.geojson.gz", "a.geojson.gz"}


def test_an_image_without_nuclei_has_files_too(tmp_path, engine):
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, np.full((300, 300, 3), 255, np.uint8), photometric="rgb")
    outcome = detect_images([path], tmp_path / "out", Job(engine, Scope(), 0.25))[0]
    assert (outcome.status, outcome.nuclei) == ("done", 0)
    assert read_features(tmp_path / "out" / "nuclei" / "white.geojson.gz") == []
    assert parquet.read_table(tmp_path / "out" / "tables" / "white.parquet").num_rows == 0
    assert cv2.imread(str(tmp_path / "out" / "previews" / "white.jpg")) is not None
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["nuclei"], row["Positive %"], row["status"]) == ("0", "", "done")


# --- damaged images ------------------------------------------------------------------------------


def damage(source: Path, target: Path, level: int, tile: int) -> Path:
    """Copy a slide and spoil one of its tiles."""
    data = bytearray(source.read_bytes())
    with tifffile.TiffFile(source) as tiff:
        page = tiff.series[0].levels[level].keyframe
        start, size = page.dataoffsets[tile], page.databytecounts[tile]
    data[start : start + size] = b"\xde\xad" * (size // 2) + b"\0" * (size % 2)
    target.write_bytes(data)
    return target


def test_a_damaged_tile_costs_its_neighbourhood_not_the_image(dense_slide, tmp_path, engine):
    # The outlines are made from level 1, the preview from level 0.
    path = damage(dense_slide[0], tmp_path / "damaged.ome.tif", 0, 0)
    damage(path, path, 1, 0)
    small = {"tiles": {"size_px": 256}, "keypoints": {"window_px": 384}}
    engine = Engine.start(load_settings(None, small))
    outcome = detect_images([path], tmp_path / "out", Job(engine, Scope()))[0]
    assert (outcome.status, outcome.exit_code) == ("incomplete", 1)
    assert "damaged.ome.tif" in outcome.problem
    features = read_features(tmp_path / "out" / "nuclei" / "damaged.geojson.gz")
    places = np.array([one["geometry"]["coordinates"][0][0] for one in features])
    assert len(features) == outcome.nuclei > 600
    assert not ((places < 400).all(axis=1)).any()
    assert (places > 1600).all(axis=1).any()
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["Positive %"]) == ("incomplete", "")
    assert int(row["nuclei"]) == outcome.nuclei
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["images"][0]["tiles_failed"] >= 1
    picture = cv2.imread(str(tmp_path / "out" / "previews" / "damaged.jpg"))
    assert abs(picture[100, 100].astype(int) - 160).max() < 12  # grey where it is unreadable
    assert picture[-100:, -100:].std() > 20


def test_a_damaged_overview_leaves_the_image_incomplete(dense_slide, tmp_path, engine):
    path = damage(dense_slide[0], tmp_path / "overview.ome.tif", 1, 3)
    outcome = detect_images([path], tmp_path / "out", Job(engine, Scope()))[0]
    assert (outcome.status, outcome.exit_code) == ("incomplete", 1)
    assert "the overview" in outcome.problem
    assert outcome.row()["Positive %"] is None


def test_a_file_that_becomes_shorter_in_the_middle_gets_no_score(dense_slide, tmp_path):
    path = tmp_path / "shrinking.ome.tif"
    path.write_bytes(dense_slide[0].read_bytes())

    class Cutting(SilentWatcher):
        def stage(self, name: str, total: int) -> None:  # noqa: ARG002
            if name == "outlines":
                with path.open("r+b") as file:
                    file.truncate(1000)

    # A small preview, so that the pixels are not yet in memory when they vanish.
    settings = load_settings(None, {"tiles": {"size_px": 256}, "output": {"preview_px": 256}})
    outcome = detect_images(
        [path], tmp_path / "out", Job(Engine.start(settings), Scope()), Cutting()
    )[0]
    assert outcome.status in ("incomplete", "failed")
    assert outcome.exit_code > 0
    assert "shrinking.ome.tif" in outcome.problem
    assert outcome.row()["Positive %"] is None
    written = (tmp_path / "out" / "nuclei" / "shrinking.geojson.gz").exists()
    assert written == (outcome.status == "incomplete")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_image_that_vanishes_before_its_turn_does_not_stop_the_others(
    small_slide, tmp_path, engine
):
    paths = [tmp_path / f"{name}.ome.tif" for name in "abc"]
    for path in paths:
        path.write_bytes(small_slide.read_bytes())

    class Removing(SilentWatcher):
        def finished(self, outcome: ImageOutcome) -> None:  # noqa: ARG002
            paths[1].unlink(missing_ok=True)

    outcomes = detect_images(paths, tmp_path / "out", Job(engine, PART), Removing())
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].exit_code == 3
    assert "b.ome.tif does not exist" in outcomes[1].problem
    assert not outcomes[1].counts
    assert not (tmp_path / "out" / "nuclei" / "b.geojson.gz").exists()


# --- the batch -----------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_ends_the_run_at_once(small_slide, engine):
    begun = []

    def work(_analysis, outcome):
        begun.append(outcome.path)
        raise OutputError("the disk is full", "Free some space.")

    with pytest.raises(OutputError):
        list(each_image([small_slide, small_slide], Job(engine, PART), work, SilentWatcher()))
    assert len(begun) == 1


def test_images_are_named_by_their_stem_without_double_suffix():
    named = named_images([Path("a.ome.tif"), Path("b.svs"), Path("d/c.x.tiff"), Path("a.ome.tif")])
    assert list(named) == ["a", "b", "c.x"]


@pytest.mark.parametrize("other", ["x/a.tif", "A.svs", "a.ome.tiff", "a.001.png"])
def test_images_that_would_share_their_files_are_refused(other):
    with pytest.raises(UsageError, match="same files"):
        named_images([Path("a.tif"), Path(other)])
    with pytest.raises(UsageError, match="same files"):
        named_images([Path(other), Path("a.tif")])


def test_patterns_the_shell_left_alone_are_understood_as_on_windows(tmp_path):
    for name in ("b.svs", "a.svs", "c[1].svs", "d.txt"):
        (tmp_path / name).touch()
    assert list(named_images([tmp_path / "*.svs"])) == ["a", "b", "c[1]"]
    assert list(named_images([tmp_path / "c[1].svs"])) == ["c[1]"]
    assert list(named_images([tmp_path / "*.ndpi"])) == ["*"]


def test_a_shard_like_name_alone_is_fine():
    assert list(named_images([Path("a.001.tif"), Path("a.002.tif")])) == ["a.001", "a.002"]


def test_a_name_that_is_not_text_is_refused():
    with pytest.raises(InputError, match="UTF-8"):
        named_images([Path("a\udcff.tif")])
