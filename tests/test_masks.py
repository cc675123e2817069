"""Outlines: what they enclose, how far they reach, and the colours of a slide as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nucliseg_qp.config import MaskSettings
from nucliseg_qp.geometry import RAYS, Region, Tile
from nucliseg_qp.keypoints.search import Keypoints
from nucliseg_qp.masks.contours import places
from nucliseg_qp.masks.outlines import GreyBorder, trace_outlines
from nucliseg_qp.masks.seeds import Zones, find_zones
from nucliseg_qp.masks.statistics import (
    SlideStatistics,
    histogram_of,
    otsu_threshold,
    three_class_otsu,
)
from nucliseg_qp.masks.tile import MaskGrid, TileMasks, outline_tile
from nucliseg_qp.masks.watershed import ROUND_UM, flood, label_nuclei, rounded

MPP = 0.25
DARK, PALE = (110, 70, 50), (240, 240, 245)
STATISTICS = SlideStatistics((255.0, 255.0, 255.0), 180.0, 240.0)
EIGHT = np.ones((3, 3), bool)


# --- tracing -------------------------------------------------------------------------------------


def enclosed_pixels(ring: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies in a ring, as QuPath rasterises it."""
    row, column = np.indices(shape)
    return shapely.contains_xy(shapely.Polygon(ring), column + 0.5, row + 0.5)


def filled_pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Every 8-connected piece with its holes filled, found the slow way."""
    pieces, number = ndimage.label(mask, EIGHT)
    return [ndimage.binary_fill_holes(pieces == k) for k in range(1, number + 1)]


def upscaled(cells: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(cells, 3, axis=0), 3, axis=1)


shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=11)
noise = hnp.arrays(np.int32, shapes, elements=st.integers(0, 3))
blocks = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
                    elements=st.integers(0, 3)).map(upscaled)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(labels=noise | blocks)
def test_an_outline_encloses_the_pixels_of_its_largest_piece_and_no_other(labels):
    before = labels.copy()
    outlines = trace_outlines(labels, 3)
    for label in (1, 2, 3):
        start, stop = outlines.ring_start[label - 1 : label + 1]
        pieces = filled_pieces(before == label)
        if not pieces:
            assert start == stop
            assert outlines.area_px[label - 1] == 0
            continue
        got = enclosed_pixels(outlines.ring_xy[start:stop], labels.shape)
        largest = max(piece.sum() for piece in pieces)
        assert got.sum() == largest == outlines.area_px[label - 1]
        assert any((got == piece).all() for piece in pieces)


@settings(max_examples=100, deadline=None)
@given(labels=noise | blocks)
def test_every_outline_is_a_valid_polygon_without_superfluous_vertices(labels):
    outlines = trace_outlines(labels, 3)
    for start, stop in zip(outlines.ring_start[:-1], outlines.ring_start[1:], strict=True):
        if start == stop:
            continue
        ring = outlines.ring_xy[start:stop]
        assert shapely.is_valid(shapely.Polygon(ring))
        into, out = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        assert (into[:, 0] * out[:, 1] != into[:, 1] * out[:, 0]).all()


@settings(max_examples=100, deadline=None)
@given(labels=noise | blocks)
def test_labels_and_outlines_agree_so_that_stain_is_measured_inside_the_outline(labels):
    before = labels.copy()
    outlines = trace_outlines(labels, 3)
    for label in (1, 2, 3):
        start, stop = outlines.ring_start[label - 1 : label + 1]
        if start == stop:
            assert not (labels == label).any()
            continue
        inside = enclosed_pixels(outlines.ring_xy[start:stop], labels.shape)
        assert not (labels[~inside] == label).any()
        # Nobody loses all to a neighbour around it, and no hole is left.
        assert ((labels == label) & (before == label)).any()
        assert (labels[inside] > 0).all()


@settings(max_examples=200, deadline=None)
@given(labels=noise | blocks, seed=st.integers(0, 2**16))
def test_an_outline_between_pixel_centres_is_valid_and_encloses_its_label_still(labels, seed):
    rng = np.random.default_rng(seed)
    red = rng.integers(0, 256, labels.shape).astype(np.uint8)
    outlines = trace_outlines(labels, 3, GreyBorder.of(red, labels, rng.uniform(0, 256, 4)))
    for label in (1, 2, 3):
        ring = outlines.ring_xy[slice(*outlines.ring_start[label - 1 : label + 1])]
        if len(ring):
            assert shapely.Polygon(ring).is_valid
            inside = enclosed_pixels(ring, labels.shape)
            assert inside.sum() == outlines.area_px[label - 1]
            assert (labels[inside] > 0).all()
            assert not (labels[~inside] == label).any()


def test_a_blurred_disc_gets_its_true_size_and_place_to_a_fraction_of_a_pixel():
    row, column = np.indices((40, 40))
    away = np.hypot(column + 0.5 - 20.3, row + 0.5 - 19.6)
    red = np.clip(60 + 140 * (away - 8.4 + 1.5) / 3, 60, 200).astype(np.uint8)
    labels = (red <= 130).astype(np.int32)
    disc = shapely.Point(20.3, 19.6).buffer(8.4)

    def overlap(border: GreyBorder | None) -> float:
        found = shapely.Polygon(trace_outlines(labels, 1, border).ring_xy)
        return float(found.intersection(disc).area / found.union(disc).area)

    assert overlap(None) < 0.96
    assert overlap(GreyBorder.of(red, labels, np.array([0.0, 130.0]))) > 0.97


def test_a_nucleus_inside_the_ring_of_another_keeps_its_own_outline():
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[2:7, 2:7] = 0
    labels[4, 4] = 2
    outlines = trace_outlines(labels, 2)
    assert outlines.area_px.tolist() == [49, 1]
    assert labels[4, 4] == 2
    assert labels[3, 3] == 1


def test_a_nucleus_in_pieces_inside_the_ring_of_another_keeps_the_largest():
    labels = np.ones((7, 9), np.int32)
    labels[2:5, 1:4] = 2
    labels[3, 6] = 2
    outlines = trace_outlines(labels, 2)
    assert outlines.area_px.tolist() == [63, 9]
    assert (labels[2:5, 1:4] == 2).all()
    assert labels[3, 6] == 1


def test_a_single_pixel_is_a_small_diamond_around_its_centre():
    labels = np.zeros((3, 4), np.int32)
    labels[1, 2] = 1
    outlines = trace_outlines(labels, 1)
    assert sorted(outlines.ring_xy.tolist()) == [[2.0, 1.5], [2.5, 1.0], [2.5, 2.0], [3.0, 1.5]]


def test_no_labels_give_no_outlines():
    outlines = trace_outlines(np.zeros((5, 5), np.int32), 0)
    assert outlines.ring_start.tolist() == [0]
    assert len(outlines.ring_xy) == 0


# --- seeds and flood -----------------------------------------------------------------------------


def discs(size: int, centres: np.ndarray, radius_px: float) -> np.ndarray:
    """A pale field with dark discs."""
    row, column = np.indices((size, size))
    image = np.full((size, size, 3), PALE, np.uint8)
    for x, y in centres:
        image[np.hypot(column + 0.5 - x, row + 0.5 - y) <= radius_px] = DARK
    return image


def radii(count: int, radius_px: float) -> np.ndarray:
    return np.full((count, RAYS), radius_px, np.float32)


def outlined(
    image: np.ndarray, centres: np.ndarray, radius_px: float = 16, **changed: float
) -> TileMasks:
    """Outlines of the keypoints of an image that is one tile."""
    size = Region(0, 0, image.shape[1], image.shape[0])
    wanted = MaskSettings(mpp=MPP, **changed)
    order = np.argsort(centres[:, 1], kind="stable")
    x, y = centres[order].T.astype(float)
    there = np.ones(len(x), bool)
    points = Keypoints(x, y, there.astype(np.float32), radii(len(x), radius_px), there)
    grid = MaskGrid.of(MPP, size, wanted)
    return outline_tile(image, Tile(size, size), points, STATISTICS, wanted, grid)


def test_a_keypoint_on_bare_glass_still_gets_its_seed():
    centres = np.array([[40.0, 40.0], [90.0, 80.0]])
    image = np.full((128, 128, 3), 255, np.uint8)
    steps = label_nuclei(image, centres, radii(2, 12), STATISTICS, MaskSettings(), MPP)
    assert steps.labels[40, 40] == 1
    assert steps.labels[80, 90] == 2
    radius_px = MaskSettings().seed_share * 12
    assert np.count_nonzero(steps.labels == 1) == pytest.approx(np.pi * radius_px**2, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    points=st.lists(
        st.tuples(st.integers(2, 125), st.integers(2, 125)), min_size=1, max_size=25, unique=True
    ),
)
def test_a_seed_is_foreground_whatever_lies_around_it(seed, points):
    image = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    image = np.repeat(np.repeat(image, 8, axis=0), 8, axis=1)
    centres = np.array(points, float) + 0.5
    labels = label_nuclei(
        image, centres, radii(len(centres), 12), STATISTICS, MaskSettings(), MPP
    ).labels
    place = tuple(np.array(points).T[::-1])
    assert labels[place].tolist() == list(range(1, len(points) + 1))
    masks = outlined(image, centres, min_area_um2=0.0)
    assert len(masks.nuclei) == len(points)
    assert all(shapely.Polygon(ring).is_valid for ring in masks.nuclei.rings())


@pytest.mark.parametrize("side", [17, 33])
def test_more_nuclei_than_a_byte_counts_keep_labels_of_their_own(side):
    step = 20
    place = step * (np.arange(side) + 0.5)
    centres = np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)
    masks = outlined(discs(side * step + step, centres, 7), centres, 7)
    assert len(masks.nuclei) == side**2 > (255 if side == 17 else 1000)
    labels = masks.labels[
        np.floor(masks.nuclei.y).astype(int), np.floor(masks.nuclei.x).astype(int)
    ]
    assert labels.tolist() == list(range(1, side**2 + 1))
    assert np.bincount(masks.labels.ravel())[1:].min() > 0.7 * np.pi * 7**2


def test_a_nucleus_ends_where_its_disc_ends():
    centres = np.array([[60.0, 60.0]])
    masks = outlined(discs(128, centres, 16), centres)
    found, true = masks.labels == 1, discs(128, centres, 16)[..., 0] == DARK[0]
    assert (found & true).sum() / (found | true).sum() > 0.85


def test_touching_nuclei_are_parted_between_their_keypoints():
    centres = np.array([[50.0, 64.0], [78.0, 64.0]])
    masks = outlined(discs(128, centres, 15), centres)
    assert masks.labels[64, 52] == 1
    assert masks.labels[64, 76] == 2
    areas = np.bincount(masks.labels.ravel())[1:]
    assert areas.min() > 0.8 * areas.max()


@given(st.lists(st.sampled_from([False, False, False, True]), max_size=70), st.integers(0, 9))
def test_no_pixel_is_overlooked_however_long_a_row_of_words_is(marks, start):
    mask = np.array([False] * 9 + marks, bool)[start:]
    assert places(mask).tolist() == np.flatnonzero(mask).tolist()


def test_rounding_takes_notches_and_tails_away_and_keeps_everything_else():
    labels = np.zeros((40, 60), np.int32)
    labels[5:35, 5:25], labels[5:35, 25:45] = 70_001, 3
    whole = labels.copy()
    labels[8:10, 5:9], labels[20, 45:55] = 0, 3
    inside = np.zeros(labels.shape, bool)
    inside[6:34, 6:44] = True
    result = rounded(labels, 1.0)
    assert not result[20, 46:55].any(), "the tail is left"
    assert (result != labels)[8:10, 6:9].any(), "the notch is as it was"
    away = inside.copy()
    away[6:12, :11] = False
    assert (result == whole)[away].all(), "a border between two nuclei moved"
    assert set(np.unique(result)) == {0, 3, 70_001}, "a label was invented"
    assert (rounded(labels, 0.4) == labels).all()


def far_px(masks: TileMasks) -> float:
    """The farthest any pixel of a nucleus is from its own keypoint."""
    row, column = np.nonzero(masks.labels)
    label = masks.labels[row, column] - 1
    away = np.hypot(column + 0.5 - masks.nuclei.x[label], row + 0.5 - masks.nuclei.y[label])
    return float(away.max())


def test_a_nucleus_reaches_no_farther_than_allowed_in_a_sea_of_stain():
    image = np.full((256, 256, 3), DARK, np.uint8)
    masks = outlined(image, np.array([[128.0, 128.0]]), 100, max_area_um2=1e6)
    reach_px = MaskSettings().reach_um / MPP
    assert 0.9 * reach_px < far_px(masks) < reach_px + 3


@pytest.mark.parametrize("seed", range(4))
def test_a_nucleus_does_not_creep_through_its_neighbours_beyond_its_reach(seed):
    # On a patchwork of plain squares a flood runs far along the gaps between seeds.
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 200, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    where = rng.uniform(5, 250, (40, 2))
    masks = outlined(image, where, 30, max_area_um2=1e6, min_area_um2=0.0)
    assert len(masks.nuclei) == 40
    assert far_px(masks) < (MaskSettings().reach_um + ROUND_UM) / MPP + 2


def test_a_large_outline_is_cut_back_to_the_size_limit():
    image = np.full((256, 256, 3), DARK, np.uint8)
    masks = outlined(image, np.array([[128.0, 128.0]]), 30, max_area_um2=60.0)
    assert np.count_nonzero(masks.labels) * MPP**2 == pytest.approx(60.0, rel=0.1)


def test_an_outline_under_the_size_limit_is_left_out():
    centres = np.array([[30.0, 30.0], [34.0, 30.0], [90.0, 90.0]])
    masks = outlined(discs(128, centres[2:], 16), centres, 9, min_area_um2=20.0)
    assert masks.nuclei.x.tolist() == [90.0]
    assert set(np.unique(masks.labels)) == {0, 1}


def test_a_pale_centre_leaves_no_hole_in_a_nucleus():
    centres = np.array([[64.0, 64.0]])
    image = discs(128, centres, 16)
    row, column = np.indices(image.shape[:2])
    image[np.hypot(column - 70, row - 64) < 4] = PALE
    masks = outlined(image, centres)
    assert (ndimage.binary_fill_holes(masks.labels == 1) == (masks.labels == 1)).all()
    assert masks.labels[64, 70] == 1


def test_an_outline_never_leaves_the_image():
    image = np.full((64, 64, 3), DARK, np.uint8)
    size, crop = Region(0, 0, 64, 64), Region(-80, -80, 224, 224)
    padded = np.full((224, 224, 3), 255, np.uint8)
    padded[80:144, 80:144] = image
    corners = np.array([[0.5, 0.5], [63.5, 0.5], [0.5, 63.5], [63.5, 63.5]])
    points = Keypoints(*corners.T, np.ones(4, np.float32), radii(4, 12), np.ones(4, bool))
    grid = MaskGrid.of(MPP, size, MaskSettings(mpp=MPP))
    masks = outline_tile(padded, Tile(size, crop), points, STATISTICS, MaskSettings(), grid)
    assert len(masks.nuclei) == 4
    assert masks.nuclei.ring_xy.min() >= 0
    assert masks.nuclei.ring_xy.max() <= 64


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.integers(1, 98), st.integers(1, 98)), min_size=2, max_size=30, unique=True
    ),
    radius_px=st.floats(0.5, 30),
)
def test_every_keypoint_has_a_seed_however_close_the_others_are(points, radius_px):
    xy, red = np.array(points) + 0.5, np.full((100, 100), 200, np.uint8)
    zones = find_zones(red, xy, radii(len(xy), radius_px), 255.0, MaskSettings(), MPP)
    seeds = zones.seeds[np.floor(xy[:, 1]).astype(int), np.floor(xy[:, 0]).astype(int)]
    assert seeds.tolist() == list(range(1, len(xy) + 1))
    assert not (zones.unknown & (zones.seeds > 0)).any()


def test_who_comes_first_does_not_matter_where_two_seeds_want_the_same_pixels():
    xy = np.array([[40.5, 50.5], [52.5, 50.5], [48.5, 60.5]])
    told = np.concatenate([radii(1, 14), radii(1, 10), radii(1, 7)])
    red = np.full((100, 100), 100, np.uint8)

    def seeds(order):
        return find_zones(red, xy[order], told[order], 255.0, MaskSettings(), MPP).seeds

    there, back = seeds([0, 1, 2]), seeds([2, 1, 0])
    assert (there == np.where(back > 0, 4 - back, 0)).all()
    both = np.hypot(*(np.indices(red.shape)[::-1] + 0.5 - xy[:2].mean(axis=0)[:, None, None])) < 2
    assert not there[both].any(), "nobody surely owns what both expect"


def test_no_keypoints_give_no_labels():
    image = np.full((32, 32, 3), 100, np.uint8)
    none = np.empty((0, 2))
    steps = label_nuclei(image, none, radii(0, 8), STATISTICS, MaskSettings(), MPP)
    assert not steps.labels.any()


def test_the_rim_of_a_tile_holds_every_neighbour_that_may_want_the_same_pixel():
    grid = MaskGrid.of(0.25, Region(0, 0, 4096, 4096), MaskSettings())
    for reach_um in (5.0, 10.0, 25.0):
        wanted = MaskSettings(reach_um=reach_um)
        assert grid.halo_px(wanted) * 0.25 >= max(20.0, 2 * reach_um)


def test_a_seed_has_the_shape_that_the_network_expects():
    turn = np.arange(RAYS) * 2 * np.pi / RAYS
    # An ellipse of 20 by 8 px, its long axis along x.
    expected = (1 / np.hypot(np.cos(turn) / 20, np.sin(turn) / 8)).astype(np.float32)
    red = np.full((64, 64), 100, np.uint8)
    zones = find_zones(red, np.array([[32.5, 32.5]]), expected[None], 255.0, MaskSettings(), MPP)
    row, column = np.nonzero(zones.seeds)
    share = MaskSettings().seed_share
    assert np.ptp(column) == pytest.approx(2 * 20 * share, abs=2)
    assert np.ptp(row) == pytest.approx(2 * 8 * share, abs=2)
    row, column = np.nonzero(zones.unknown)
    farthest = MaskSettings().reach_share * 20 + MaskSettings().margin_um / MPP
    assert np.ptp(column) == pytest.approx(2 * farthest, abs=2)


def test_flooding_leaves_no_watershed_line_between_touching_nuclei():
    seeds = np.zeros((40, 60), np.int32)
    seeds[17:24, 17:24], seeds[17:24, 37:44] = 1, 2
    unknown = np.zeros(seeds.shape, bool)
    unknown[10:30, 10:50] = True
    image = np.full((40, 60, 3), 240, np.uint8)
    image[unknown] = 100
    labels = flood(image, Zones(seeds, unknown & (seeds == 0)))
    assert labels.min() == 0
    assert (labels[12:28, 12:48] > 0).all()


# --- statistics of the slide ---------------------------------------------------------------------


def grey_histogram(*classes: tuple[float, float, float]) -> np.ndarray:
    """Counts of normal distributions given as (mean, deviation, share)."""
    rng = np.random.default_rng(1)
    values = [rng.normal(mean, spread, int(share * 400_000)) for mean, spread, share in classes]
    return np.bincount(np.clip(np.concatenate(values), 0, 255).astype(int), minlength=256)


def test_pale_nuclei_are_foreground_though_dark_ones_make_a_class_of_their_own():
    counts = grey_histogram((40, 12, 0.35), (150, 12, 0.15), (228, 8, 0.50))
    assert otsu_threshold(counts) < 150  # which is why three classes are sought
    assert 165 < three_class_otsu(counts) < 212


def test_without_a_dark_class_the_plain_threshold_is_taken():
    counts = grey_histogram((20, 4, 0.01), (150, 5, 0.39), (228, 5, 0.60))
    assert three_class_otsu(counts) == otsu_threshold(counts)
    assert 165 < otsu_threshold(counts) < 212


def test_the_thresholds_agree_with_those_of_scikit_image():
    from skimage.filters import threshold_multiotsu, threshold_otsu

    counts = grey_histogram((40, 12, 0.12), (150, 12, 0.25), (228, 8, 0.63))
    levels = np.repeat(np.arange(256, dtype=np.uint8), counts)
    assert otsu_threshold(counts) - 1 == pytest.approx(threshold_otsu(levels), abs=1)
    assert three_class_otsu(counts) - 1 == pytest.approx(threshold_multiotsu(levels)[1], abs=2)


def test_pale_chromatin_around_the_middle_does_not_cost_a_nucleus_its_rim():
    row, column = np.indices((96, 96))
    distance_um = np.hypot(row - 48, column - 48) * MPP
    image = np.full((96, 96, 3), 240, np.uint8)
    image[distance_um < 6] = (140, 120, 190)
    # Paler than where any nucleus may end, but not wide.
    image[(distance_um > 2.4) & (distance_um < 3.6)] = (225, 220, 240)
    point = np.array([[48.5, 48.5]])
    labels = label_nuclei(image, point, radii(1, 24), STATISTICS, MaskSettings(), MPP).labels
    outlines = trace_outlines(labels, 1)
    assert outlines.area_px[0] * MPP**2 == pytest.approx(np.pi * 6**2, rel=0.08)


@pytest.mark.parametrize("colour", [(255, 255, 255), (120, 70, 40), (0, 0, 0)])
def test_a_slide_of_one_colour_has_statistics_too(colour):
    counts = SlideStatistics.from_histogram(histogram_of(np.full((20, 20, 3), colour, np.uint8)))
    assert all(1 <= channel <= 255 for channel in counts.white)
    assert 0 <= counts.threshold <= 256
    assert np.isfinite(counts.background)


def test_no_pixels_give_plain_white():
    assert SlideStatistics.from_histogram(np.zeros((3, 256), np.int64)).white == (
        255.0,
        255.0,
        255.0,
    )


def test_the_brightest_tissue_becomes_white():
    image = np.full((50, 50, 3), (200, 210, 220), np.uint8)
    image[:10] = (90, 80, 120)
    adjusted = np.dstack(SlideStatistics.from_histogram(histogram_of(image)).adjust(image))
    assert adjusted[20, 20].tolist() == [255, 255, 255]
    assert (adjusted[0, 0] > image[0, 0]).all()
