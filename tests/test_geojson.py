"""GeoJSON: what QuPath must accept, what must come back, and what must be refused."""

from __future__ import annotations

import gzip
import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nucliseg_qp.errors import InputError, OutputError, UsageError
from nucliseg_qp.nuclei import ID_NAMESPACE, Nuclei, nucleus_ids
from nucliseg_qp.qupath import reading
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.qupath.results import Area
from nucliseg_qp.qupath.rings import usable_rows

CLASSES = [("Negative", (112, 112, 225)), ("Positive", (250, 62, 62)), ("Tumor: 2+", (1, 2, 3))]
GOLDEN = Path(__file__).with_name("golden") / "three_nuclei.geojson"
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
AREA = Area(
    "11111111-2222-5333-8444-555555555555",
    "NucliSeg QP",
    {"type": "Polygon", "coordinates": [[[0, 0], [99, 0], [99, 99], [0, 99], [0, 0]]]},
)


def table(rings, classes=None, **measurements):
    """Make a table of the given outlines."""
    rings = [np.asarray(ring, float).reshape(-1, 2) for ring in rings]
    count = len(rings)
    return Nuclei(
        x=np.arange(count) + 0.5,
        y=np.zeros(count),
        score=np.full(count, 0.5, np.float32),
        ring_xy=np.concatenate([*rings, np.empty((0, 2))]),
        ring_start=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        class_names=("Negative", "Positive", "Tumor: 2+"),
        class_index=np.array(classes or [0] * count, np.int16),
        measurements={k: np.array(v, np.float32) for k, v in measurements.items()},
    )


def blobs(count, seed=0):
    """Make round outlines of 40 vertices."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = 8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = rng.uniform(0, 9000, (count, 2))
    return replace(table(list(centre[:, None] + circle)), x=centre[:, 0], y=centre[:, 1])


def written(path, nuclei, **options):
    return write_geojson(path, [(nuclei, nucleus_ids("a", nuclei))], CLASSES, **options)


def document(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def three_nuclei():
    return table(
        [SQUARE, [[20.004, 20], [30.456, 20.5], [25, 31.239]], [[50, 50], [60, 50], [55, 58]]],
        [0, 2, -1],
        **{"Nucleus: Area": [100, 57.123456, np.nan], '100% "odd"': [1e-5, np.inf, 3]},
    )


def test_the_bytes_are_those_of_the_golden_file(tmp_path):
    # A change here changes every user's files: change the golden file only on purpose.
    [path] = written(tmp_path / "a.geojson.gz", three_nuclei(), areas=[AREA])
    assert gzip.decompress(path.read_bytes()) == GOLDEN.read_bytes()
    assert path.read_bytes()[4:8] == b"\0\0\0\0", "no time stamp: equal runs give equal files"
    assert b"a.geojson\0" in path.read_bytes()[:30], "the name that gunzip -N gives back"


def test_a_feature_says_what_qupath_needs(tmp_path):
    [path] = written(tmp_path / "a.geojson.gz", three_nuclei(), areas=[AREA])
    area, first, second, third = document(path)["features"]
    assert area["properties"] == {
        "objectType": "annotation",
        "name": "NucliSeg QP",
        "isLocked": True,
    }
    assert first["geometry"]["coordinates"] == [[*SQUARE, SQUARE[0]]]
    assert first["properties"]["classification"] == {
        "name": "Negative",
        "color": [112, 112, 225],
    }
    assert second["properties"]["classification"]["names"] == ["Tumor", "2+"]
    assert second["properties"]["measurements"] == {"Nucleus: Area": 57.123455}, "inf is left out"
    assert "classification" not in third["properties"], "unclassified has no class at all"
    assert third["properties"]["measurements"] == {'100% "odd"': 3}, "NaN is left out"
    assert "plane" not in first["geometry"]


def test_the_plane_lies_inside_the_geometry(tmp_path):
    [path] = written(tmp_path / "a.geojson.gz", blobs(1), z=2, t=3, areas=[AREA])
    planes = [feature["geometry"]["plane"] for feature in document(path)["features"]]
    assert planes == [{"c": -1, "z": 2, "t": 3}] * 2


def test_what_is_written_is_read_back(tmp_path):
    nuclei = blobs(700)
    measured = nuclei.with_measurements(
        {"Detection probability": nuclei.score, "odd: %": nuclei.score}
    )
    [path] = written(tmp_path / "a.geojson.gz", measured, areas=[AREA])
    back = read_geojson(path)
    assert list(back.ids) == nucleus_ids("a", nuclei)
    assert np.array_equal(back.nuclei.ring_start, nuclei.ring_start)
    assert np.abs(back.nuclei.ring_xy - nuclei.ring_xy).max() <= 0.005 + 1e-9
    assert np.abs(back.nuclei.x - nuclei.x).max() < 0.01
    assert back.nuclei.counts() == {"Negative": 700}
    assert np.array_equal(back.nuclei.measurements["odd: %"], nuclei.score)
    assert np.array_equal(back.nuclei.score, nuclei.score)
    assert [item["id"] for item in back.annotations] == [AREA.id]


def test_an_id_is_the_name_based_uuid_that_any_other_program_computes():
    nuclei = replace(blobs(3), x=np.array([0.004, 12.345, 99_999.5]), y=np.array([7.0, 0, 1e5]))
    keys = ["0/700", "1234/0", "9999950/10000000"]
    known = [str(uuid.uuid5(ID_NAMESPACE, f"Präparat 1.svs/{key}")) for key in keys]
    assert nucleus_ids("Präparat 1.svs", nuclei) == known
    assert nucleus_ids("a", Nuclei.empty()) == []


@pytest.mark.parametrize(("count", "names"), [(10, 1), (11, 2), (30, 3), (0, 1)])
def test_many_nuclei_are_dealt_out_to_shards(tmp_path, count, names):
    paths = written(tmp_path / "a.geojson.gz", blobs(count), shard=10)
    several = [f"a.{number:03d}.geojson.gz" for number in range(1, names + 1)]
    assert [path.name for path in paths] == (several if names > 1 else ["a.geojson.gz"])
    ids = [feature["id"] for path in paths for feature in document(path)["features"]]
    assert ids == nucleus_ids("a", blobs(count))


def test_a_rerun_leaves_no_file_of_the_run_before(tmp_path):
    written(tmp_path / "a.geojson.gz", blobs(30), shard=10)
    others = [written(tmp_path / f"{stem}.geojson.gz", blobs(1))[0] for stem in ("a.002", "ab")]
    [path] = written(tmp_path / "a.geojson.gz", blobs(5))
    assert sorted(tmp_path.iterdir()) == sorted([path, *others]), "a.002 is another image"


def test_a_failure_leaves_no_file_under_its_final_name(tmp_path):
    def parts():
        yield blobs(25), nucleus_ids("a", blobs(25))
        raise OutputError("the disk is full")

    with pytest.raises(OutputError):
        write_geojson(tmp_path / "a.geojson.gz", parts(), CLASSES, shard=10)
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_a_colour_is_refused(tmp_path):
    # QuPath gives up on a whole file when one class comes without a colour.
    with pytest.raises(UsageError, match="Negative"):
        write_geojson(tmp_path / "a.geojson.gz", [(blobs(1), ["0" * 36])], [])


# ---- outlines ---------------------------------------------------------------------------------

POINT = st.tuples(st.floats(-50, 50), st.floats(-50, 50))
GRID_POINT = st.tuples(st.integers(-3, 3).map(lambda v: v / 100), st.integers(-3, 3).map(float))
RING = st.one_of(
    st.lists(POINT, min_size=0, max_size=12),
    st.lists(GRID_POINT, min_size=3, max_size=12),
    st.lists(st.tuples(st.floats(0, 0.03), st.floats(0, 0.03)), min_size=3, max_size=6),
    st.lists(st.tuples(st.floats(1e6, 1e8), st.floats(1e6, 1e8)), min_size=3, max_size=8),
    st.lists(st.tuples(st.floats(), st.floats(-5, 5)), min_size=3, max_size=5),
)
ODD_RINGS = {
    "bow tie": [[0, 0], [10, 10], [10, 0], [0, 10]],
    "spike": [[0, 0], [10, 0], [10, 10], [30, 10], [10, 10], [0, 10]],
    "repeated points": [[0, 0], [0, 0], [10, 0], [10, 0], [10, 10], [0, 10], [0, 0]],
    "touches itself": [[0, 0], [10, 0], [10, 10], [5, 0], [0, 10]],
    "invalid only after snapping": [[0, 0], [10, 0], [10, 10], [5, 0.004], [0, 10]],
}


CROSSED = [(0, 1), (-0.03, -2), (0, 0), (-0.03, 1), (0, -2), (0.01, 1), (-0.02, 0), (0.01, -2)]
"""With one point more GEOS failed at it: it crosses itself within a hundredth of a pixel."""


def repair_rings(nuclei):
    repaired, kept = usable_rows(nuclei)
    return repaired.take(kept)


@pytest.mark.parametrize("name", ODD_RINGS)
def test_odd_outlines_keep_their_larger_part(name):
    repaired = repair_rings(table([ODD_RINGS[name]]))
    polygon = shapely.Polygon(repaired.ring(0))
    assert polygon.is_valid
    before = shapely.make_valid(shapely.Polygon(ODD_RINGS[name]))
    assert polygon.area >= before.area / 2 - 0.1


@pytest.mark.parametrize(
    "ring",
    [[], [[1, 1]], [[1, 1], [2, 2]], [[0, 0], [5, 5], [9, 9]], [[0, 0], [np.nan, 1], [2, 0]]],
)
def test_outlines_without_area_are_dropped_and_the_rest_stays(ring):
    repaired = repair_rings(table([SQUARE, ring, SQUARE], [0, 1, 2]))
    assert repaired.class_index.tolist() == [0, 2]
    assert repaired.ring(1).tolist() == SQUARE


def test_good_outlines_are_only_snapped():
    nuclei = blobs(300)
    assert np.array_equal(repair_rings(nuclei).ring_xy, np.round(nuclei.ring_xy, 2))


@given(st.lists(RING, max_size=6))
@example([[*CROSSED, (-0.02, -1)]])
@settings(max_examples=300, deadline=None)
def test_whatever_comes_in_valid_outlines_come_out(rings):
    repaired = repair_rings(table(rings))
    polygons = [shapely.Polygon(ring) for ring in repaired.rings()]
    assert shapely.is_valid(polygons).all()
    assert (shapely.area(polygons) > 0).all()
    assert np.array_equal(np.round(repaired.ring_xy, 2), repaired.ring_xy)


@pytest.mark.qupath
@given(rings=st.lists(RING, min_size=1, max_size=40))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_qupath_reads_whatever_is_written(qupath_probe, tmp_path_factory, rings):
    path = tmp_path_factory.mktemp("invented") / "a.geojson.gz"
    nuclei = table([*rings, SQUARE])
    written(path, nuclei)
    answer = qupath_probe.read_objects(path)
    assert "objects" in answer, answer
    kept = repair_rings(nuclei)
    assert len(answer["objects"]) == len(kept)
    assert all(item["type"] == "PathDetectionObject" for item in answer["objects"])


@pytest.mark.qupath
def test_qupath_reads_what_was_meant(qupath_probe, tmp_path):
    [path] = written(tmp_path / "a.geojson.gz", three_nuclei(), areas=[AREA])
    objects = qupath_probe.read_objects(path, points=True)["objects"]
    area, first, second, third = objects
    assert (area["type"], area["locked"], area["id"]) == ("PathAnnotationObject", True, AREA.id)
    assert first["id"] == nucleus_ids("a", three_nuclei())[0]
    assert [item["class"] for item in (first, second, third)] == ["Negative", "Tumor: 2+", None]
    assert sorted(first["points"]) == sorted(SQUARE)
    assert first["area"] == 100
    assert second["measurements"] == {"Nucleus: Area": float(np.float32(57.123456))}


@pytest.mark.qupath
def test_qupath_reads_every_block_of_a_long_file(qupath_probe, tmp_path):
    # The file is several gzip members one after the other.
    [path] = written(tmp_path / "a.geojson.gz", blobs(9000))
    answer = qupath_probe.ask("read_ids", path=str(path))
    assert answer["ids"] == nucleus_ids("a", blobs(9000))


# ---- hostile and broken files -------------------------------------------------------------------


def feature(coordinates, kind="Polygon"):
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "detection"},
    }


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[[[[[",
        b'{"type":"Polygon"}',
        b'{"features":[1]}',
        orjson.dumps([feature([[[0, 0], [1, None], [1, 1]]])]),
        orjson.dumps([feature([[[0, 0], ["a", 1], [1, 1]]])]),
        orjson.dumps([feature([[0, 1, 2]])]),
        orjson.dumps([feature([[[0, 0], [1, 0]]], "LineString")]),
        b'[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0,0],[NaN,1],[1,1]]]}}]',
        b'{"type":"FeatureCollection","features":[\n{"type":"Feature"',
    ],
)
def test_broken_files_are_refused_with_one_sentence(tmp_path, text):
    path = tmp_path / "bad.geojson"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"bad\.geojson"):
        read_geojson(path)


def test_a_truncated_gzip_is_refused(tmp_path):
    [path] = written(tmp_path / "a.geojson.gz", blobs(50))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"damaged|middle"):
        read_geojson(path)
    with pytest.raises(InputError):
        read_geojson(tmp_path / "missing.geojson")


@pytest.mark.parametrize("by_line", [True, False])
def test_a_ring_of_ten_million_points_is_refused_before_it_is_held(tmp_path, by_line):
    path = tmp_path / "huge.geojson.gz"
    ring = b"[1,2]," * 10_000_000 + b"[1,2]"
    one = b'{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[' + ring + b"]]}}"
    head = b'{"type":"FeatureCollection","features":[' + (b"\n" if by_line else b"")
    path.write_bytes(gzip.compress(head + one + b"\n]}\n", 1))
    with pytest.raises(InputError, match=r"MiB|points"):
        read_geojson(path)


def test_a_gzip_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "bomb.geojson.gz"
    path.write_bytes(gzip.compress(b" " * (reading.MAX_DOCUMENT_BYTES + 10), 9))
    with pytest.raises(InputError, match="MiB"):
        read_geojson(path)
