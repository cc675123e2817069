"""Measurements: what is told of a nucleus is what QuPath would tell of the same outline."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from nucliseg_qp.config import StainSettings
from nucliseg_qp.errors import OutputError
from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.palette.rules import HUE, SATURATION, VALUE
from nucliseg_qp.palette.stains import STAIN_COLUMNS, StainMatrix
from nucliseg_qp.quantify import table as table_module
from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS, measure_nuclei
from nucliseg_qp.quantify.scores import score_counts
from nucliseg_qp.quantify.shape import SHAPE_COLUMNS, centroids, measure_shapes
from nucliseg_qp.quantify.stain import measure_stains
from nucliseg_qp.quantify.table import TableWriter, summary_row, write_summary

STAINS = StainMatrix.from_settings(StainSettings())
QUPATH = Path(__file__).with_name("qupath_measures.py")
AREA, PERIMETER, CIRCULARITY, MAX_CALIPER, MIN_CALIPER, ECCENTRICITY = SHAPE_COLUMNS


def _ragged(rings):
    start = np.cumsum([0, *map(len, rings)]).astype(np.int64)
    return np.concatenate([np.reshape(ring, (-1, 2)) for ring in rings]).astype(float), start


def _shapes(*rings, mpp=(None, None)):
    return measure_shapes(*_ragged(rings), *mpp)


def _ellipse(a, b, turn=0.0, x=0.0, y=0.0, corners=400):
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([x + u * cos - v * sin, y + u * sin + v * cos], axis=1)


def _star(seed, corners=20):
    rng = np.random.default_rng(seed)
    # Nowhere more than half a turn apart, or it would cross itself.
    t = (np.arange(corners) + rng.random(corners)) * 2 * np.pi / corners
    radius = rng.uniform(5, 15, corners)
    return np.stack([100 + radius * np.cos(t), 80 + radius * np.sin(t)], axis=1)


# --- shape ----------------------------------------------------------------------------------


def test_a_rectangle_has_the_numbers_of_a_rectangle():
    measured = _shapes([[2, 3], [8, 3], [8, 5], [2, 5]])
    expected = {
        AREA: 12,
        PERIMETER: 16,
        CIRCULARITY: 4 * np.pi * 12 / 16**2,
        MAX_CALIPER: np.hypot(6, 2),
        MIN_CALIPER: 2,
        ECCENTRICITY: np.sqrt(1 - (2 / 6) ** 2),
    }
    assert {name: float(column[0]) for name, column in measured.items()} == pytest.approx(expected)


def test_an_ellipse_has_its_own_axes_however_it_lies():
    for turn in (0, 0.3, 1.5, 2.8):
        measured = _shapes(_ellipse(10, 6, turn, 500, 700))
        assert measured[MAX_CALIPER][0] == pytest.approx(20, rel=1e-3)
        assert measured[MIN_CALIPER][0] == pytest.approx(12, rel=1e-3)
        assert measured[ECCENTRICITY][0] == pytest.approx(0.8, rel=1e-3)


def test_the_long_diagonal_of_a_parallelogram_is_found():
    # Its parallel sides are where rotating calipers most easily miss a pair.
    ring = np.array([[0, 0], [10, 0], [14, 3], [4, 3]], float)
    turned = [
        ring @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for turn in np.linspace(0, 2 * np.pi, 300)
    ]
    measured = _shapes(*turned)
    assert measured[MAX_CALIPER] == pytest.approx(np.hypot(14, 3))
    assert measured[MIN_CALIPER] == pytest.approx(3)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.integers(3, 40))
def test_calipers_equal_trying_all_pairs_and_all_sides(seeds, corners):
    rings = [_star(seed, corners) for seed in seeds]
    measured = _shapes(*rings)
    for row, ring in enumerate(rings):
        pairs = np.hypot(*(ring[:, None] - ring[None]).transpose(2, 0, 1))
        assert measured[MAX_CALIPER][row] == pytest.approx(pairs.max(), rel=1e-5)
        # The least width is that across the line through some two corners.
        side = (ring[:, None] - ring[None])[pairs > 0]
        normal = np.stack([-side[:, 1], side[:, 0]], axis=1) / np.hypot(*side.T)[:, None]
        assert measured[MIN_CALIPER][row] == pytest.approx(
            np.ptp(ring @ normal.T, axis=0).min(), rel=1e-4
        )


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_turning_mirroring_and_direction_of_the_ring_change_nothing(seed, turn):
    ring = _star(seed) - [100, 80]
    cos, sin = np.cos(turn), np.sin(turn)
    turned = ring @ np.array([[cos, sin], [-sin, cos]])
    measured = _shapes(ring, turned, ring[::-1], ring * [-1, 1])
    for column in measured.values():
        assert column == pytest.approx(column[0], rel=1e-4)


def test_far_from_the_corner_of_the_slide_a_nucleus_measures_the_same():
    ring = np.rint(_ellipse(12, 7, 0.4, 40, 40))
    near, far = (
        column.astype(float) for column in np.array([*_shapes(ring, ring + 150_000).values()]).T
    )
    assert far == pytest.approx(near, rel=1e-6)


def test_vertices_count_where_qupath_will_store_them():
    # QuPath keeps float32: 100,000 px from the corner that is a grid of 1/128 px.
    ring = _ellipse(12, 7, 0.4, 100_000.003, 100_000.001)
    given, stored = _shapes(ring), _shapes(ring.astype(np.float32))
    assert {n: c.tolist() for n, c in given.items()} == {n: c.tolist() for n, c in stored.items()}


def test_pixel_size_scales_lengths_once_and_areas_twice():
    ring = _star(5)
    px, um = _shapes(ring), _shapes(ring, mpp=(0.5, None))
    assert um[AREA] == pytest.approx(px[AREA] / 4)
    for name in (PERIMETER, MAX_CALIPER, MIN_CALIPER):
        assert um[name] == pytest.approx(px[name] / 2)
    for name in (CIRCULARITY, ECCENTRICITY):
        assert um[name] == pytest.approx(px[name])


@pytest.mark.parametrize("ring", [_star(6), np.round(_ellipse(12, 7, 0.4, 90, 80, 90), 1)])
def test_pixels_that_are_not_square_are_stretched_before_measuring(ring):
    # The corners of the ellipse lie on a grid, where a hull has many edges in nearly one line.
    stretched, stored = _shapes(ring * [0.25, 0.3]), _shapes(ring, mpp=(0.25, 0.3))
    for name in SHAPE_COLUMNS:
        assert stored[name] == pytest.approx(stretched[name], rel=1e-5)


def test_calipers_are_the_same_whichever_way_an_outline_goes():
    rings = [_star(seed, 30) for seed in range(20)]
    one, other = _shapes(*rings), _shapes(*[ring[::-1] for ring in rings])
    for name in (MAX_CALIPER, MIN_CALIPER):
        assert other[name] == pytest.approx(one[name], rel=1e-6)


def test_degenerate_rings_do_not_disturb_their_neighbours():
    good = _star(1)
    alone = _shapes(good)
    measured = _shapes([], good, [[5, 5]], [[1, 1], [4, 5]], [[0, 0], [1, 1], [2, 2]], good, [])
    for name in SHAPE_COLUMNS:
        assert measured[name][[1, 5]].tolist() == [alone[name][0]] * 2
        assert np.isnan(measured[name][[0, 6]]).all()
    assert measured[AREA][2:5].tolist() == [0, 0, 0]
    assert measured[MAX_CALIPER][2:5] == pytest.approx([0, 5, np.hypot(2, 2)])
    assert measured[MIN_CALIPER][2:5].tolist() == [0, 0, 0]
    assert np.isnan(measured[ECCENTRICITY][2:5]).all()


def test_no_outlines_give_empty_columns():
    measured = measure_shapes(np.empty((0, 2)), np.zeros(1, np.int64), 0.25, 0.25)
    assert [len(column) for column in measured.values()] == [0] * 6
    assert centroids(np.empty((0, 2)), np.zeros(1, np.int64)).shape == (0, 2)


def test_the_centroid_is_that_of_the_area_not_of_the_vertices():
    lopsided = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 3], [0, 2], [0, 1]]
    line = [[2, 2], [6, 4]]
    found = centroids(*_ragged([lopsided, line]))
    assert found == pytest.approx(np.array([[2, 2], [4, 3]]))


# --- stain ----------------------------------------------------------------------------------


def _noise(seed=0, shape=(40, 50), count=12):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    blocks = rng.integers(0, count + 1, (shape[0] // 5, shape[1] // 5))
    return rgb, np.kron(blocks, np.ones((5, 5))).astype(np.int32)


def test_every_stain_column_equals_a_loop_over_the_nuclei():
    rgb, labels = _noise()
    measured = measure_stains(rgb, labels, 12, STAINS)
    values = STAINS.concentrations(rgb).astype(float)
    for row in range(12):
        inside = values[labels == row + 1]
        expected = np.stack(
            [
                inside.mean(0),
                inside.sum(0),
                inside.std(0, ddof=1),
                inside.max(0),
                inside.min(0),
                np.ptp(inside, axis=0),
            ]
        ).T.ravel()
        found = [measured[name][row] for name in STAIN_COLUMNS]
        assert found == pytest.approx(expected, rel=1e-6)


def test_names_and_order_are_those_of_qupaths_cell_detection():
    assert list(measure_stains(*_noise(), 12, STAINS))[:7] == [
        "Nucleus: Hematoxylin OD mean",
        "Nucleus: Hematoxylin OD sum",
        "Nucleus: Hematoxylin OD std dev",
        "Nucleus: Hematoxylin OD max",
        "Nucleus: Hematoxylin OD min",
        "Nucleus: Hematoxylin OD range",
        "Nucleus: DAB OD mean",
    ]


def test_a_missing_label_is_nan_and_a_surplus_label_is_left_out():
    rgb, labels = _noise()
    labels[labels == 3] = 40_000
    measured = measure_stains(rgb, labels, 5, STAINS)
    for column in measured.values():
        assert np.flatnonzero(np.isnan(column)).tolist() == [2]


def test_one_pixel_has_no_spread_to_estimate_and_a_flat_nucleus_has_none():
    labels = np.array([[1, 2, 2, 2]], np.int32)
    rgb = np.full((1, 4, 3), [120, 80, 60], np.uint8)
    spread = measure_stains(rgb, labels, 2, STAINS)["Nucleus: DAB OD std dev"]
    assert np.isnan(spread[0])
    assert spread[1] == 0


@pytest.mark.parametrize("count", [0, 3])
def test_a_tile_without_nuclei_gives_nan_without_a_warning(count, recwarn):
    measured = measure_stains(*_noise()[:1], np.zeros((40, 50), np.int32), count, STAINS)
    assert all(len(column) == count and np.isnan(column).all() for column in measured.values())
    assert not recwarn.list


def test_the_mean_of_reds_left_and_right_of_zero_degrees_is_red_not_cyan():
    rgb = np.array([[[200, 50, 70], [200, 70, 50]]], np.uint8)
    hue = measure_stains(rgb, np.ones((1, 2), np.int32), 1, STAINS)[HUE][0]
    assert min(hue, 360 - hue) < 2


def test_grey_pixels_do_not_pull_the_mean_hue():
    rgb = np.array([[[60, 60, 200], [128, 128, 128], [128, 129, 128]]], np.uint8)
    measured = measure_stains(rgb, np.ones((1, 3), np.int32), 1, STAINS)
    assert measured[HUE][0] == pytest.approx(240, abs=2)
    assert measured[SATURATION][0] == pytest.approx(0.7 / 3, abs=0.01)
    assert measured[VALUE][0] == pytest.approx((200 + 128 + 129) / 3 / 255, abs=0.01)


def test_a_nucleus_in_several_pieces_is_one_nucleus():
    rgb, _ = _noise()
    labels = np.zeros((40, 50), np.int32)
    labels[::3, ::2] = 2
    labels[1::3, 1::7] = 1
    together = measure_stains(rgb, labels, 2, STAINS)["Nucleus: DAB OD mean"]
    apart = [STAINS.concentrations(rgb)[labels == k][:, 1].mean() for k in (1, 2)]
    assert together == pytest.approx(apart, rel=1e-5)


# --- QuPath itself --------------------------------------------------------------------------


MPPS = [(1.0, 1.0), (0.25, 0.25), (0.25, 0.250005), (0.25, 0.4)]
BACKGROUNDS = [(255.0, 255.0, 255.0), (243.0, 240.5, 231.0)]
VECTORS = {"Hematoxylin": (0.65111, 0.70119, 0.29049), "DAB": (0.26917, 0.56824, 0.77759)}
ALONG_EDGES = [
    [[4, 4], [10, 4], [10, 6], [7, 6], [7, 9], [4, 9]],
    [[5, 20], [12, 20], [12, 22], [15, 22], [15, 26], [9, 26], [9, 24], [5, 24]],
    [[3, 3], [9, 3], [9, 6], [3, 6]],
]


def _anywhere():
    rng = np.random.default_rng(11)
    rings = [_star(seed, int(rng.integers(3, 40))) + rng.random(2) * 900 for seed in range(30)]
    return [*rings, _ellipse(9, 6, 0.7, 40, 50, 24), _ellipse(9, 9, 0, 400, 300, 64)]


@pytest.fixture(scope="module")
def qupath():
    """Give QuPath's answers to all questions of this file, by question."""
    rgb, labels = _noise(seed=4)
    image = {"rgb": rgb.tolist(), "labels": labels.tolist(), "count": 12, "vectors": VECTORS}
    rings = [ring.tolist() for ring in _anywhere()]
    asked = {mpp: ("shapes", {"rings": rings, "mpp": mpp}) for mpp in MPPS}
    asked["edges"] = ("shapes", {"rings": ALONG_EDGES, "mpp": (0.5, 0.5)})
    asked |= {white: ("stains", {**image, "background": white}) for white in BACKGROUNDS}
    told = subprocess.run(
        [sys.executable, str(QUPATH)],
        input=json.dumps(list(asked.values())),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    return dict(zip(asked, json.loads(told.stdout), strict=True))


@pytest.mark.qupath
@pytest.mark.parametrize("mpp", MPPS)
def test_qupath_measures_the_same_polygons_the_same(mpp, qupath):
    rings, expected = _anywhere(), qupath[mpp]
    measured = measure_shapes(*_ragged(rings), *mpp)
    for name in (AREA, PERIMETER, CIRCULARITY, MAX_CALIPER, MIN_CALIPER):
        assert measured[name] == pytest.approx([one[name] for one in expected], rel=3e-6), name
    middle = [one["centroid"] for one in expected]
    assert centroids(*_ragged(rings)) == pytest.approx(np.array(middle), abs=1e-3)


@pytest.mark.qupath
def test_qupath_fits_the_same_ellipse_to_outlines_along_pixel_edges(qupath):
    measured = _shapes(*ALONG_EDGES, mpp=(0.5, 0.5))[ECCENTRICITY]
    assert measured == pytest.approx([one[ECCENTRICITY] for one in qupath["edges"]], rel=1e-5)


@pytest.mark.qupath
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_qupath_measures_the_same_stains(background, qupath):
    rgb, labels = _noise(seed=4)
    expected = qupath[background]
    stains = StainMatrix(*map(np.array, [*VECTORS.values(), background]))
    pixels = stains.concentrations(rgb, residual=True).reshape(-1, 3)
    for column, name in enumerate(("Hematoxylin", "DAB", "Residual")):
        assert pixels[:, column] == pytest.approx(expected[f"{name} pixels"], abs=3e-7)
    measured = measure_stains(rgb, labels, 12, stains)
    found = np.stack([measured[name] for name in STAIN_COLUMNS], axis=1)
    both = np.concatenate([expected["Hematoxylin"], expected["DAB"]], axis=1)
    assert found == pytest.approx(both, rel=2e-6, abs=1e-6)


# --- the whole tile, tables -----------------------------------------------------------------


def _nuclei(count=3, classes=True):
    rings = [_star(seed) + np.array([30, 0]) * seed for seed in range(count)]
    ring_xy, start = _ragged(rings)
    nuclei = Nuclei(
        x=np.arange(count) * 30.0 + 100,
        y=np.full(count, 80.0),
        score=np.linspace(0.2, 0.9, count).astype(np.float32),
        ring_xy=ring_xy,
        ring_start=start,
    )
    rgb, labels = _noise(count=count)
    measured = measure_nuclei(rgb, labels, nuclei, STAINS, 0.25)
    return load_palette("dab").classify(measured) if classes else measured


def test_a_tile_is_measured_in_qupaths_order_with_the_score_as_probability():
    nuclei = _nuclei(classes=False)
    assert tuple(nuclei.measurements) == MEASUREMENT_COLUMNS
    assert list(nuclei.measurements)[:7] == [*SHAPE_COLUMNS, "Nucleus: Hematoxylin OD mean"]
    assert nuclei.measurements["Detection probability"].tolist() == nuclei.score.tolist()
    assert all(column.dtype == np.float32 for column in nuclei.measurements.values())


def write_table(path, nuclei, ids, image_name, length_unit="um"):
    with TableWriter(path, image_name, length_unit=length_unit) as table:
        table.add(nuclei, ids)


def test_a_table_gives_back_what_was_measured(tmp_path):
    nuclei, path = _nuclei(), tmp_path / "tables" / "a.parquet"
    ids = nucleus_ids("a", nuclei)
    write_table(path, nuclei, ids, "a.svs")
    read = parquet.read_table(path)
    assert read.column_names[:7] == ["id", "x", "y", "keypoint_x", "keypoint_y", "class", "score"]
    assert read["id"].to_pylist() == ids
    assert read["keypoint_x"].to_pylist() == nuclei.x.tolist()
    assert read["x"].to_pylist() == centroids(nuclei.ring_xy, nuclei.ring_start)[:, 0].tolist()
    assert read["class"].to_pylist() == [nuclei.class_names[i] for i in nuclei.class_index]
    for name, column in nuclei.measurements.items():
        assert np.array_equal(read[name].to_numpy(), column, equal_nan=True)


def test_a_table_tells_its_units_and_its_image(tmp_path):
    for unit in ("um", "px"):
        write_table(tmp_path / "a.parquet", _nuclei(), ["1", "2", "3"], "a.svs", length_unit=unit)
        schema = parquet.read_schema(tmp_path / "a.parquet")
        assert schema.metadata[b"image"] == b"a.svs"
        assert schema.field(AREA).metadata[b"unit"].decode() == f"{unit}^2"
        assert schema.field(MAX_CALIPER).metadata[b"unit"].decode() == unit
        assert schema.field("x").metadata[b"unit"] == b"px"
        assert schema.field(CIRCULARITY).metadata[b"unit"] == b"1"


def test_parts_give_the_same_table_as_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "_ROWS_A_GROUP", 4)
    nuclei = _nuclei(10)
    ids = nucleus_ids("a", nuclei)
    write_table(tmp_path / "whole.parquet", nuclei, ids, "a")
    with TableWriter(tmp_path / "parts.parquet", "a") as table:
        for rows in (np.arange(0), np.arange(3), np.arange(3, 9), np.arange(9, 10)):
            table.add(nuclei.take(rows), [ids[row] for row in rows])
    whole, parts = (parquet.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "parts"))
    assert parts.equals(whole)
    assert parquet.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 2


def test_a_nucleus_without_class_has_null_there(tmp_path):
    nuclei = _nuclei()
    nuclei = nuclei.with_classes(nuclei.class_names, np.array([-1, 1, 0], np.int16))
    write_table(tmp_path / "a.parquet", nuclei, ["1", "2", "3"], "a")
    found = parquet.read_table(tmp_path / "a.parquet")["class"].to_pylist()
    assert found == [None, "Positive", "Negative"]
    write_table(tmp_path / "b.parquet", _nuclei(classes=False), ["1", "2", "3"], "b")
    assert parquet.read_table(tmp_path / "b.parquet")["class"].to_pylist() == [None] * 3


def test_a_slide_without_nuclei_has_a_table_with_the_same_columns(tmp_path):
    with TableWriter(tmp_path / "none.parquet", "none"):
        pass
    write_table(tmp_path / "some.parquet", _nuclei(), ["1", "2", "3"], "some")
    none, some = (parquet.read_table(tmp_path / f"{n}.parquet") for n in ("none", "some"))
    assert none.num_rows == 0
    assert none.schema.equals(some.schema)


def test_a_run_that_breaks_leaves_the_table_of_the_run_before(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, _nuclei(), ["1", "2", "3"], "a")
    before = path.read_bytes()

    def break_off():
        with TableWriter(path, "a") as table:
            table.add(_nuclei(5), list("12345"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(tmp_path / "file" / "a.parquet", _nuclei(), ["1", "2", "3"], "a")


def _row(image, counts, status="done"):
    return summary_row(
        image, counts, score_counts(counts), tissue_mm2=0.5, seconds=1.25, status=status
    )


def test_the_summary_has_a_line_an_image_and_qupaths_names(tmp_path):
    path = tmp_path / "summary.csv"
    rows = [
        _row("a, b.svs", {"Negative": 2, "Positive": 1}),
        _row("ö.svs", {"Negative": 0, "1+": 5}),
    ]
    write_summary(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        "image", "nuclei", "Num Negative", "Num 1+", "Num Positive", "Positive %", "H-score",
        "tissue_mm2", "nuclei_per_mm2", "seconds", "status",
    ]  # fmt: skip
    assert first["image"] == "a, b.svs"
    assert (first["nuclei"], first["Num 1+"], first["H-score"]) == ("3", "", "")
    assert (first["Positive %"], first["nuclei_per_mm2"]) == ("33.33333", "6")
    assert (second["image"], second["H-score"]) == ("ö.svs", "100")


def test_an_image_that_is_not_done_has_no_scores():
    incomplete = _row("a", {"Negative": 1, "3+": 1}, "incomplete")
    assert (incomplete["nuclei"], incomplete["Num 3+"]) == (2, 1)
    assert [incomplete[n] for n in ("Positive %", "H-score", "nuclei_per_mm2")] == [None] * 3
    failed = _row("a", {"Negative": 0, "Positive": 0}, "failed")
    assert (failed["nuclei"], failed["Num Negative"], failed["status"]) == (None, None, "failed")


def test_nothing_found_is_an_empty_percentage_not_zero(tmp_path):
    write_summary(tmp_path / "s.csv", [_row("a", {"Negative": 0, "Positive": 0})])
    with (tmp_path / "s.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["nuclei"], row["Positive %"]) == ("0", "")
