"""The whole engine: what a user gets must not depend on how the work was cut."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from scipy.spatial import cKDTree

from nucliseg_qp.config import Settings, TileSettings, load_settings
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.pipeline import Analysis, Engine
from nucliseg_qp.quantify.shape import SHAPE_COLUMNS
from nucliseg_qp.training.metrics import match_points

MPP = 0.25


def nuclei_of(path: Path, engine: Engine, scope: Scope | None = None) -> Nuclei:
    with open_slide(path) as slide:
        return Nuclei.concatenate(list(Analysis(slide, engine, scope).nuclei()))


def by_id(nuclei: Nuclei, image: str = "image") -> dict[str, tuple[int, np.ndarray]]:
    """Class and outline of each nucleus."""
    ids = nucleus_ids(image, nuclei)
    return dict(
        zip(ids, zip(nuclei.class_index.tolist(), nuclei.rings(), strict=True), strict=True)
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    if np.array_equal(one, other):
        return 1.0
    a, b = shapely.Polygon(one), shapely.Polygon(other)
    return a.intersection(b).area / a.union(b).area


def write_rgb(path: Path, image: np.ndarray, mpp: float = MPP) -> Path:
    """A lossless TIFF with a pixel size."""
    size = {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm"}
    size |= {"PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, ome=True, photometric="rgb", metadata={"axes": "YXS", **size})
    return path


def pixels(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        return slide.read_region((0, 0), 0, slide.dimensions)


@pytest.fixture(scope="module")
def whole(dense_slide, engine) -> Nuclei:
    return nuclei_of(dense_slide[0], engine)


# --- independent of how the work is cut ----------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shift"), [(512, 0), (2048, 0), (1024, 333), (777, -100)], ids=str
)
def test_tile_size_and_origin_change_no_nucleus(dense_slide, engine, whole, size, shift):
    tiles = TileSettings(size_px=size, origin_x_px=shift, origin_y_px=shift)
    other = replace(engine, settings=engine.settings.model_copy(update={"tiles": tiles}))
    found, wanted = by_id(nuclei_of(dense_slide[0], other)), by_id(whole)
    assert found.keys() == wanted.keys()
    assert all(found[name][0] == wanted[name][0] for name in wanted)
    same = [iou(found[name][1], wanted[name][1]) > 0.99 for name in wanted]
    assert np.mean(same) >= 0.999


def test_no_nucleus_is_found_twice_at_the_border_of_tiles(dense_slide, engine, whole):
    small = load_settings(None, {"tiles": {"size_px": 256}})
    cut = nuclei_of(dense_slide[0], replace(engine, settings=small))

    def close_pairs(nuclei: Nuclei) -> set[tuple[float, ...]]:
        xy = np.stack([nuclei.x, nuclei.y], axis=1)
        pairs = cKDTree(xy).query_pairs(2.0 / MPP)
        return {tuple(xy[sorted(pair)].ravel()) for pair in pairs}

    assert len(cut) == len(whole)
    assert len(close_pairs(cut)) == len(close_pairs(whole))


REGION = Region(300, 450, 700, 600)
POLYGON = shapely.Polygon([(200, 300), (1700, 500), (1500, 1800), (900, 1000), (300, 1700)])


@pytest.mark.parametrize(
    "scope",
    [Scope(region=REGION), Scope(within=POLYGON), Scope(REGION, POLYGON)],
    ids=["region", "within", "both"],
)
def test_a_part_of_a_slide_has_the_same_nuclei_as_the_whole(dense_slide, engine, whole, scope):
    part = nuclei_of(dense_slide[0], engine, scope)
    expected = by_id(whole.take(scope.contains(whole.x, whole.y)))
    found = by_id(part)
    assert len(found) > 100
    assert found.keys() == expected.keys()
    assert all(found[name][0] == expected[name][0] for name in expected)
    assert all(iou(found[name][1], expected[name][1]) > 0.99 for name in expected)


def test_colour_statistics_are_those_of_the_slide_whatever_part_is_analysed(dense_slide, engine):
    with open_slide(dense_slide[0]) as slide:
        everything = Analysis(slide, engine).statistics
        assert Analysis(slide, engine, Scope(REGION)).statistics == everything
        small = load_settings(None, {"tiles": {"size_px": 512}})
        assert Analysis(slide, replace(engine, settings=small)).statistics == everything


TURNS = {
    "mirrored": (lambda image: image[:, ::-1], lambda x, y, side: (side - x, y)),
    "flipped": (lambda image: image[::-1], lambda x, y, side: (x, side - y)),
    "turned": (lambda image: np.rot90(image), lambda x, y, side: (y, side - x)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_slide_has_the_same_nuclei_at_turned_places(tmp_path, small_slide, engine, turn):
    change, move = TURNS[turn]
    image = pixels(small_slide)
    straight = nuclei_of(write_rgb(tmp_path / "straight.ome.tif", image), engine)
    path = write_rgb(tmp_path / "turned.ome.tif", np.ascontiguousarray(change(image)))
    turned = nuclei_of(path, engine)
    moved = np.stack(move(straight.x, straight.y, 1024), axis=1)
    pairs = match_points(moved, np.stack([turned.x, turned.y], axis=1), 2.0 / MPP)
    assert 2 * len(pairs) / (len(straight) + len(turned)) > 0.97
    same = straight.class_index[pairs[:, 0]] == turned.class_index[pairs[:, 1]]
    assert same.mean() > 0.97


# --- right ---------------------------------------------------------------------------------------


def accuracy_benchmark():
    """The module that also prints the figures of the README."""
    path = Path(__file__).parents[1] / "benchmarks" / "accuracy.py"
    spec = importlib.util.spec_from_file_location("nucliseg_accuracy", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_nuclei_of_a_synthetic_slide_are_found_and_outlined(dense_slide, whole):
    truth = dense_slide[1]
    found = np.stack([whole.x, whole.y], axis=1)
    pairs = match_points(truth.points, found, 12.0)
    f1 = 2 * len(pairs) / (len(truth.points) + len(found))
    assert f1 >= 0.92
    tools = accuracy_benchmark()
    true = truth.labels(0, 0, 2048, 2048).astype(np.int64)
    shared, _, outlines, masks = tools.overlaps(tools.drawn(whole, true.shape), true)
    assert shared / ((outlines + masks) / 2) >= 0.75
    positive = np.array([name != "Negative" for name in whole.class_names])[whole.class_index]
    assert (positive[pairs[:, 1]] == (truth.classes[pairs[:, 0]] > 0)).mean() >= 0.90
    assert abs(positive.mean() - (truth.classes > 0).mean()) < 0.05


def test_over_a_thousand_nuclei_in_a_tile_are_all_told_apart(tmp_path, engine):
    from nucliseg_qp.training.slides import write_slide

    path = tmp_path / "lymph.ome.tif"
    truth = write_slide(path, 1024, 1024, MPP, 5, 1500.0)
    found = nuclei_of(path, engine)
    assert len(truth.points) > 1000
    assert len(found) > 1000
    assert len({tuple(ring[0]) for ring in found.rings()}) == len(found)


def test_every_nucleus_is_measured_and_classified(whole):
    assert (whole.class_index >= 0).all()
    assert whole.score.min() > 0
    areas = shapely.area([shapely.Polygon(ring) for ring in whole.rings()])
    assert whole.measurements[SHAPE_COLUMNS[0]] == pytest.approx(areas * MPP**2, rel=1e-3)
    assert all(np.isfinite(column).all() for column in whole.measurements.values())


def test_fields_at_another_resolution_give_about_the_same_nuclei(tmp_path, small_slide, engine):
    import cv2

    image = pixels(small_slide)
    half = cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA)
    fine = nuclei_of(write_rgb(tmp_path / "fine.ome.tif", image), engine)
    coarse = nuclei_of(write_rgb(tmp_path / "coarse.ome.tif", half, 2 * MPP), engine)
    found = 2 * np.stack([coarse.x, coarse.y], axis=1)
    pairs = match_points(np.stack([fine.x, fine.y], axis=1), found, 3.0 / MPP)
    assert 2 * len(pairs) / (len(fine) + len(coarse)) > 0.95


# --- images nobody thinks of ---------------------------------------------------------------------

ODD = {
    "one pixel": np.full((1, 1, 3), 120, np.uint8),
    "one row": np.full((1, 900, 3), 200, np.uint8),
    "narrow": np.random.default_rng(1).integers(0, 255, (4001, 37, 3)).astype(np.uint8),
    "white": np.full((1500, 1500, 3), 255, np.uint8),
    "brown": np.full((1500, 1500, 3), (120, 75, 40), np.uint8),
    "black": np.zeros((600, 600, 3), np.uint8),
    "noise": np.random.default_rng(2).integers(0, 255, (700, 700, 3)).astype(np.uint8),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("mpp", [0.25, 0.11, 2.0])
def test_odd_images_run_through_and_invent_few_nuclei(tmp_path, engine, kind, mpp):
    image = ODD[kind]
    nuclei = nuclei_of(write_rgb(tmp_path / "odd.ome.tif", image, mpp), engine)
    height, width = image.shape[:2]
    if kind not in ("noise", "narrow"):
        assert len(nuclei) <= 3
    assert all(shapely.Polygon(ring).is_valid for ring in nuclei.rings())
    if len(nuclei):
        assert nuclei.ring_xy.min() >= 0
        assert (nuclei.ring_xy.max(axis=0) <= [width, height]).all()


def test_a_plain_white_slide_has_no_nuclei_and_no_tissue(tmp_path, engine):
    path = write_rgb(tmp_path / "white.ome.tif", np.full((3000, 3000, 3), 250, np.uint8))
    with open_slide(path) as slide:
        analysis = Analysis(slide, engine)
        assert sum(len(part) for part in analysis.nuclei()) == 0
        assert analysis.tissue_mm2 == 0


# --- settings act --------------------------------------------------------------------------------


def test_a_higher_threshold_finds_fewer_nuclei_all_of_them_known(small_slide, engine):
    strict = Engine.start(load_settings(None, {"keypoints": {"threshold": 0.7}}))
    few, all_of_them = nuclei_of(small_slide, strict), nuclei_of(small_slide, engine)
    assert 0 < len(few) < len(all_of_them)
    assert few.score.min() >= 0.7
    assert set(nucleus_ids("a", few)) <= set(nucleus_ids("a", all_of_them))


def test_a_reach_beyond_the_halo_does_not_make_outlines_depend_on_tiles(small_slide, engine):
    wide = {"reach_um": 18.0, "max_area_um2": 1000.0}
    runs = []
    for size in (256, 1024):
        settings = load_settings(None, {"masks": wide, "tiles": {"size_px": size}})
        runs.append(by_id(nuclei_of(small_slide, replace(engine, settings=settings))))
    assert runs[0].keys() == runs[1].keys()
    same = [iou(runs[0][name][1], runs[1][name][1]) > 0.99 for name in runs[0]]
    assert np.mean(same) >= 0.999


def test_engine_settings_are_those_it_was_started_with(engine):
    assert engine.settings == Settings()
    assert engine.mpp == engine.runner.info.mpp
