"""What people do differently from the book is taken as meant, told, or refused: never lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import orjson
import pytest
from test_convert import dotted, feature, made, project, release, square

from nucliseg_qp.cli import run
from nucliseg_qp.convert import read_source
from nucliseg_qp.errors import InputError, QuPathError, UsageError
from nucliseg_qp.qupath.truth import read_truth
from nucliseg_qp.training.class_names import look_alikes
from nucliseg_qp.training.coco import read_coco
from nucliseg_qp.training.convert import convert
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.splits import load_splits, match_splits

if TYPE_CHECKING:
    from pathlib import Path


def box(x: float, y: float, half: float = 4) -> list:
    return [square(x - half, y - half, x + half, y + half)]


def geojson(folder: Path, *features: dict, name: str = "a") -> Path:
    """Write GeoJSON beside the image it is about."""
    dotted(folder, f"{name}.png")
    file = folder / f"{name}.geojson"
    file.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": list(features)}))
    return file


def rectangle(*corners: float, name: str = "reviewed") -> dict:
    return feature("Polygon", [square(*corners)], "annotation", name=name)


REVIEWED = rectangle(0, 0, 300, 190)
FOUND = [feature("Polygon", box(20 + 25 * i, 30), "detection", "Negative") for i in range(5)]
BRUSHED = [feature("Polygon", box(20 + 25 * i, 90), "annotation", "Positive") for i in range(5)]

# ---------------------------------------------------------------- QuPath


def test_nuclei_that_were_added_with_the_brush_are_nuclei(tmp_path: Path):
    geojson(tmp_path / "in", REVIEWED, *FOUND, *BRUSHED)
    report = made(tmp_path / "in", tmp_path / "out", areas="reviewed")
    assert report.nuclei == 10
    assert not report.left_out
    tiles = read_coco(tmp_path / "out")
    assert [name for tile in tiles for name in tile.classes].count("Positive") == 5


def test_without_named_areas_a_brushed_nucleus_is_no_area(tmp_path: Path):
    only_brushed = read_truth(geojson(tmp_path, *FOUND, *BRUSHED))
    assert (len(only_brushed.points), only_brushed.areas) == (10, None)
    graded = feature("Polygon", box(20, 90), "annotation", "Tumor: 2+")
    truth = read_truth(geojson(tmp_path, REVIEWED, *FOUND, graded))
    assert len(truth.points) == 6
    assert len(truth.areas or ()) == 1


def test_two_nuclei_of_one_brush_stroke_are_two(tmp_path: Path):
    both = feature("MultiPolygon", [box(20, 90), box(60, 90)], "annotation", "Positive")
    truth = read_truth(geojson(tmp_path, both), None)
    assert truth.points.tolist() == [[20.0, 90.0], [60.0, 90.0]]


def test_what_is_neither_nucleus_nor_area_is_counted(tmp_path: Path):
    others = [
        feature("Polygon", box(20, 120), "annotation"),
        feature("Polygon", [square(0, 100, 290, 180)], "annotation", "Necrosis"),
        feature("Polygon", [square(0, 10, 200, 50)], "annotation", "Negative"),
        feature("Polygon", box(20, 30, 6), "annotation", "Negative"),
        feature("LineString", [[0, 0], [9, 9]], "annotation"),
    ]
    geojson(tmp_path / "in", REVIEWED, *FOUND, *others)
    report = made(tmp_path / "in", tmp_path / "out", areas="reviewed")
    assert report.nuclei == 5
    assert report.left_out == {
        "annotations without a class, neither area nor nucleus": 1,
        "annotations of class Necrosis, neither area nor nucleus": 1,
        "outlines of class Negative around several nuclei": 1,
        "outlines of class Negative around a nucleus that is marked already": 1,
        "annotations that are a LineString": 1,
    }


def test_a_reviewed_rectangle_without_a_nucleus_needs_to_be_meant(tmp_path: Path):
    geojson(tmp_path / "in", rectangle(0, 100, 300, 190), *FOUND)
    with pytest.raises(InputError, match=r"a\.geojson has no nucleus in its areas"):
        made(tmp_path / "in", tmp_path / "out", areas="reviewed")
    assert made(tmp_path / "in", tmp_path / "out", areas="reviewed", allow_empty=True).nuclei == 0


def test_one_empty_rectangle_of_several_is_told(tmp_path: Path):
    geojson(tmp_path / "in", rectangle(0, 0, 300, 60), rectangle(0, 100, 300, 190), *FOUND)
    report = made(tmp_path / "in", tmp_path / "out", areas="reviewed")
    assert "a.png: 1 of 2 areas has no nucleus" in report.notes


@pytest.mark.parametrize("wrong", [["NaN", 5], [1e999, 5], ["inf", 5], [3]])
def test_a_point_that_is_no_place_is_refused_by_name(tmp_path: Path, wrong: list):
    wrong_point = {"type": "MultiPoint", "coordinates": [[20, 30], wrong]}
    point = {**feature("MultiPoint", [], "annotation"), "geometry": wrong_point}
    text = json.dumps([REVIEWED, point]).replace("Infinity", '"Infinity"')
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(InputError, match=r"a\.geojson has a point \["):
        read_truth(tmp_path / "a.geojson", "reviewed")


def test_an_outline_of_two_points_is_refused_by_name(tmp_path: Path):
    file = geojson(tmp_path, feature("Polygon", [[[0, 0], [9, 9]]], "annotation", name="reviewed"))
    with pytest.raises(InputError, match=r"a\.geojson has an outline of 2 points"):
        read_truth(file, "reviewed")


def test_an_image_of_the_project_without_an_export_is_told(tmp_path: Path):
    folder = project(tmp_path / "project", dotted(tmp_path / "slides"))
    report = made(folder, tmp_path / "out", areas="reviewed")
    assert "not exported has no export" in report.notes


def test_exports_of_other_images_are_no_exports_of_the_project(tmp_path: Path):
    folder = project(tmp_path / "project", dotted(tmp_path / "slides"))
    exports = folder / "nucliseg" / "annotated"
    (exports / "3.geojson").rename(exports / "77.geojson")
    with pytest.raises(QuPathError, match="no export of an image of the project"):
        made(folder, tmp_path / "out")


# ---------------------------------------------------------------- names of classes


def points(folder: Path, *rows: list, image: str = "a.png") -> Path:
    dotted(folder / "images", image)
    (folder / "points.json").write_text(json.dumps({image: list(rows)}))
    return folder


def test_capitals_and_blanks_do_not_make_another_class(tmp_path: Path):
    rows = [[20, 30, "negative"], [40, 30, " Positive "], [60, 30, "positive"], [80, 30, " "]]
    rows += [[100, 30, "stroma"], [120, 30, "Stroma"], [140, 30, "stroma"], [9, 9, "Tumor:  2+"]]
    report = made(points(tmp_path / "in", *rows), tmp_path / "out")
    (tile,) = read_coco(tmp_path / "out")
    wanted = ("Negative", "Positive", "Positive", None, "stroma", "stroma", "stroma", "Tumor: 2+")
    assert tile.classes == wanted
    assert "class 'negative' is written 'Negative'" in report.notes
    assert "class 'Stroma' is written 'stroma'" in report.notes


def test_misspelt_classes_are_told_and_grades_are_not():
    assert "'Positive' and 'Postive' are nearly the same" in " ".join(look_alikes(["Postive"]))
    fine = ["1+", "2+", "Tumor: 1+", "Tumor: 2+", "Stroma: Positive", "cluster 1", "cluster 2"]
    assert look_alikes(fine) == []
    assert len(look_alikes(["Lymphocyte", "Lymphocytes"])) == 1


# ---------------------------------------------------------------- splits


def slides(folder: Path, *names: str) -> Path:
    """Write a point list of images that are more than one tile each."""
    for name in names:
        dotted(folder / "images", name, size=(600, 200))
    rows = [[20, 30, "Positive"], [500, 30, "Negative"]]
    (folder / "points.json").write_text(json.dumps(dict.fromkeys(names, rows)))
    return folder


def splits(folder: Path, **groups: str) -> Path:
    file = folder / "earlier.json"
    file.write_text(json.dumps({"groups": groups}))
    return file


def test_slides_that_are_not_in_the_data_keep_their_split_for_later(tmp_path: Path):
    earlier = splits(tmp_path, gone="test", a="test", c="validation")
    source = slides(tmp_path / "in", "a.png", "b.png", "c.png")
    report = made(source, tmp_path / "out", splits=earlier, mpp=0.25)
    after = load_splits(tmp_path / "out" / "splits.json")
    assert (after["gone"], after["a"], after["c"]) == ("test", "test", "validation")
    assert report.splits["test"]["groups"] == 1
    told = " / ".join(report.notes)
    assert "earlier.json also has gone: not in this data, kept there" in told
    assert "earlier.json does not have b: drawn anew" in told


@pytest.mark.parametrize("written", ["a", "a.png", "a.ome", "a.ome.tif", "a.OME.TIFF"])
def test_a_name_in_the_splits_file_fits_with_or_without_its_ending(written: str):
    # s1.ome is what the program calls the slide s1.ome.tif; people write s1.
    assert match_splits(["a.ome", "a.omen"], {written: "test"}) == ({"a.ome": "test"}, {})


def test_two_splits_for_one_slide_are_refused():
    with pytest.raises(InputError, match=r"a\.ome is in two splits, as a and a\.tif"):
        match_splits(["a.ome"], {"a": "test", "a.tif": "train"})


def test_a_split_that_stays_empty_is_told(tmp_path: Path):
    earlier = splits(tmp_path, a="train", b="train", c="train", d="train")
    source = slides(tmp_path / "in", "a.png", "b.png", "c.png")
    report = made(source, tmp_path / "out", splits=earlier, mpp=0.25)
    assert any("validation and test stay empty" in note for note in report.notes)
    meant = made(source, tmp_path / "other", splits=earlier, mpp=0.25, shares=(1.0, 0.0, 0.0))
    assert not any("stay empty" in note for note in meant.notes)


def test_fields_without_a_pixel_size_are_not_taken_for_slides_silently(tmp_path: Path):
    source = slides(tmp_path / "in", "p1_1.png", "p1_2.png", "p1_3.png")
    silent = made(source, tmp_path / "one", mpp=0.25, group_by="image")
    assert not any("--group-by" in note for note in silent.notes)
    report = made(source, tmp_path / "two", mpp=0.25, group_by="auto")
    (note,) = (note for note in report.notes if "--group-by" in note)
    assert note.startswith("3 images have no pixel size of their own")


@pytest.mark.parametrize("wrong", [0.0, -3.0, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused_by_its_own_option(tmp_path: Path, wrong: float):
    with pytest.raises(UsageError, match="--image-um"):
        ConvertSettings(out=tmp_path, width_um=wrong)


@pytest.mark.parametrize(("name", "text"), [("l.csv", "image,x,y\n"), ("points.json", "{}")])
def test_a_list_of_nothing_is_named(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name} names no annotated image"):
        made(tmp_path / name, tmp_path / "out")


# ---------------------------------------------------------------- EndoNuke


def label(root: Path, place: str, text: str) -> None:
    file = root / "data" / "dataset" / "labels" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_two_experts_agree_on_what_both_marked(tmp_path: Path):
    folder = release(tmp_path)
    label(folder, "agreement/prior/stud2/7.txt", "50 60 0\n150 150 0")
    (tile, _) = read_source(folder)
    assert tile.points.tolist() == [[50.0, 60.0]]
    assert tile.notes == ("2 experts: 1 nuclei agreed upon, 2 marked by too few",)


def test_one_person_in_two_studies_is_one_expert(tmp_path: Path):
    folder = release(tmp_path)
    label(folder, "agreement/prior/ptg1/31.txt", "300 300 0\n50 60 1")
    (_, tile) = read_source(folder)
    # 100, 120 and 300, 300 are ptg1's alone.
    assert tile.points.tolist() == [[50.0, 60.0]]
    assert tile.notes == ("3 experts: 1 nuclei agreed upon, 2 marked by too few",)
    (alone,) = read_source(folder, experts=["ptg1"])
    assert len(alone.points) == 3
    assert alone.notes == ("2 readings of one expert were put together",)


def test_an_expert_who_is_misspelt_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"ptgX: not in .* It has ptg1, ptg2, ptg3, stud1"):
        list(read_source(release(tmp_path), experts=["ptg1", "ptgX"]))


def test_tiles_of_others_and_tiles_of_nobody_are_counted(tmp_path: Path):
    folder = release(tmp_path / "in")
    dotted(folder / "data" / "dataset" / "images", "99.png")
    (tile,) = read_source(folder, experts=["stud1"])
    report = convert([tile], ConvertSettings(out=tmp_path / "out", mode="resize", group_by="image"))
    assert report.left_out == {
        "tiles that only other experts marked": 1,
        "images without labels": 1,
    }


# ---------------------------------------------------------------- the same image twice


def converted(out: Path, *sources: Path) -> int:
    size = ["--slide-mpp", "0.25"]
    return run(["data", "convert", *map(str, sources), "-o", str(out), *size])


def test_one_image_under_two_names_of_a_list_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    dotted(tmp_path / "in" / "images", "s1.png")
    rows = {"s1": [[20, 30]], "s1.png": [[40, 50]]}
    (tmp_path / "in" / "points.json").write_text(json.dumps(rows))
    assert converted(tmp_path / "out", tmp_path / "in") == 3
    assert "s1.png is annotated twice in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_image_with_two_annotations_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    drawn = geojson(tmp_path / "in", REVIEWED, *FOUND)
    listed = tmp_path / "in" / "list.csv"
    listed.write_text("image,x,y\na,20,30\n")
    assert converted(tmp_path / "out", drawn, listed) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "a.png is annotated in" in said
    assert "a.geojson and in" in said
    assert "list.csv" in said


# ---------------------------------------------------------------- masks


def masked(folder: Path, numbers: tuple[int, int], image: str = "a.png") -> Path:
    """Write an image with a mask of two squares."""
    dotted(folder / "images", image)
    (folder / "masks").mkdir()
    mask = np.zeros((200, 320), np.uint8)
    mask[10:20, 40:60], mask[100:110, 200:220] = numbers
    cv2.imwrite(str(folder / "masks" / "a.png"), mask)
    return folder


def test_a_binary_mask_of_two_nuclei_gives_no_point_between_them(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.png is a binary mask \(2 pieces of one number\)"):
        list(read_source(masked(tmp_path / "binary", (255, 255))))
    (image,) = read_source(masked(tmp_path / "labels", (1, 2)))
    assert len(image.points) == 2


def test_a_file_beside_the_images_that_is_not_read_is_told(tmp_path: Path):
    folder = masked(tmp_path / "in", (1, 2))
    for name in ("b.bmp", ".hidden", "Thumbs.db"):
        (folder / "images" / name).write_bytes(b"BM")
    notes = made(folder, tmp_path / "out").notes
    assert [note for note in notes if "left out" in note] == [
        f"{folder / 'images' / 'b.bmp'} is no image that is read: left out"
    ]


def test_a_mask_belongs_to_its_image_whatever_the_endings(tmp_path: Path):
    folder = masked(tmp_path / "in", (1, 2))
    (folder / "images" / "a.png").rename(folder / "images" / "a.ome.tif")
    (image,) = read_source(folder)
    assert image.annotation.name == "a.png"
    dotted(folder / "images", "a.png")
    with pytest.raises(InputError, match=r"a\.ome\.tif and a\.png are both a"):
        list(read_source(folder))
