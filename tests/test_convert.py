"""Training data comes out where the nuclei are, split by slide, and broken data stops by name."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
import orjson
import pytest
from qupath_samples import CLASSES, image_file, result, some_nuclei

from nucliseg_qp.cli import run
from nucliseg_qp.convert import format_of, read_source
from nucliseg_qp.errors import InputError, NucliSegError, OutputError, QuPathError, UsageError
from nucliseg_qp.qupath.files import write_files
from nucliseg_qp.qupath.scripts import IMPORT_NUCLEI, groovy_source
from nucliseg_qp.qupath.truth import read_project
from nucliseg_qp.training.coco import read_coco
from nucliseg_qp.training.convert import convert
from nucliseg_qp.training.convert_endonuke import consensus
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.splits import assign_splits, grouping, load_splits
from nucliseg_qp.training.tables import read_table

if TYPE_CHECKING:
    from pathlib import Path

DOTS = np.array([[20.0, 30.0], [100.5, 64.5], [250.0, 12.0], [300.0, 190.0], [255.9, 128.0]])
WIDTH, HEIGHT = 320, 200


def dotted(folder: Path, name: str = "a.png", points=DOTS, size=(WIDTH, HEIGHT)) -> Path:
    """Write a grey image with a black disc at each point."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    for x, y in points:
        at = round((x - 0.5) * 16), round((y - 0.5) * 16)
        cv2.circle(image, at, 4 * 16, (0, 0, 0), -1, shift=4)
    cv2.imwrite(str(folder / name), image)
    return folder / name


def point_list(folder: Path, points=DOTS, names=("a.png",)) -> Path:
    for name in names:
        dotted(folder / "images", name, points)
    rows = [[x, y, "Positive" if x > 200 else None] for x, y in np.asarray(points).tolist()]
    (folder / "points.json").write_text(json.dumps(dict.fromkeys(names, rows)))
    return folder


def made(source: Path, out: Path, **settings):
    given = {"name": "set", "image_mpp": 0.25, "group_by": "image", **settings}
    areas = given.pop("areas", None)
    return convert(read_source(source, area=areas), ConvertSettings(out=out, **given))


def darkness(tile) -> list[int]:
    image, points = tile.item.image, tile.item.points.astype(int)
    height, width = image.shape[:2]
    return [int(image[min(y, height - 1), min(x, width - 1)].max()) for x, y in points]


# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.4])
def test_every_nucleus_is_in_one_tile_on_its_own_pixels(tmp_path: Path, mpp: float):
    report = made(point_list(tmp_path / "in"), tmp_path / "out", mpp=mpp, tile_px=64)
    tiles = read_coco(tmp_path / "out")
    assert report.nuclei == sum(len(tile.item.points) for tile in tiles) == len(DOTS)
    assert all(value < 90 for tile in tiles for value in darkness(tile))
    classes = [name for tile in tiles for name in tile.classes]
    assert sorted(classes, key=str) == [None, None, "Positive", "Positive", "Positive"]


def test_resize_makes_one_tile_of_an_image_and_keeps_its_pixel_size(tmp_path: Path):
    made(point_list(tmp_path / "in"), tmp_path / "out", mode="resize")
    (tile,) = read_coco(tmp_path / "out")
    assert tile.item.mpp == pytest.approx(0.25 * WIDTH / 256)
    assert tile.item.image.shape == (160, 256, 3)
    np.testing.assert_allclose(tile.item.points, DOTS * 256 / WIDTH, atol=0.01)


def test_the_list_is_coco_keypoints(tmp_path: Path):
    made(point_list(tmp_path / "in"), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "train.json").read_text())
    assert document["categories"][0]["keypoints"] == ["centre"]
    assert len(document["annotations"]) == 5
    for mark in document["annotations"]:
        x, y, visible = mark["keypoints"]
        left, top, width, height = mark["bbox"]
        assert (visible, mark["num_keypoints"]) == (2, 1)
        assert (left + width / 2, top + height / 2) == pytest.approx((x, y), abs=0.01)


def test_what_is_left_out_is_counted(tmp_path: Path):
    # 330 px leave a strip of 10 px at 64 px tiles: too narrow, with one nucleus in it.
    points = np.array([[20.0, 20.0], [325.0, 20.0], [20.02, 20.0]])
    folder = tmp_path / "in"
    dotted(folder / "images", points=points, size=(330, 64))
    (folder / "points.json").write_text(json.dumps({"a.png": points.tolist()}))
    report = made(folder, tmp_path / "out", mpp=0.25, tile_px=64)
    assert report.nuclei == 1
    left = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    assert left["points in border strips under 32 px"] == 1
    assert left["points repeated at the same place"] == 1


# ---------------------------------------------------------------- formats


def test_a_csv_says_the_same_as_points_json(tmp_path: Path):
    folder = point_list(tmp_path / "json")
    rows = "\n".join(f"a;{x};{y};" for x, y in DOTS.tolist())
    (tmp_path / "csv" / "images").mkdir(parents=True)
    dotted(tmp_path / "csv" / "images")
    (tmp_path / "csv" / "list.csv").write_text("Image;X;Y;Class\n" + rows)
    (one,), (other,) = read_source(folder), read_source(tmp_path / "csv")
    np.testing.assert_array_equal(one.points, other.points)
    assert format_of(tmp_path / "csv") == format_of(folder) == "points"


def test_masks_give_centroids(tmp_path: Path):
    dotted(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((HEIGHT, WIDTH), np.uint16)
    mask[10:20, 40:60], mask[100:102, 7:9] = 300, 7
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    (image,) = read_source(tmp_path)
    np.testing.assert_allclose(image.points, [(8.0, 101.0), (50.0, 15.0)])


def release(folder: Path) -> Path:
    """Write what the EndoNuke archive looks like, with one bulk and one agreement tile."""
    root = folder / "data" / "dataset"
    for name, side in (("7", 200), ("31", 400)):
        dotted(root / "images", f"{name}.png", [(50, 60), (100, 120)], (side, side))
    expert = root / "labels" / "bulk" / "stud1"
    expert.mkdir(parents=True)
    (expert / "7.txt").write_text("50 60 0\n100 120 1\n")
    for person, text in (("ptg1", "50 60 1\n100 120 0"), ("ptg2", "52 60 1"), ("ptg3", "48 60 0")):
        place = root / "labels" / "agreement" / "hidden" / person
        place.mkdir(parents=True)
        (place / "31.txt").write_text(text)
    return folder


def test_endonuke_tiles_are_100_um_and_agreement_is_a_majority(tmp_path: Path):
    folder = release(tmp_path / "in")
    assert format_of(folder) == "endonuke"
    single, agreed = read_source(folder)
    assert single.classes == ("stroma", "epithelium")
    np.testing.assert_allclose(agreed.points, [(50.0, 60.0)])
    assert agreed.classes == ("epithelium",)
    assert "3 experts: 1 nuclei agreed upon, 1 marked by too few" in agreed.notes[0]
    made(folder, tmp_path / "out", mode="resize", image_mpp=None)
    assert {tile.item.mpp for tile in read_coco(tmp_path / "out")} == {100 / 256}
    assert len(list(read_source(folder, experts=["stud1"]))) == 1


def test_experts_who_mark_two_neighbours_are_not_merged_into_one():
    one = np.array([[10.0, 10.0], [14.0, 10.0]]), ("a", "a")
    two = np.array([[14.5, 10.0], [10.5, 10.0]]), ("a", "b")
    points, _, left = consensus([one, two], 5.0, 0.6)
    np.testing.assert_allclose(sorted(points.tolist()), [(10.25, 10.0), (14.25, 10.0)])
    assert left == 0


def square(left: float, top: float, right: float, bottom: float) -> list:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(kind: str, coordinates, object_type: str, label=None, name=None) -> dict:
    properties = {"objectType": object_type}
    if label:
        properties["classification"] = {"name": label, "color": [1, 2, 3]}
    if name:
        properties["name"] = name
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def reviewed() -> dict:
    """An annotated square with a hole, nuclei inside, outside and ignored, and a point."""
    nuclei = [
        feature("Polygon", [square(x - 4, y - 4, x + 4, y + 4)], "detection", label)
        for x, y, label in ((20, 30, "Positive"), (250, 12, "Negative"), (30, 60, "Ignore*"))
    ]
    area = [square(0, 0, 128, 128), square(80, 10, 96, 100)]
    return {
        "type": "FeatureCollection",
        "features": [
            feature("Polygon", area, "annotation", name="reviewed"),
            feature("Polygon", [square(200, 100, 300, 190)], "annotation", "Tumor"),
            feature("MultiPoint", [[100.5, 64.5]], "annotation", "Negative"),
            *nuclei,
        ],
    }


def test_geojson_counts_only_inside_the_named_area(tmp_path: Path):
    dotted(tmp_path / "in")
    (tmp_path / "in" / "a.geojson.gz").write_bytes(gzip.compress(orjson.dumps(reviewed())))
    assert format_of(tmp_path / "in") == "geojson"
    out = tmp_path / "out"
    report = made(tmp_path / "in", out, mpp=0.25, tile_px=64, areas="reviewed")
    assert report.nuclei == 2
    assert report.left_out["points outside of the annotated areas"] == 1
    assert any("ends in *" in note for note in report.notes)
    tiles = read_coco(out)
    trusted = sum(64 * 64 if t.item.trusted is None else int(t.item.trusted.sum()) for t in tiles)
    assert trusted == pytest.approx(128 * 128 - 16 * 90, rel=0.02)
    assert {name for tile in tiles for name in tile.classes} == {"Positive", "Negative"}


def project(folder: Path, image: Path, size=(WIDTH, HEIGHT)) -> Path:
    exports = folder / "nucliseg" / "annotated"
    exports.mkdir(parents=True)
    (exports / "3.geojson").write_bytes(orjson.dumps(reviewed()))
    metadata = {"width": size[0], "height": size[1]}
    builder = {"builderType": "uri", "uri": image.resolve().as_uri(), "metadata": metadata}
    images = [
        {"serverBuilder": builder, "entryID": 3, "imageName": "a"},
        {"serverBuilder": builder, "entryID": 4, "imageName": "not exported"},
    ]
    (folder / "project.qpproj").write_bytes(orjson.dumps({"version": "0.6.0", "images": images}))
    return folder


def test_a_project_is_read_through_its_export(tmp_path: Path):
    folder = project(tmp_path / "project", dotted(tmp_path / "slides"))
    assert format_of(folder) == format_of(folder / "project.qpproj") == "qupath"
    report = made(folder, tmp_path / "out", areas="reviewed")
    assert (report.images, report.nuclei) == (1, 2)


def test_an_export_older_than_the_data_file_is_mentioned(tmp_path: Path):
    import os

    folder = project(tmp_path / "project", dotted(tmp_path / "slides"))
    data = folder / "data" / "3" / "data.qpdata"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"x")
    later = (folder / "nucliseg" / "annotated" / "3.geojson").stat().st_mtime + 60
    os.utime(data, (later, later))
    (truth,) = read_project(folder)
    assert "export it again" in truth.notes[-1]


# ---------------------------------------------------------------- splits


def test_no_slide_is_in_two_splits_and_the_seed_fixes_them(tmp_path: Path):
    names = tuple(f"p{patient}_{field}.png" for patient in range(6) for field in range(3))
    folder = point_list(tmp_path / "in", names=names)
    for out in ("one", "two"):
        made(folder, tmp_path / out, group_by=r"(p\d)_", seed=4)
    groups = load_splits(tmp_path / "one" / "splits.json")
    assert groups == load_splits(tmp_path / "two" / "splits.json")
    assert set(groups.values()) == {"train", "validation", "test"}
    seen = {
        split: {tile.group for tile in read_coco(tmp_path / "one", split)}
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())) == 6
    again = assign_splits({**dict.fromkeys(groups, 1), "new": 5}, (0.1, 0.1, 0.8), 9, groups)
    assert {name: again[name] for name in groups} == groups


def test_shares_are_met_as_far_as_whole_slides_allow():
    weights = {f"s{i:02d}": 10 for i in range(20)}
    found = assign_splits(weights, (0.7, 0.15, 0.15), 1)
    assert [list(found.values()).count(s) for s in ("train", "validation", "test")] == [14, 3, 3]


def test_groups_come_from_a_table(tmp_path: Path):
    table = tmp_path / "groups.csv"
    table.write_text("image,group\na.png,Patient 1\n")
    group = grouping(str(table))
    assert group(tmp_path / "a.png", None) == "Patient 1"
    with pytest.raises(InputError, match=r"no group for the image b\.png"):
        group(tmp_path / "b.png", None)


def test_the_group_of_a_table_of_points_is_the_slide(tmp_path: Path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        dotted(tmp_path / "in", name)
    rows = "a.png,20,30,1\nb.png,20,30,1\nc.png,20,30,2\nd.png,20,30,2\n"
    (tmp_path / "in" / "list.csv").write_text("image,x,y,group\n" + rows)
    made(tmp_path / "in", tmp_path / "out", group_by="auto", shares=(0.5, 0.5, 0.0))
    assert load_splits(tmp_path / "out" / "splits.json").keys() == {"1", "2"}
    (tmp_path / "in" / "list.csv").write_text("image,x,y,group\na.png,1,1,1\na.png,2,2,2\n")
    with pytest.raises(InputError, match="two groups"):
        list(read_source(tmp_path / "in"))


def test_tiles_of_unknown_slides_are_not_split_silently(tmp_path: Path):
    with pytest.raises(UsageError, match="--group-by"):
        made(release(tmp_path / "in"), tmp_path / "out", group_by="auto", image_mpp=None)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- broken data


def broken(folder: Path, content: str) -> Path:
    dotted(folder / "images")
    (folder / "points.json").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"b.png": [[1, 2, null]]}', "b.png"),
        ('{"a.png": [[1, 2], [400, 2, null]]}', "point 2 .*outside"),
        ('{"a.png": []}', "no nucleus"),
        ('{"a.png": [[1, NaN]]}', "not JSON"),
        ('{"a.png": [[1, "x"]]}', "a.png, point 1 has the coordinate 'x'"),
        ('{"a.png": [[1]]}', "point 1 is"),
        ("[1]", "is not {image"),
        ("{}", "no annotated image"),
    ],
)
def test_a_broken_list_stops_with_its_name(tmp_path: Path, content: str, words: str):
    folder = broken(tmp_path / "in", content)
    with pytest.raises(InputError, match=words) as caught:
        made(folder, tmp_path / "out")
    assert "points.json" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a.png,1,nan", "nan"),
        ("a.png,1,inf", "inf"),
        ("a.png,1", "2 of 3 columns"),
        ("a.png,-3,5", "outside"),
    ],
)
def test_a_broken_table_stops_with_its_name(tmp_path: Path, rows: str, words: str):
    dotted(tmp_path / "in")
    (tmp_path / "in" / "t.csv").write_text(f"image,x,y\n{rows}\n")
    with pytest.raises(InputError, match=words) as caught:
        made(tmp_path / "in", tmp_path / "out")
    assert "t.csv" in str(caught.value)


def test_a_table_without_its_columns_is_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("name,x\n")
    with pytest.raises(InputError, match="no column 'image'"):
        read_table(tmp_path / "t.csv", ("image",))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((HEIGHT, WIDTH - 1), np.uint8), "319 x 200"),
        (np.ones((HEIGHT, WIDTH, 3), np.uint8), "not an instance mask"),
        (255 * (np.indices((HEIGHT, WIDTH)).sum(0) % 40 < 8).astype(np.uint8), "binary"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "no nucleus"),
    ],
)
def test_a_broken_mask_stops_with_its_name(tmp_path: Path, mask, words: str):
    dotted(tmp_path / "in" / "images", "field.png")
    (tmp_path / "in" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "masks" / "field.png"), mask)
    with pytest.raises(InputError, match=words) as caught:
        made(tmp_path / "in", tmp_path / "out")
    assert "masks/field.png" in str(caught.value)


def test_an_image_without_its_mask_and_the_reverse_are_named(tmp_path: Path):
    dotted(tmp_path / "images", "lonely.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"lonely\.png has no mask"):
        list(read_source(tmp_path, "masks"))
    (tmp_path / "images" / "lonely.png").unlink()
    cv2.imwrite(str(tmp_path / "masks" / "other.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"other\.png has no image"):
        list(read_source(tmp_path, "masks"))


def test_a_broken_endonuke_line_is_named(tmp_path: Path):
    folder = release(tmp_path)
    file = folder / "data" / "dataset" / "labels" / "bulk" / "stud1" / "7.txt"
    for text, words in (("1 2 7", "line 1"), ("1 2 0\n5 x 1", "line 2"), ("1 2", "line 1")):
        file.write_text(text)
        with pytest.raises(InputError, match=rf"7\.txt.*{words}"):
            list(read_source(folder))


def test_a_project_image_of_another_size_or_place_is_named(tmp_path: Path):
    image = dotted(tmp_path / "slides")
    with pytest.raises(InputError, match=r"3\.geojson was made on 640 x 200 px"):
        made(project(tmp_path / "one", image, (640, 200)), tmp_path / "out")
    folder = project(tmp_path / "two", image)
    image.unlink()
    with pytest.raises(InputError, match=r"a\.png.*missing"):
        made(folder, tmp_path / "out")


def test_a_project_without_exports_and_without_qupath_says_what_to_do(tmp_path: Path, monkeypatch):
    folder = project(tmp_path / "one", dotted(tmp_path))
    (folder / "nucliseg" / "annotated" / "3.geojson").unlink()
    monkeypatch.setattr("nucliseg_qp.qupath.truth.find_qupath", lambda: None)
    with pytest.raises(QuPathError, match="data script"):
        list(read_project(folder))


def test_a_converted_folder_that_was_damaged_is_refused_by_name(tmp_path: Path):
    out = tmp_path / "out"
    made(point_list(tmp_path / "in"), out)
    name = read_coco(out, "train")[0].item.name
    document = (out / "train.json").read_text()
    for old, new, words in (
        ('"mpp"', '"mmp"', r"train\.json"),
        ('"width": 256', '"width": 255', "256 x 256 px, its list says"),
        ("10.0,", "999.0,", "lies outside"),
    ):
        assert old in document
        (out / "train.json").write_text(document.replace(old, new))
        with pytest.raises(InputError, match=words):
            read_coco(out, "train")
    (out / "train.json").write_text(document)
    (out / "images" / name).unlink()
    with pytest.raises(InputError, match=name):
        read_coco(out, "train")


def test_nothing_is_overwritten(tmp_path: Path):
    made(point_list(tmp_path / "in"), tmp_path / "out")
    with pytest.raises(OutputError, match="not an empty folder"):
        made(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("wrong", [{"mpp": math.nan}, {"tile_px": 33}, {"shares": (1.0, 1.0, 0.0)}])
def test_senseless_settings_are_refused(tmp_path: Path, wrong: dict):
    with pytest.raises(NucliSegError):
        ConvertSettings(out=tmp_path, name="x", **wrong)


# ---------------------------------------------------------------- the verb


def test_the_verb_converts_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = point_list(tmp_path / "in", names=("a.png", "b.png", "c.png"))
    command = ["data", "convert", str(folder), "-o", str(tmp_path / "out")]
    assert run(command) == 3
    assert "--slide-mpp" in capsys.readouterr().err
    assert run([*command, "--slide-mpp", "0.25"]) == 0
    assert "15" in capsys.readouterr().err
    assert run([*command, "--slide-mpp", "0.25"]) == 6


def test_the_script_for_qupath_is_printed(capsys: pytest.CaptureFixture[str]):
    assert run(["data", "script"]) == 0
    assert "exportObjectsToGeoJson" in capsys.readouterr().out


@pytest.mark.qupath
def test_qupath_itself_exports_what_is_in_its_data_files(tmp_path: Path, qupath_probe):
    image = image_file(tmp_path / "my slides", "a, b.png")
    folder = tmp_path / "my project"
    write_files(folder, [result(image, tmp_path)], CLASSES)
    qupath_probe.run_script(folder, groovy_source(IMPORT_NUCLEI))
    (truth,) = read_project(folder)
    assert (len(truth.points), truth.image) == (60, image)
    assert set(truth.classes) == {None, *(name for name, _ in CLASSES)}
    assert truth.areas is not None
    near = np.abs(truth.points[:, None] - np.stack([some_nuclei().x, some_nuclei().y], 1)[None])
    assert near.sum(axis=2).min(axis=1).max() < 0.1
