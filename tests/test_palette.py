"""Stains, class rules and palettes: the class a pathologist sees must follow from the colour."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nucliseg_qp.config import StainSettings
from nucliseg_qp.errors import UsageError
from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.palette.classes import CLASS_MARGIN, available_palettes, load_palette
from nucliseg_qp.palette.rules import (
    DAB_OD_MEAN,
    HUE,
    SATURATION,
    VALUE,
    NearestColour,
    OpticalDensity,
    hsv_from_rgb,
    hsv_point,
)
from nucliseg_qp.palette.stains import StainMatrix
from nucliseg_qp.quantify.stain import measure_stains

STAINS = StainMatrix.from_settings(StainSettings())
DATA = Path(os.environ.get("NUCLISEG_QP_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _photographed(hematoxylin: np.ndarray, dab: np.ndarray) -> np.ndarray:
    density = hematoxylin[..., None] * STAINS.vectors[0] + dab[..., None] * STAINS.vectors[1]
    return np.rint(255 * 10**-density).astype(np.uint8)


# --- stains ---------------------------------------------------------------------------------


@given(st.floats(0, 0.6), st.floats(0, 0.6))
def test_a_colour_mixed_from_known_amounts_of_stain_gives_them_back(hematoxylin, dab):
    pixel = _photographed(np.array([hematoxylin]), np.array([dab]))
    measured = STAINS.concentrations(pixel, residual=True)[0]
    assert measured == pytest.approx([hematoxylin, dab, 0], abs=0.02)


def test_glass_is_free_of_stain_and_brighter_than_glass_is_too():
    tinted = StainMatrix(STAINS.vectors[0], STAINS.vectors[1], np.array([240.0, 235, 230]))
    pixels = np.array([[240, 235, 230], [255, 255, 255]], np.uint8)
    assert np.array_equal(tinted.concentrations(pixels), np.zeros((2, 2), np.float32))


def test_black_is_taken_as_one_as_in_qupath_not_as_infinitely_dense():
    black, one, two = STAINS.concentrations(np.repeat(np.uint8([[0], [1], [2]]), 3, axis=1))
    assert np.array_equal(black, one)
    assert not np.array_equal(one, two)
    assert np.isfinite(black).all()


def test_an_image_keeps_its_shape_and_equals_its_pixels_one_by_one():
    image = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    whole = STAINS.concentrations(image)
    assert whole.shape == (7, 5, 2)
    assert whole.dtype == np.float32
    assert np.array_equal(whole[3, 2], STAINS.concentrations(image[3, 2][None])[0])
    bgr = np.ascontiguousarray(image[..., ::-1])
    assert np.array_equal(whole, STAINS.concentrations(bgr[..., ::-1]))
    assert STAINS.concentrations(image[:0]).shape == (0, 5, 2)


def test_vectors_need_not_have_length_one():
    scaled = StainMatrix(STAINS.vectors[0] * 7, STAINS.vectors[1] / 3, np.full(3, 255.0))
    assert scaled.inverse == pytest.approx(STAINS.inverse)


@pytest.mark.parametrize("dab", [(0.65, 0.70, 0.29), (0, 0, 0), (np.nan, 1, 1)])
def test_stain_vectors_that_cannot_be_told_apart_are_refused(dab):
    with pytest.raises(UsageError, match="stains"):
        StainMatrix(np.array([0.65, 0.70, 0.29]), np.array(dab), np.full(3, 255.0))


# --- rules ----------------------------------------------------------------------------------


def _colours(*rgb: tuple[int, int, int]) -> dict[str, np.ndarray]:
    hue, saturation, value = hsv_from_rgb(np.array(rgb)).astype(np.float32).T
    return {HUE: hue, SATURATION: saturation, VALUE: value}


def _nearest(*classes: list[tuple[float, float, float]]) -> NearestColour:
    references = np.array([hsv for one in classes for hsv in one], float)
    owners = np.repeat(np.arange(len(classes)), [len(one) for one in classes])
    return NearestColour(hsv_point(*references.T), owners.astype(np.int16))


def test_hue_is_a_circle_so_that_red_at_350_degrees_is_near_red_at_10():
    rule = _nearest([(10, 0.5, 0.5)], [(300, 0.5, 0.5)])
    features = {HUE: np.array([350.0]), SATURATION: np.array([0.5]), VALUE: np.array([0.5])}
    assert rule.classify(features)[0].tolist() == [0]


def test_the_hue_of_a_grey_does_not_count():
    rule = _nearest([(0, 0.0, 0.2)], [(200, 0.0, 0.9)])
    features = {HUE: np.array([200.0]), SATURATION: np.array([0.0]), VALUE: np.array([0.3])}
    assert rule.classify(features)[0].tolist() == [0]


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_the_nearest_of_several_references_wins_and_the_margin_is_the_lead_over_other_classes(rgb):
    classes = [[(20, 0.6, 0.4), (15, 0.3, 0.6)], [(230, 0.3, 0.6), (250, 0.5, 0.5)]]
    features = _colours(rgb)
    point = hsv_point(*(features[name] for name in (HUE, SATURATION, VALUE)))[0]
    best = [min(np.linalg.norm(point - hsv_point(*ref)) for ref in one) for one in classes]
    index, margin = _nearest(*classes).classify(features)
    assert best[index[0]] == min(best)
    assert margin[0] == pytest.approx(abs(best[0] - best[1]), abs=1e-6)


def test_rgb_to_hsv_is_the_textbook_one():
    found = hsv_from_rgb(np.array([[255, 0, 0], [0, 128, 0], [0, 0, 255], [90, 90, 90], [0, 0, 0]]))
    expected = [[0, 1, 1], [120, 1, 128 / 255], [240, 1, 1], [0, 0, 90 / 255], [0, 0, 0]]
    assert found == pytest.approx(np.array(expected))


def test_a_nucleus_on_a_threshold_is_positive_as_in_qupath():
    rule = OpticalDensity(np.array([0.25, 0.5]))
    index, margin = rule.classify({DAB_OD_MEAN: np.array([0.1, 0.25, 0.45, 0.5, 9], np.float32)})
    assert index.tolist() == [0, 1, 1, 2, 2]
    assert margin == pytest.approx([0.15, 0, 0.05, 0, 8.5], abs=1e-6)


def test_thresholds_are_compared_in_double_like_qupath_does():
    # float32(0.7) is below 0.7, though both are equal in float32.
    index, _ = OpticalDensity(np.array([0.7])).classify({DAB_OD_MEAN: np.array([0.7], np.float32)})
    assert index.tolist() == [0]


@pytest.mark.parametrize("name", ["dab", "hsv"])
def test_a_nucleus_that_could_not_be_measured_gets_no_class(name):
    nothing = np.full(1, np.nan, np.float32)
    features = dict.fromkeys((DAB_OD_MEAN, HUE, SATURATION, VALUE), nothing)
    index, margin = load_palette(name).rule.classify(features)
    assert index.tolist() == [-1]
    assert np.isnan(margin).all()


# --- shipped palettes -----------------------------------------------------------------------


def test_shipped_classes_have_the_names_and_colours_of_qupath():
    assert set(available_palettes()) == {"dab", "dab-intensity", "hsv"}
    qupath = {
        "Negative": (112, 112, 225),
        "Positive": (250, 62, 62),
        "1+": (255, 255, 0),
        "2+": (255, 187, 62),
        "3+": (250, 62, 62),
    }
    for name in available_palettes():
        assert all(qupath[one.name] == one.color_rgb for one in load_palette(name).classes)
    assert load_palette("dab-intensity").names == ("Negative", "1+", "2+", "3+")


def test_shipped_thresholds_are_those_of_qupaths_positive_cell_detection():
    for name, thresholds in (("dab", [0.2]), ("dab-intensity", [0.2, 0.4, 0.6])):
        rule = load_palette(name).rule
        assert isinstance(rule, OpticalDensity)
        assert rule.thresholds.tolist() == thresholds
        assert rule.measurement == "Nucleus: DAB OD mean"


@pytest.mark.parametrize("name", ["dab", "hsv"])
def test_pure_mixtures_of_the_stains_get_the_class_of_their_dab(name):
    hematoxylin, dab = np.meshgrid(np.linspace(0.15, 0.7, 12), [0, 0.02, 0.05, 0.35, 0.6, 1.0])
    image = _photographed(hematoxylin * np.where(dab > 0.2, 0.5, 1), dab)
    labels = np.arange(1, dab.size + 1, dtype=np.int32).reshape(dab.shape)
    features = measure_stains(image, labels, dab.size, STAINS)
    index, _ = load_palette(name).rule.classify(features)
    assert np.array_equal(index, dab.ravel() > 0.2)


@pytest.mark.parametrize("name", ["dab", "hsv"])
def test_synthetic_tissue_is_classified_as_it_was_painted(name):
    from nucliseg_qp.training.synthetic import draw_field, plain_look

    field = draw_field(7, (512, 512), 0.25, plain_look())
    features = measure_stains(field.image, field.labels, len(field.classes), STAINS)
    index, _ = load_palette(name).rule.classify(features)
    seen = np.bincount(field.labels.ravel(), minlength=len(field.classes) + 1)[1:] > 80
    assert (index == (field.classes > 0))[seen].mean() >= 0.97


@pytest.mark.parametrize("name", ["dab", "hsv"])
def test_real_ki67_nuclei_get_the_class_a_pathologist_gave_them(name):
    right, total = 0, 0
    for features, positive in _glioma():
        right += (load_palette(name).rule.classify(features)[0] == positive).sum()
        total += len(positive)
    assert right / total >= 0.95


def _glioma():
    import cv2
    import orjson

    folder = DATA / "glioma_ki67"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent (NUCLISEG_QP_DATA names the data)")
    for name, points in orjson.loads((folder / "points.json").read_bytes()).items():
        bgr = cv2.imread(str(folder / "images" / name))
        labels = cv2.imread(str(folder / "masks" / name), cv2.IMREAD_UNCHANGED).astype(np.int32)
        features = measure_stains(bgr[..., ::-1], labels, len(points), STAINS)
        yield features, np.array([kind == "positive" for _, _, kind in points])


def test_classes_and_margin_travel_with_the_table():
    nuclei = Nuclei(
        x=np.zeros(2),
        y=np.zeros(2),
        score=np.ones(2, np.float32),
        ring_xy=np.zeros((0, 2)),
        ring_start=np.zeros(3, np.int64),
        measurements={DAB_OD_MEAN: np.array([0.1, 0.5], np.float32)},
    )
    classified = load_palette("dab").classify(nuclei)
    assert classified.counts() == {"Negative": 1, "Positive": 1}
    assert classified.measurements[CLASS_MARGIN] == pytest.approx([0.1, 0.3])
    with pytest.raises(UsageError, match="NucliSeg: Hue"):
        load_palette("hsv").classify(nuclei)


# --- palettes of one's own ------------------------------------------------------------------

MINE = """
rule = "nearest-color"
[[class]]
name = "Resting"
color = [0, 0, 255]
references_rgb = [[100, 100, 200], [60, 60.5, 150]]
[[class]]
name = "Dividing"
color = [255, 0, 0]
references_rgb = [[120, 80, 60]]
"""


def test_a_file_of_ones_own_is_read_by_path(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    palette = load_palette(tmp_path / "mine.toml")
    assert (palette.name, palette.names) == ("mine", ("Resting", "Dividing"))
    index, _ = palette.rule.classify(_colours((70, 70, 160), (125, 85, 60)))
    assert index.tolist() == [0, 1]


def test_every_preset_can_be_copied_and_loaded_as_a_file(tmp_path):
    import nucliseg_qp.palette

    for name in available_palettes():
        text = (Path(nucliseg_qp.palette.__path__[0]) / "presets" / f"{name}.toml").read_text()
        (tmp_path / "copy.toml").write_text(text)
        assert load_palette(tmp_path / "copy.toml").names == load_palette(name).names


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        load_palette("dapi")
    assert "'dapi'" in str(caught.value)
    assert all(name in str(caught.value) for name in available_palettes())


OD = 'rule = "optical-density"\n'
NEGATIVE = '[[class]]\nname = "Negative"\ncolor = [1, 2, 3]\n'
POSITIVE = '[[class]]\nname = "Positive"\ncolor = [1, 2, 3]\nfrom = 0.2\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rule = \n", "line 1"),
        (OD.replace("optical-density", "magic") + NEGATIVE + POSITIVE, "rule"),
        (NEGATIVE + POSITIVE, "rule is missing"),
        (OD.replace("rule", "rul") + NEGATIVE + POSITIVE, "no field rul, perhaps 'rule' is meant"),
        ("rule = 3\n" + NEGATIVE + POSITIVE, "rule = 3 is no text"),
        (OD, "at least two classes"),
        (OD + NEGATIVE, "at least two classes"),
        (OD + NEGATIVE + '[[class]]\nname = "3+"\n', "class 2 ('3+') color is missing"),
        (OD + NEGATIVE + "[[class]]\ncolor = [1, 2, 3]\n", "class 2 name is missing"),
        (OD + NEGATIVE + NEGATIVE + "from = 0.2\n", "repeats the name 'Negative'"),
        (OD + NEGATIVE + POSITIVE.replace("from = 0.2", ""), "class 2 ('Positive')"),
        (OD + POSITIVE + NEGATIVE, "class 1 ('Positive')"),
        (OD + NEGATIVE + POSITIVE.replace("0.2", "nan"), "class 2 ('Positive') from"),
        (OD + NEGATIVE + POSITIVE.replace("0.2", "inf"), "class 2 ('Positive') from"),
        (OD + NEGATIVE + POSITIVE + POSITIVE.replace("Positive", "3+"), "class 3 ('3+') from"),
        (
            OD + NEGATIVE + POSITIVE.replace("3]", "300]"),
            "('Positive') color value 3 = 300 is above 255",
        ),
        (OD + NEGATIVE + POSITIVE.replace("[1, 2, 3]", "[1, 2]"), "has 2 values, 3 are needed"),
        (OD + NEGATIVE + POSITIVE.replace("[1, 2, 3]", '"red"'), "class 2 ('Positive') color"),
        (
            OD + NEGATIVE + POSITIVE.replace("Positive", "A: B"),
            "class 2 ('A: B') name = 'A: B' must not",
        ),
        (OD + NEGATIVE + POSITIVE.replace("Positive", r"A\nB"), "class 2"),
        (OD + NEGATIVE + POSITIVE.replace("Positive", " "), "class 2"),
        (OD + NEGATIVE + POSITIVE.replace("Positive", "Unclassified"), "Unclassified"),
        (OD + NEGATIVE + POSITIVE.replace("from", "threshold"), "class 2 ('Positive') threshold"),
        (OD + "[class]\nname = 1\n", "at least two classes are needed, each a [[class]]"),
        (OD + 'class = ["Negative", "Positive"]\n', "class 1"),
        (OD + 'measurement = "Nucleus: Area"\n' + NEGATIVE + POSITIVE, "'Nucleus: Area'"),
        (OD + NEGATIVE + POSITIVE + "references_rgb = [[1, 2, 3]]\n", "references_rgb"),
        (MINE.replace("references_rgb = [[120, 80, 60]]", ""), "'Dividing'"),
        (MINE.replace("[[120, 80, 60]]", "[]"), "class 2 ('Dividing') has no references_rgb"),
        (
            MINE.replace("[[120, 80, 60]]", "[[120, 80]]"),
            "references_rgb value 1 = [120, 80] has 2 values",
        ),
        (
            MINE.replace("[[120, 80, 60]]", "[[120, 80, nan]]"),
            "value 1 value 3 = nan is no finite number",
        ),
        (MINE + "from = 0.2\n", "class 2 ('Dividing') has `from`"),
        ('measurement = "x"\n' + MINE, "measurement"),
        ("x = " + "[" * 100_000, "not TOML"),
        ("#" * 1_000_001, "1 MB"),
    ],
)
def test_a_broken_palette_is_refused_with_the_line_or_field_named(tmp_path, text, told):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_palette(path)
    assert told in str(caught.value)
    assert "broken.toml" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not re.search(
        "Input should|Field required|Value error|validation|_Class", str(caught.value)
    )


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        load_palette(tmp_path / "binary.toml")
