"""Files made to hurt: refused or bounded, nothing executed, nothing written outside."""

from __future__ import annotations

import gzip
import importlib.util
import os
import pickle
import sys
import zlib
from pathlib import Path

import pytest
import tifffile

from nucliseg_qp.cli import run

LIMIT_MB = 1000
"""What a whole slide may need; a hostile file needs no more."""


@pytest.fixture(scope="module")
def memory():
    """Give the benchmark that measures peak memory."""
    if sys.platform != "linux":
        pytest.skip("peak memory is read from /proc")
    path = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("nucliseg_memory", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_slide_of_16384_px_stays_under_a_gigabyte(memory, tmp_path):
    memory.write_large(tmp_path / "large.ome.tif", 16_384, 2)
    out = tmp_path / "out"
    code, peak_mb, said = memory.peak_mb(
        ["detect", str(tmp_path / "large.ome.tif"), "-o", str(out), "--tissue.margin-um", "200"]
    )
    assert code == 0, said
    assert 100 < peak_mb < LIMIT_MB
    assert (out / "nuclei" / "large.geojson.gz").stat().st_size > 10_000


class Bomb:
    """Leaves a mark when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.safetensors", "m.bin", "m"])
def test_weights_that_are_a_pickle_are_refused_and_never_run(tmp_path, small_slide, capsys, name):
    shipped = next((Path(sys.modules["nucliseg_qp"].__file__).parent).rglob("weights/*.toml"))
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    (tmp_path / name).with_suffix(".toml").write_text(shipped.read_text())
    arguments = ["detect", small_slide, "-o", tmp_path / "out", "--model", tmp_path / name]
    assert run([str(one) for one in arguments]) == 4
    assert capsys.readouterr().err.count("error:") == 1
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "out").exists()


def repeated(path: Path, head: bytes, body: bytes, times: int, tail: bytes) -> Path:
    """Write a large gzipped text that is small on disk."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        block = body * 10_000
        for _ in range(times // 10_000):
            file.write(block)
        file.write(tail)
    return path


AREAS = {
    "a ring of ten million points": (
        b'{"type":"Polygon","coordinates":[[[0,0],', b"[1,1],", 10_000_000, b"[0,0]]]}",
    ),
    "ten gigabytes of blanks": (b"{", b" " * 1000, 10_000_000, b"}"),
    "a million features": (
        b'{"type":"FeatureCollection","features":[',
        b'{"type":"Feature","geometry":null},', 1_000_000, b"{}]}",
    ),
    "nesting": (b"", b"[", 1_000_000, b""),
}  # fmt: skip


@pytest.mark.parametrize("kind", AREAS)
def test_a_hostile_area_is_refused_within_bounded_memory(memory, tmp_path, small_slide, kind):
    head, body, times, tail = AREAS[kind]
    if len(body) * times > 2**30:  # a bomb of this size is written by its compressed pattern
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        block = packer.compress(head) + packer.compress(body * 400_000) + packer.flush()
        path = tmp_path / "area.geojson.gz"
        path.write_bytes(block * 25)
    else:
        path = repeated(tmp_path / "area.geojson.gz", head, body, times, tail)
    code, peak_mb, said = memory.peak_mb(
        ["detect", str(small_slide), "-o", str(tmp_path / "out"), "--within", str(path)]
    )
    assert code == 3, said
    assert said.count("error:") == 1
    assert "area.geojson.gz" in said
    assert peak_mb < 1.2 * LIMIT_MB
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", [1_000_000, 2**31 - 1])
def test_a_header_that_claims_a_trillion_pixels_costs_no_memory(memory, tmp_path, side):
    path = tmp_path / "claims.tif"
    tifffile.imwrite(path, shape=(64, 64, 3), dtype="u1", photometric="rgb", tile=(64, 64))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[name].overwrite(side, dtype="I")
    code, peak_mb, said = memory.peak_mb(
        ["detect", str(path), "-o", str(tmp_path / "out"), "--slide-mpp", "0.25"]
    )
    assert code == 3, said
    assert f"{side} x {side}" in said
    assert peak_mb < 600


def test_a_name_with_dots_and_slashes_writes_nothing_outside_the_folder(tmp_path, small_slide):
    (tmp_path / "a").mkdir()
    for name in ("..tif", "...ome.tif", ".hidden.ome.tif"):
        (tmp_path / "a" / name).write_bytes(small_slide.read_bytes())
        before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
        code = run(
            ["detect", str(tmp_path / "a" / name), "-o", str(tmp_path / "out"),
             "--region", "0,0,200,200"]
        )  # fmt: skip
        assert code == 0
        after = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
        assert after == before
