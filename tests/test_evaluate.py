"""The figures of `evaluate` are what a hand count gives, and its files are complete."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from nucliseg_qp.cli import run
from nucliseg_qp.errors import InputError
from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.training.coco import CocoTile, TileRecord, read_coco, write_coco
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.evaluate import evaluate, read_tiles
from nucliseg_qp.training.judge import (
    Judged,
    Matching,
    class_figures,
    curve,
    figures,
    judge,
    score_at,
)
from nucliseg_qp.training.looks import QUPATH_DAB, QUPATH_HAEMATOXYLIN, plain_look
from nucliseg_qp.training.metrics import greedy_matches, precision_recall
from nucliseg_qp.training.staining import staining_at, staining_of
from nucliseg_qp.training.synthetic import draw_field

if TYPE_CHECKING:
    from pathlib import Path


def array(*rows: tuple[float, ...]):
    return np.array(rows, np.float64).reshape(len(rows), -1)


def judged(truth, found, mpp=0.5, side=256, staining=None, seen=None) -> Judged:
    item = LabelledImage("t.png", np.full((side, side, 3), 255, np.uint8), truth, mpp=mpp)
    tile = CocoTile(item, (None,) * len(truth), "set", "slide", "a.png", side)
    staining = np.zeros(len(truth), np.int64) if staining is None else np.array(staining)
    seen = np.zeros(len(found), np.int64) if seen is None else np.array(seen)
    return Judged(tile, truth, found, staining, seen)


def write_data(folder: Path, count: int = 3, mpp: float = 0.5, side: int = 256) -> Path:
    """Write converted data with synthetic fields, one slide each, all in the test split."""
    (folder / "images").mkdir(parents=True)
    records = []
    for number in range(count):
        field = draw_field(number, (side, side), mpp, plain_look())
        inside = ((field.points > 0) & (field.points < side)).all(axis=1)
        names = ("Negative", "1+", "2+", "3+")
        classes = tuple(names[i] for i in field.classes[inside])
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), field.image[..., ::-1])
        valid = (side, side)
        points = field.points[inside]
        facts = (name, side, valid, mpp, folder.name, f"s{number}", name, (0, 0))
        records.append(TileRecord(*facts, points, classes))
    for split in ("train", "validation"):
        write_coco(folder, split, [], "x")
    write_coco(folder, "test", records, "x")
    return folder


# ---------------------------------------------------------------- figures by hand


def test_average_precision_has_its_radius_in_pixels_of_256_and_in_um():
    # 3 px off on a tile of 128 px: 6 px of 256, and 3 um at 1 um/px.
    one = judged(array((50, 50)), array((53, 50, 0.9)), mpp=1.0, side=128)
    found = figures([one], 0.5, Matching())
    assert (found["ap_4px"], found["ap_8px"]) == (0.0, 1.0)
    assert (found["ap_2um"], found["ap_4um"]) == (0.0, 1.0)
    assert found["error_um"] == pytest.approx(3.0)


def test_f1_is_one_to_one_and_the_sweep_finds_a_better_threshold():
    truth, found = array((10, 10), (60, 60)), array((10, 11, 0.9), (60, 61, 0.3), (11, 10, 0.2))
    result = figures([judged(truth, found)], 0.5, Matching())
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["best_f1"] == 1.0
    assert 0.2 < result["best_threshold"] <= 0.3
    assert result["ap_4um"] == pytest.approx(1.0)


def test_tiles_of_different_resolution_are_matched_in_um():
    coarse = judged(array((50, 50)), array((52, 50, 0.9)), mpp=1.0)
    fine = judged(array((50, 50)), array((58, 50, 0.9)), mpp=0.25)
    assert figures([coarse, fine], 0.5, Matching(2.0))["recall"] == 1.0
    assert figures([coarse, fine], 0.5, Matching(1.9))["recall"] == 0.0


def test_a_border_strip_is_left_out_of_f1_on_demand():
    one = judged(array((2, 50), (50, 50)), array((50, 50, 0.9)))
    assert figures([one], 0.5, Matching())["recall"] == 0.5
    assert figures([one], 0.5, Matching(border_um=3.0))["recall"] == 1.0


def test_each_staining_class_has_its_own_figures():
    # One Positive found, one missed; one Negative found; one false point on brown pixels.
    truth = array((10, 10), (60, 60), (100, 100))
    found = array((10, 10, 0.9), (100, 100, 0.8), (200, 200, 0.7))
    one = judged(truth, found, staining=[1, 1, 0], seen=[0, 1, 1])
    result = class_figures([one], 0.5, Matching())
    assert result["Negative"]["f1"] == result["Negative"]["ap_4um"] == 1.0
    assert (result["Positive"]["recall"], result["Positive"]["precision"]) == (0.5, 0.5)
    assert result["Positive"]["nuclei"] == 2


def cut(folder: Path) -> Path:
    """Make two tiles of one image of the first two of a folder."""
    document = json.loads((folder / "test.json").read_text())
    for image, x in zip(document["images"], (0, 256), strict=False):
        image |= {"source": "one.tif", "group": "one", "origin_px": [x, 0]}
    (folder / "test.json").write_text(json.dumps(document))
    return folder


def test_nuclei_on_the_seams_of_cut_tiles_do_not_count_and_others_do(tmp_path: Path):
    tiles = read_coco(cut(write_data(tmp_path / "d", 3)), "test")
    assert [tile.is_cut for tile in tiles] == [True, True, False]
    for tile, recall in zip(tiles, (1.0, 1.0, 0.5), strict=True):
        seam = replace(judged(array((2, 50), (50, 50)), array((50, 50, 0.9))), tile=tile)
        assert figures([seam], 0.5, Matching())["recall"] == recall
        assert figures([seam], 0.5, Matching(border_um=0.0))["recall"] == 0.5


def test_the_strip_that_does_not_count_is_told_beside_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole = write_data(tmp_path / "whole", 1)
    both = cut(write_data(tmp_path / "cut", 2))
    for data, options, told in ((whole, [], 0), (both, [], 1), (both, ["--border-um", "0"], 0)):
        out = str(tmp_path / "out")
        assert run(["evaluate", "default", str(data), "-o", out, *options]) == 0
        assert capsys.readouterr().err.count("F1 without 3.6 um along the edges of tiles") == told


def test_the_rows_of_the_classes_add_up_to_the_row_of_their_set():
    # A greedy match would give 0.9 the nucleus at 13, and leave the one at 16 to nobody.
    truth, found = array((10, 10), (16, 10), (1, 50)), array((13.5, 10, 0.9), (19, 10, 0.8))
    found = np.vstack([found, (2, 90, 0.7)])
    one = judged(truth, found, staining=[0, 1, 1], seen=[1, 1, 1])
    how = Matching(2.0, border_um=2.0)
    whole, parts = score_at([one], 0.5, how), class_figures([one], 0.5, how)
    assert (whole.matched, whole.missed, whole.spurious) == (2, 0, 0)
    assert [parts[name]["f1"] for name in ("Negative", "Positive")] == [1.0, 1.0]
    assert parts["Positive"]["error_um"] == pytest.approx(1.5)
    bare = class_figures([one], 0.5, Matching(2.0))["Positive"]
    assert (bare["precision"], bare["recall"]) == (0.5, 0.5)


def test_nothing_true_and_nothing_found_do_not_break_the_figures():
    none = judged(np.zeros((0, 2)), np.zeros((0, 3)))
    assert figures([none], 0.5, Matching())["f1"] == 1.0
    assert figures([none], 0.5, Matching())["ap_4um"] == 0.0
    assert class_figures([none], 0.5, Matching())["Positive"]["nuclei"] == 0
    assert [len(part) for part in curve([none], "ap_4um")] == [0, 0]


def test_greedy_matching_gives_the_nearest_free_truth_to_the_best_score():
    truth, found = array((10, 10), (13, 10)), array((12, 10, 0.5), (12.5, 10, 0.9), (90, 9, 0.8))
    assert greedy_matches(truth, found, 5.0).tolist() == [0, 1, -1]
    recall, precision = precision_recall(np.array([True, False, True]), np.array([3, 2, 1.0]), 4)
    assert recall.tolist() == [0.25, 0.25, 0.5]
    np.testing.assert_allclose(precision, [1.0, 2 / 3, 2 / 3])


# ---------------------------------------------------------------- staining


def test_staining_is_told_by_dab_in_a_disc_and_by_the_class_first():
    image = np.full((64, 64, 3), 255, np.uint8)
    for x, vector, amount in ((16, QUPATH_HAEMATOXYLIN, 0.6), (48, QUPATH_DAB, 0.5)):
        stain = np.array(vector) / np.linalg.norm(vector)
        image[24:40, x - 8 : x + 8] = np.round(255 * 10 ** (-amount * stain))
    seen = staining_at(image, array((16.0, 32.0), (48.0, 32.0)), 0.5)
    assert seen.tolist() == [0, 1]
    classes = ["2+", None, "Tumor: Negative", "stroma"]
    assert staining_of(classes, np.array([0, 1, 1, 0])).tolist() == [1, 1, 0, 0]


def test_a_class_counts_whatever_its_capitals_and_blanks():
    names = ["negative", "POSITIVE", " Negative ", "tumor:negative", "3+ "]
    dab_says = np.array([1, 0, 1, 1, 0])
    assert staining_of(names, dab_says).tolist() == [0, 1, 0, 0, 1]


# ---------------------------------------------------------------- running a model


def test_points_lie_where_the_nuclei_are_whatever_the_tiles_resolution(tmp_path: Path):
    model = load_model()
    from nucliseg_qp.keypoints.runtime import pick_device

    device = pick_device("cpu")
    for mpp in (0.4, 0.6):
        tiles = read_coco(write_data(tmp_path / f"{mpp}", 2, mpp), "test")
        result = figures(judge(model, tiles, device), 0.38, Matching())
        assert result["f1"] > 0.8
        assert result["error_um"] < 1.2


def test_untrusted_parts_neither_count_nor_harm(tmp_path: Path):
    from nucliseg_qp.keypoints.runtime import pick_device

    (tile,) = read_coco(write_data(tmp_path / "d", 1), "test")
    trusted = np.zeros(tile.item.image.shape[:2], bool)
    trusted[:, :128] = True
    half = replace(tile, item=replace(tile.item, trusted=trusted))
    (one,) = judge(load_model(), [half], pick_device("cpu"))
    assert len(one.found)
    assert max(one.found[:, 0].max(), one.truth[:, 0].max()) < 128
    assert len(one.truth) == int((tile.item.points[:, 0] < 128).sum())


def test_the_verb_writes_figures_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, other = write_data(tmp_path / "one", 2), write_data(tmp_path / "two", 1, 0.6)
    out = tmp_path / "out"
    assert run(["evaluate", "default", str(data), str(other), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("one", "two", "all", "Positive", "AP 4 px"))
    content = json.loads((out / "evaluation.json").read_text())
    assert set(content["sets"]) == {"one", "two", "all"}
    total = content["sets"]["all"]
    assert total["nuclei"] == content["sets"]["one"]["nuclei"] + content["sets"]["two"]["nuclei"]
    assert 0.5 < total["ap_4um"] <= 1.0
    assert content["model"]["sha256"] == load_model().info.sha256
    with (out / "evaluation.csv").open() as file:
        assert next(row["data"] for row in csv.DictReader(file)) == "one"
    for name in ("precision_recall", "thresholds", "heatmaps", "worst_tiles"):
        image = cv2.imread(str(out / f"{name}.png"))
        assert image is not None
        assert len(np.unique(image)) > 50, name


def test_data_that_is_not_converted_or_empty_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="data convert"):
        read_tiles([tmp_path], "test")
    data = write_data(tmp_path / "d", 1)
    with pytest.raises(InputError, match="no validation tiles"):
        read_tiles([data], "validation")
    assert len(read_tiles([data], "all")) == 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mpp", 0, "mpp 0 is not 0.01 to 10 um per pixel"),
        ("mpp", -0.5, "mpp -0.5 is not"),
        ("mpp", 50, "mpp 50 is not"),
        ("mpp", "nan", "mpp nan is not"),
        ("areas", [], "areas [] are neither null nor outlines"),
        ("areas", [[]], "an area is []"),
        ("areas", [[1, 2]], "an area is [1, 2], not three corners"),
        ("areas", [[1, 2, 3, 4, 5, "x"]], "a corner that is no number"),
        ("areas", [[1, 2, 3, 4, 5, 1e12]], "far beyond the image"),
        ("valid_px", [257, 256], "valid_px [257, 256] is no part of 256 x 256 px"),
        ("valid_px", [0, 256], "valid_px [0, 256] is no part"),
        ("valid_px", [2.5, 9], "valid_px [2.5, 9] is no part"),
        ("valid_px", [9], "valid_px [9] is no part"),
        ("id", 2, "has two images of the id 2"),
        ("file_name", "1.png", "has two images of the file_name '1.png'"),
    ],
)
def test_a_list_with_a_field_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, field: str, value: object, words: str
):
    folder = write_data(tmp_path / "d", 2)
    document = json.loads((folder / "test.json").read_text())
    document["images"][0][field] = value
    (folder / "test.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read_tiles([folder], "test")
    assert "test.json" in str(caught.value)


def test_a_tile_that_is_there_twice_is_named(tmp_path: Path):
    one, same = write_data(tmp_path / "A" / "d", 2), write_data(tmp_path / "B" / "d", 1)
    with pytest.raises(InputError, match=r"A/d/images/0\.png and .*B/d/images/0\.png are the same"):
        read_tiles([one, same], "test")
    assert len(read_tiles([one, one], "test")) == 2


def test_data_of_one_name_in_two_folders_is_told_apart(tmp_path: Path):
    one, other = write_data(tmp_path / "A" / "d", 1), write_data(tmp_path / "B" / "d", 1, 0.6)
    alone = write_data(tmp_path / "C" / "e", 1, 0.4)
    names = [tile.dataset for tile in read_tiles([one, other, alone], "test")]
    assert names == [str(one), str(other), "e"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--radius-um", "-1"], "--radius-um -1 is no distance"),
        (["--radius-um", "0"], "--radius-um 0 is no distance"),
        (["--radius-um", "nan"], "--radius-um nan is no distance"),
        (["--border-um", "-1"], "--border-um -1 is no width"),
        (["--border-um", "inf"], "--border-um inf is no width"),
        (["--border-um", "500"], "nothing to judge: --border-um 500 leaves nothing"),
        (["--border-um", "63.9"], "nothing to judge: every nucleus lies within"),
        (["--threshold", "2"], "--threshold 2 is no score"),
        (["--threshold", "nan"], "--threshold nan is no score"),
    ],
)
def test_what_leaves_nothing_to_judge_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
):
    data, out = write_data(tmp_path / "d", 1), tmp_path / "out"
    assert run(["evaluate", "default", str(data), "-o", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert words in " ".join(said.split())
    assert "Traceback" not in said
    assert not out.exists()


def test_another_threshold_is_recorded(tmp_path: Path):
    tiles = read_tiles([write_data(tmp_path / "d", 1)], "test")
    usual = evaluate(load_model(), tiles, "test", Matching(), device="cpu")
    strict = evaluate(load_model(), tiles, "test", Matching(), threshold=0.9, device="cpu")
    assert strict.threshold == 0.9
    assert strict.sets["d"]["recall"] < usual.sets["d"]["recall"] - 0.2
