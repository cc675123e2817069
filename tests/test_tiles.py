"""Tiles, windows and areas: what is analysed is exactly what was asked for, once."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from nucliseg_qp.config import TileSettings
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.geometry import Region, Tile
from nucliseg_qp.images.tiles import plan_tiles, plan_windows, shrink_window
from nucliseg_qp.images.tissue import TissueMask
from nucliseg_qp.images.within import points_within, read_within

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

regions = st.builds(
    Region,
    st.integers(-500, 5000),
    st.integers(-500, 5000),
    st.integers(1, 4000),
    st.integers(1, 4000),
)


def box_of(region: Region) -> list[float]:
    """Give left, top, right and bottom."""
    return [region.x_px, region.y_px, region.right_px, region.bottom_px]


# --- tiles ---------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    bounds=regions,
    size=st.sampled_from([64, 100, 333, 1024]),
    origin=st.tuples(st.integers(-400, 400), st.integers(-400, 400)),
    k=st.integers(1, 5),
    halo=st.integers(0, 120),
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_every_point_belongs_to_one_tile(
    bounds: Region,
    size: int,
    origin: tuple[int, int],
    k: int,
    halo: int,
    points: list[tuple[float, float]],
) -> None:
    shape = TileSettings(size_px=size, origin_x_px=origin[0], origin_y_px=origin[1])
    tiles = plan_tiles(bounds, shape, k, halo)
    share = np.array(points) * 0.999999
    x, y = bounds.x_px + share[:, 0] * bounds.width_px, bounds.y_px + share[:, 1] * bounds.height_px
    owners = np.sum([tile.core.contains(x, y) for tile in tiles], axis=0)
    assert (owners == 1).all()
    assert sum(tile.core.area_px for tile in tiles) == bounds.area_px
    for tile in tiles:
        check_tile(tile, bounds, k, halo, size)


def check_tile(tile: Tile, bounds: Region, k: int, halo: int, size: int) -> None:
    """Check that a tile is no larger than asked for and its crop fits the grid of its pixels."""
    assert tile.core.intersection(bounds) == tile.core
    assert max(tile.core.width_px, tile.core.height_px) <= size * k
    assert all(value % k == 0 for value in box_of(tile.crop))
    assert tile.crop.intersection(tile.core.expanded(halo)) == tile.core.expanded(halo)
    assert tile.core.expanded(halo + k).intersection(tile.crop) == tile.crop


def test_tiles_lie_on_the_grid_of_their_origin() -> None:
    tiles = plan_tiles(Region(0, 0, 1000, 700), TileSettings(size_px=256, origin_x_px=100), 2, 10)
    cores = [box_of(tile.core) for tile in tiles]
    assert cores == [
        [0, 0, 100, 512],
        [100, 0, 612, 512],
        [612, 0, 1000, 512],
        [0, 512, 100, 700],
        [100, 512, 612, 700],
        [612, 512, 1000, 700],
    ]


def test_nothing_to_analyse_is_no_tile() -> None:
    assert plan_tiles(Region(5, 5, 0, 10), TileSettings(), 1, 8) == []


@pytest.fixture(scope="module")
def speckled() -> TissueMask:
    """Tissue in a few places of a slide of 4000 x 3000 px."""
    mask = np.zeros((100, 134), np.bool_)
    mask[20:30, 40:60] = True
    mask[99, 133] = True
    mask[0, 0] = True
    return TissueMask(mask, 30.0)


def test_a_whole_slide_is_planned_quickly() -> None:
    start = time.perf_counter()
    tiles = plan_tiles(Region(0, 0, 200_000, 150_000), TileSettings(size_px=1024), 1, 64)
    assert len(tiles) == 196 * 147
    assert time.perf_counter() - start < 5


# --- windows -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    bounds=regions,
    downsample=st.floats(0.5, 5),
    core=st.sampled_from([64, 192]),
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_every_point_belongs_to_one_window(
    bounds: Region, downsample: float, core: int, points: list[tuple[float, float]]
) -> None:
    windows = plan_windows(bounds, downsample, core, 32)
    share = np.array(points) * 0.999
    x, y = bounds.x_px + share[:, 0] * bounds.width_px, bounds.y_px + share[:, 1] * bounds.height_px
    inside = [window.core.contains(x / downsample, y / downsample) for window in windows]
    assert (np.sum(inside, axis=0) == 1).all()
    for window in windows:
        assert window.core.x_px % core == 0
        assert window.core.y_px % core == 0
        assert (window.core.width_px, window.core.height_px) == (core, core)
        assert window.crop == window.core.expanded(32)


@given(part=regions)
@settings(max_examples=40, deadline=None)
def test_a_part_is_seen_through_the_windows_of_the_whole(part: Region) -> None:
    whole = plan_windows(Region(-1000, -1000, 12000, 12000), 2.2, 192, 32)
    assert set(plan_windows(part, 2.2, 192, 32)) <= set(whole)


def test_windows_without_tissue_are_left_out(speckled: TissueMask) -> None:
    bounds = Region(0, 0, 4000, 3000)
    everything = plan_windows(bounds, 2.0, 64, 32)
    kept = plan_windows(bounds, 2.0, 64, 32, speckled)
    assert 0 < len(kept) < len(everything) / 4
    x, y = (np.random.default_rng(0).uniform(0, side, 20_000) for side in (4000, 3000))
    owned = np.any([window.core.contains(x / 2, y / 2) for window in kept], axis=0)
    assert owned[speckled.contains(x, y)].all()


@pytest.mark.parametrize("downsample", [2.0, 2.2])
def test_shrunk_windows_hold_all_tissue_and_little_glass(
    speckled: TissueMask, downsample: float
) -> None:
    whole = plan_windows(Region(0, 0, 4000, 3000), downsample, 192, 32, speckled)
    shrunk = [shrink_window(window, speckled, downsample) for window in whole]
    for before, after in zip(whole, shrunk, strict=True):
        assert after.core.intersection(before.core) == after.core
        assert after.crop == after.core.expanded(32)
        assert all(value % 8 == 0 for value in box_of(after.crop))
    x, y = (np.random.default_rng(0).uniform(0, side, 50_000) for side in (4000, 3000))
    owned = np.sum([one.core.contains(x / downsample, y / downsample) for one in shrunk], axis=0)
    assert (owned[speckled.contains(x, y)] == 1).all()
    seen = sum(one.core.area_px for one in shrunk) * downsample**2
    assert seen < 1.4 * speckled.mask.sum() * speckled.downsample**2


@pytest.mark.parametrize(("core", "halo"), [(0, 32), (100, 32), (-8, 8), (64, -1)])
def test_windows_the_network_cannot_take_are_refused(core: int, halo: int) -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        plan_windows(Region(0, 0, 100, 100), 1.0, core, halo)


# --- areas ---------------------------------------------------------------------------------------

SQUARE = [[10, 10], [110, 10], [110, 60], [10, 60], [10, 10]]
HOLE = [[20, 20], [20, 30], [30, 30], [30, 20], [20, 20]]


def polygon(*rings: list) -> dict:
    """Give a Polygon geometry."""
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: dict | None, **more: object) -> dict:
    """Give a feature as QuPath writes it."""
    properties = {"objectType": "annotation", "measurements": {"a": 1.5}}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **more}


MULTI = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]}
DOCUMENTS = {
    "geometry": polygon(SQUARE, HOLE),
    "multi": MULTI,
    "feature": feature(polygon(SQUARE, HOLE), id="1"),
    "collection": {"type": "FeatureCollection", "features": [feature(MULTI)]},
    "array": [feature({"type": "Point", "coordinates": [1, 2]}), feature(MULTI), feature(None)],
    "geometries": {"type": "GeometryCollection", "geometries": [MULTI]},
    "plane": feature(polygon(SQUARE, HOLE) | {"plane": {"c": -1, "z": 0, "t": 0}}),
    "3d": polygon([[x, y, 0] for x, y in SQUARE], HOLE),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz"])
def test_areas_are_read_in_every_wrapping(tmp_path: Path, kind: str, name: str) -> None:
    data = json.dumps(DOCUMENTS[kind]).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    area = read_within(tmp_path / name)
    assert area.is_valid
    assert area.area == 100 * 50 - 100
    x, y = np.array([50.0, 25.0, 10.0, 9.9]), np.array([50.0, 25.0, 30.0, 30.0])
    np.testing.assert_array_equal(points_within(area, x, y), [True, False, True, False])


def write(path: Path, document: object) -> Path:
    """Write a document as JSON, or bytes and text as they are."""
    if isinstance(document, bytes):
        path.write_bytes(document)
    else:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_several_areas_are_one_and_mended(tmp_path: Path) -> None:
    bow_tie = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]
    shifted = [[x + 50, y] for x, y in SQUARE]
    features = [feature(polygon(ring)) for ring in (bow_tie, SQUARE, shifted)]
    area = read_within(write(tmp_path / "a.geojson", features))
    assert area.is_valid
    expected = shapely.union_all(
        [shapely.make_valid(shapely.Polygon(ring)) for ring in (bow_tie, SQUARE, shifted)]
    )
    assert area.equals(expected)


def spiky(count: int) -> list[list[float]]:
    """Give a ring whose every edge crosses most others."""
    points = np.random.default_rng(0).uniform(0, 1000, (count, 2))
    return [*points.tolist(), points[0].tolist()]


WRONG: dict[str, tuple[object, str]] = {
    "no json": ("hello", "not GeoJSON"),
    "empty": ("", "not GeoJSON"),
    "number": ("17", "not GeoJSON"),
    "other json": ({"a": 1}, "not GeoJSON"),
    "odd type": ({"type": ["Polygon"]}, "not GeoJSON"),
    "unknown type": ({"type": "Circle"}, "'Circle'"),
    "no features": ({"type": "FeatureCollection"}, "not GeoJSON"),
    "points only": (feature({"type": "Point", "coordinates": [1, 2]}), "no polygon"),
    "nothing": ([], "no polygon"),
    "nan": ('{"type":"Polygon","coordinates":[[[NaN,1],[2,2],[3,1],[NaN,1]]]}', "not GeoJSON"),
    "infinite": (
        '{"type":"Polygon","coordinates":[[[1e999,1],[2,2],[3,1],[1e999,1]]]}',
        "a.geojson",
    ),
    "far away": (polygon([[0, 0], [1e300, 0], [0, 5], [0, 0]]), "no point of an image"),
    "text": (polygon([["1", "2"], [3, 4], [5, 1], ["1", "2"]]), "broken polygon"),
    "null": (polygon([[None, 2], [3, 4], [5, 1], [None, 2]]), "broken polygon"),
    "ragged": (polygon([[1, 2], [3, 4, 5], [5, 1], [1, 2]]), "broken polygon"),
    "scalars": (polygon([1, 2, 3, 1]), "a.geojson"),
    "deep in a ring": (polygon([[[1]], [[2]], [[3]], [[1]]]), "no point of an image"),
    "open": (polygon(SQUARE[:-1]), "must end where it started"),
    "short": (polygon(SQUARE[:2]), "at least 4"),
    "no rings": ({"type": "Polygon", "coordinates": []}, "no rings"),
    "no coordinates": ({"type": "Polygon"}, "not GeoJSON"),
    "flat": (polygon([[0, 0], [10, 10], [20, 20], [0, 0]]), "without an area"),
    "nested": ("[" * 100_000, "a.geojson"),
    "nested features": ("[" * 900 + "]" * 900, "no polygon"),
    "nested vertices": (
        '{"type":"Polygon","coordinates":[' + "[" * 900 + "]" * 900 + "]}",
        "a.geojson",
    ),
    "broken gzip": (gzip.compress(b"[" * 1000)[:20], "cannot be read"),
    "crossing": (polygon(spiky(20_000)), "cross millions"),
    "to and fro": (polygon([*([[0, 0], [9, 0]] * 100_000), [0, 9], [0, 0]]), "cross millions"),
    "on the spot": (polygon([[1, 1]] * 100_000), "without an area"),
    "many": ([polygon(SQUARE)] * 10_001, "10000 polygons"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_area_is_refused(tmp_path: Path, kind: str) -> None:
    document, words = WRONG[kind]
    path = write(tmp_path / "a.geojson", document)
    with pytest.raises(InputError, match=words) as caught:
        read_within(path)
    assert "a.geojson" in str(caught.value)
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no.geojson cannot be read"):
        read_within(tmp_path / "no.geojson")


@pytest.mark.parametrize("count", [1_000_002, 10_000_000])
def test_ten_million_vertices_are_refused_before_they_are_parsed(
    tmp_path: Path, count: int
) -> None:
    ring = b",".join([b"[1,2]"] * count)
    path = tmp_path / "ring.geojson"
    path.write_bytes(b'{"type":"Polygon","coordinates":[[' + ring + b"]]}")
    start = time.perf_counter()
    with pytest.raises(InputError, match="vertices"):
        read_within(path)
    assert time.perf_counter() - start < 5


def test_a_gzip_bomb_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.geojson.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b" " * 10_000_000)
    assert path.stat().st_size < 4_000_000
    with pytest.raises(InputError, match="200 MB"):
        read_within(path)


def test_a_detailed_outline_is_taken_in_seconds(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    radius = 5000 + 100 * np.sin(angle * 3000)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).round(2).tolist()
    start = time.perf_counter()
    area = read_within(write(tmp_path / "fine.geojson", polygon([*ring, ring[0]])))
    assert time.perf_counter() - start < 5
    x = np.random.default_rng(0).uniform(-6000, 6000, 100_000)
    inside = points_within(area, x, np.zeros_like(x))
    _check_disc(inside, x)


def _check_disc(inside: NDArray[np.bool_], x: NDArray[np.float64]) -> None:
    assert inside[np.abs(x) < 4890].all()
    assert not inside[np.abs(x) > 5110].any()
