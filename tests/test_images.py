"""Images: the right pixels at the right place, a believed pixel size, and refusal of the rest."""

from __future__ import annotations

import functools
import gc
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import openslide
import pytest
import pyvips
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nucliseg_qp.errors import CalibrationError, InputError, OutputError, UsageError
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.images.rgb import over_white
from nucliseg_qp.images.slide import Slide, open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.geometry import Region

PER_CM = {"resolution": (40000, 40000), "resolutionunit": 3}  # 0.25 um


@functools.cache
def picture(width: int = 301, height: int = 260) -> NDArray[np.uint8]:
    """Give coloured noise, so that a shift by one pixel shows."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 0.7)


def write_pyramid(
    path: Path, image: NDArray[np.uint8], subifds: bool = True, **options: object
) -> Path:
    """Write an image with levels of every second and every fourth pixel."""
    options = {"photometric": "rgb", "metadata": None, **options}
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, subifds=2 if subifds else None, **PER_CM, **options)
        for step in (2, 4):
            writer.write(image[::step, ::step].copy(), subfiletype=1, **options)
    return path


def write_svs(path: Path, image: NDArray[np.uint8], reduced: NDArray[np.uint8]) -> Path:
    """Write what OpenSlide takes for a slide of Aperio's, its second level made by the caller."""
    height, width = image.shape[:2]
    about = (
        f"Aperio Image Library v11\r\n{width}x{height} [0,0 {width}x{height}] (256x256)|MPP = 0.25"
    )
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, description=about, **options)
        writer.write(image[::8, ::8].copy(), photometric="rgb", metadata=None)
        writer.write(reduced, description=about, **options)
    return path


class ArraySlide(Slide):
    """A slide in memory with whatever levels a test wants."""

    def __init__(self, *levels: NDArray[np.uint8]) -> None:
        sizes = tuple((level.shape[1], level.shape[0]) for level in levels)
        super().__init__(Path("memory"), "array", sizes, None)
        self.levels = levels

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        rows = slice(region.y_px, region.bottom_px)
        return self.levels[level][rows, region.x_px : region.right_px].copy()

    def close(self) -> None:
        """Do nothing."""


# --- pixels --------------------------------------------------------------------------------------

LAYOUTS = {
    "tiled": {"tile": (64, 80)},
    "tiled, no subifds": {"tile": (64, 80), "subifds": False},
    "lzw": {"tile": (64, 64), "compression": "lzw", "predictor": True},
    "deflate strips": {"rowsperstrip": 7, "compression": "zlib"},
    "raw strips": {"rowsperstrip": 7},
    "one raw strip": {"rowsperstrip": 1000},
    "packbits": {"rowsperstrip": 16, "compression": "packbits"},
    "zstd": {"tile": (64, 64), "compression": "zstd"},
    "jpeg 2000": {"tile": (64, 64), "compression": "jpeg2000"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_tiff_gives_its_own_pixels(tmp_path: Path, layout: str) -> None:
    image = picture()
    with open_slide(write_pyramid(tmp_path / "a.tif", image, **LAYOUTS[layout])) as slide:
        assert slide.level_downsamples == (1, 2, 4)
        for level, step in enumerate((1, 2, 4)):
            whole = slide.read_level(level, 0, 0, *slide.level_dimensions[level])
            np.testing.assert_array_equal(whole, image[::step, ::step])
        np.testing.assert_array_equal(
            slide.read_region((100, 40), 0, (130, 111)), image[40:151, 100:230]
        )
        np.testing.assert_array_equal(
            slide.read_region((100, 40), 1, (30, 20)), image[40:80:2, 100:160:2]
        )


@pytest.mark.parametrize(
    "options", [{"tile": (64, 64)}, {"rowsperstrip": 9}, {"rowsperstrip": 300}]
)
def test_separate_colour_planes_are_put_together(tmp_path: Path, options: dict) -> None:
    planes = np.moveaxis(picture(), 2, 0)
    path = tmp_path / "planes.tif"
    tifffile.imwrite(
        path, planes, photometric="rgb", planarconfig="separate", metadata=None, **options, **PER_CM
    )
    with open_slide(path) as slide:
        np.testing.assert_array_equal(
            slide.read_region((3, 5), 0, (200, 190)), picture()[5:195, 3:203]
        )


def test_outside_of_the_image_is_white(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", np.zeros((50, 40, 3), np.uint8), tile=(16, 16))
    with open_slide(path) as slide:
        around = slide.read_region((-3, -5), 0, (50, 60))
        assert (around[5:55, 3:43] == 0).all()
        around[5:55, 3:43] = 255
        assert (around == 255).all()
        assert (slide.read_region((5000, 5000), 0, (7, 4)) == 255).all()
        assert slide.read_region((0, 0), 0, (0, 4)).shape == (4, 0, 3)


def test_transparent_png_shows_white(tmp_path: Path) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (50, 50, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", slide_mpp=0.5) as slide:
        shown = slide.read_region((0, 0), 0, (50, 50))
    assert np.abs(shown.astype(int) - over_white(rgba)).max() <= 1


@pytest.mark.parametrize("kind", ["a.png", "a.jpg"])
def test_large_progressive_pictures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("nucliseg_qp.images.readers_flat.MAX_INTERLACED_PIXELS", 50_000)
    image = pyvips.Image.new_from_array(picture())
    image.write_to_file(str(tmp_path / kind))
    with open_slide(tmp_path / kind, slide_mpp=0.5) as slide:
        assert slide.dimensions == (301, 260)
    image.write_to_file(str(tmp_path / kind), interlace=True)
    with pytest.raises(InputError, match="too many for its format"):
        open_slide(tmp_path / kind, slide_mpp=0.5)


def test_a_full_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="TMPDIR"):
        open_slide(tmp_path / "a.png", slide_mpp=0.5)


@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {"rowsperstrip": 10}])
def test_tiles_never_written_are_white(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "sparse.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", metadata=None, **options, **PER_CM)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in (tiff.pages[0].tags[324 if "tile" in options else 273],):
            name.overwrite([0, *name.value[1:]])
    expected = picture().copy()
    expected[: 64 if "tile" in options else 10, : 64 if "tile" in options else None] = 255
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_region((0, 0), 0, slide.dimensions), expected)


@pytest.mark.parametrize("associated", [True, False])
@pytest.mark.parametrize("options", [{"tile": (32, 32)}, {"rowsperstrip": 8}])
def test_transparency_shows_white(tmp_path: Path, associated: bool, options: dict) -> None:
    image = np.zeros((40, 60, 4), np.uint8)
    image[:, :20] = (10, 20, 30, 255)
    image[:, 20:40] = (50, 50, 50, 128)
    path = tmp_path / "alpha.tif"
    tifffile.imwrite(
        path,
        image,
        photometric="rgb",
        extrasamples=["assocalpha" if associated else "unassalpha"],
        metadata=None,
        **options,
        **PER_CM,
    )
    with open_slide(path) as slide:
        shown = slide.read_region((0, 0), 0, (60, 40))
    half = 50 + 127 if associated else round(50 * 128 / 255 + 127)
    assert (shown[:, :20] == (10, 20, 30)).all()
    assert (shown[:, 20:40] == half).all()
    assert (shown[:, 40:] == 255).all()


def test_over_white_agrees_with_arithmetic() -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (50, 50, 4), np.uint8)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(over_white(rgba) - expected).max() <= 0.5 + 1e-6


def test_jpeg_tiles_are_those_openslide_decodes(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.tif"
    image = cv2.GaussianBlur(picture(700, 500), (0, 0), 2)
    options = {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}
    tifffile.imwrite(path, image, tile=(256, 256), metadata=None, **options, **PER_CM)
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        assert slide.reader == "tifffile"
        theirs = np.asarray(other.read_region((33, 44), 0, (600, 400)).convert("RGB"))
        np.testing.assert_array_equal(slide.read_region((33, 44), 0, (600, 400)), theirs)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_png_is_read_from_the_middle_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    stored = Image.fromarray(picture()).convert(mode)
    stored.save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", slide_mpp=0.5) as slide:
        assert slide.reader == "pyvips (png)"
        expected = np.asarray(stored.convert("RGB"))[20:120, 10:210]
        np.testing.assert_array_equal(slide.read_region((10, 20), 0, (200, 100)), expected)
    assert not list(scratch.iterdir())


def test_jpeg_picture_is_read_as_pillow_does(tmp_path: Path) -> None:
    Image.fromarray(cv2.GaussianBlur(picture(), (0, 0), 3)).save(tmp_path / "a.jpg", quality=95)
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    with open_slide(tmp_path / "a.jpg", slide_mpp=0.5) as slide:
        found = slide.read_region((0, 0), 0, slide.dimensions)
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_thumbnail_is_the_whole_image_within_the_size(tmp_path: Path) -> None:
    image = np.zeros((4000, 37, 3), np.uint8)
    image[:2000] = 200
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", metadata=None, **PER_CM)
    with open_slide(tmp_path / "a.tif") as slide:
        small = slide.thumbnail(400)
        assert small.shape == (400, 3, 3)
        assert (small[:199] == 200).all()
        assert (small[201:] == 0).all()
        assert slide.thumbnail(100_000).shape == (4000, 37, 3)


def test_threads_read_the_same(tmp_path: Path) -> None:
    image = picture(700, 600)
    path = write_pyramid(tmp_path / "a.tif", image, tile=(64, 64), compression="zlib")
    corner = [(x, y) for x in range(0, 600, 50) for y in range(0, 500, 50)]
    start = threading.Barrier(4)

    def read(places: list[tuple[int, int]]) -> None:
        start.wait()
        for x, y in places:
            found = slide.read_region((x, y), 0, (100, 100))
            np.testing.assert_array_equal(found, image[y : y + 100, x : x + 100])

    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        list(pool.map(read, [corner, corner[::-1], corner[::2], corner[1::2]]))


def test_scanning_a_pyramid_takes_bounded_memory(tmp_path: Path) -> None:
    side, size = 8192, 512
    tile = cv2.GaussianBlur(picture(size, size), (0, 0), 2)
    coded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    path = tmp_path / "big.tif"
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            n = side >> level
            writer.write(
                (coded for _ in range((n // size) ** 2)),
                shape=(n, n, 3),
                dtype=np.uint8,
                tile=(size, size),
                compression="jpeg",
                photometric="ycbcr",
                subfiletype=1 if level else 0,
                metadata=None,
                **PER_CM,
            )
    with open_slide(path) as slide:
        read_grid(slide, 1.0, 0, 0, 1024, 1024)
        before = resident_mb()
        for factor in (1.0, 2.2):
            count = int(side / factor) // 1024
            for number in range(count * count):
                x, y = number % count * 1024, number // count * 1024
                read_grid(slide, factor, x - 32, y - 32, 1088, 1088)
        # The image is 200 MB; the cache of tiles is 64.
        assert resident_mb() - before < 130


def resident_mb() -> float:
    """Give this process's memory as the system counts it."""
    gc.collect()
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not tell how much memory a process has")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# --- slides of scanners --------------------------------------------------------------------------


def test_aperio_slide_goes_through_openslide(tmp_path: Path) -> None:
    image = cv2.GaussianBlur(picture(1003, 900), (0, 0), 3)
    reduced = cv2.resize(image[:900, :1000], (250, 225), interpolation=cv2.INTER_AREA)
    with open_slide(write_svs(tmp_path / "a.svs", image, reduced)) as slide:
        assert slide.reader == "openslide (aperio)"
        assert slide.level_downsamples == (1, 4)
        assert slide.mpp is not None
        assert (slide.mpp.mpp, slide.mpp.source) == (0.25, "openslide.mpp-x")
        found = slide.read_region((0, 0), 0, slide.dimensions)
    assert np.abs(found.astype(int) - image).mean() < 3


def test_inexact_levels_give_the_same_pixels_in_every_window(tmp_path: Path) -> None:
    # 1003 / 249 is no whole number: OpenSlide shifts such a level by fractions of a pixel.
    image = cv2.GaussianBlur(picture(1003, 900), (0, 0), 3)
    reduced = cv2.resize(image, (249, 221), interpolation=cv2.INTER_AREA)
    with open_slide(write_svs(tmp_path / "a.svs", image, reduced)) as slide:
        whole = slide.read_level(1, 0, 0, 249, 221)
        assert np.abs(whole.astype(int) - reduced).mean() < 4
        for x, y in [(1, 1), (17, 3), (101, 77)]:
            part = slide.read_level(1, x, y, 100, 90)
            np.testing.assert_array_equal(part, whole[y : y + 90, x : x + 100])


SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" uuid="c" sizeX="1000000" sizeY="750000"><barcode/>
<image name="macro" uuid="m"><device model="Leica"/><pixels sizeX="256" sizeY="256">
<dimension sizeX="256" sizeY="256" r="0" ifd="0"/></pixels>
<view sizeX="1000000" sizeY="750000" offsetX="0" offsetY="0" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>1</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>
<image name="main" uuid="n"><device model="Leica"/><pixels sizeX="1024" sizeY="768">
<dimension sizeX="1024" sizeY="768" r="0" ifd="1"/>
<dimension sizeX="256" sizeY="192" r="1" ifd="2"/></pixels>
<view sizeX="256000" sizeY="192000" offsetX="250250" offsetY="125750" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>40</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>
</collection></scn>"""


@pytest.fixture
def scn(tmp_path: Path) -> tuple[Path, NDArray[np.uint8]]:
    """A slide whose scanned part begins at (1001, 503)."""
    image = cv2.GaussianBlur(picture(1024, 768), (0, 0), 4)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.scn", bigtiff=True) as writer:
        macro = np.full((256, 256, 3), 200, np.uint8)
        writer.write(macro, description=SCN.encode(), **options, **PER_CM)
        writer.write(image, **options, **PER_CM)
        small = cv2.resize(image, (256, 192), interpolation=cv2.INTER_AREA)
        writer.write(small, subfiletype=1, **options)
    return tmp_path / "a.scn", image


def test_the_image_is_the_scanned_part_as_in_qupath(scn: tuple[Path, NDArray[np.uint8]]) -> None:
    path, image = scn
    with open_slide(path) as slide:
        assert slide.level_dimensions == ((1024, 768), (256, 192))
        found = slide.read_region((100, 50), 0, (300, 200))
        assert np.abs(found.astype(int) - image[50:250, 100:400]).mean() < 2
        assert (slide.read_region((-50, 0), 0, (50, 50)) == 255).all()


def test_the_whole_scan_can_be_asked_for(scn: tuple[Path, NDArray[np.uint8]]) -> None:
    path, image = scn
    with open_slide(path, crop_to_bounds=False) as slide:
        assert slide.dimensions == (4000, 3000)
        found = slide.read_region((1001, 503), 0, (1024, 768))
        assert np.abs(found.astype(int) - image).mean() < 2


# --- pixel size ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit"), [(0.25, "µm"), (250, "nm"), (0.00025, "mm"), (0.25, None), (2.5e-7, "m")]
)
def test_ome_pixel_size_in_any_unit(tmp_path: Path, value: float, unit: str | None) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": value, "PhysicalSizeY": value}
    if unit:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", picture(), photometric="rgb", metadata=metadata)
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert slide.mpp is not None
        assert slide.mpp.mpp == pytest.approx(0.25)
        assert slide.mpp.source == "OME-XML PhysicalSizeX"


@pytest.mark.parametrize(
    ("description", "resolution", "unit", "mpp", "source"),
    [
        (None, 40000, 3, 0.25, "TIFF resolution tag"),
        (None, 101600, 2, 0.25, "TIFF resolution tag"),
        ("ImageJ=1.53\nunit=micron\n", 2, 1, 0.5, "ImageJ unit micron"),
        ("ImageJ=1.53\nunit=\\u00B5m\n", 2, 1, 0.5, "ImageJ unit"),
        ("ImageJ=1.53\nunit=mm\n", 4000, 1, 0.25, "ImageJ unit mm"),
    ],
)
def test_other_pixel_sizes_of_tiff(
    tmp_path: Path, description: str | None, resolution: int, unit: int, mpp: float, source: str
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture(),
        photometric="rgb",
        description=description,
        metadata=None,
        resolution=(resolution, resolution),
        resolutionunit=unit,
    )
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp is not None
        assert slide.mpp.mpp == pytest.approx(mpp)
        assert slide.mpp.source.startswith(source)


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": (72, 72), "resolutionunit": 2},
        {"resolution": (300, 300), "resolutionunit": 2},
        {"resolution": (40000, 40000), "resolutionunit": 1},
        {},
    ],
)
def test_a_pixel_size_is_never_guessed(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", metadata=None, **options)
    with pytest.raises(CalibrationError, match=r"a\.tif has no pixel size.*--slide-mpp"):
        open_slide(path)
    with open_slide(path, require_mpp=False) as slide:
        assert slide.mpp is None
    with open_slide(path, slide_mpp=0.3) as slide:
        assert slide.mpp is not None
        assert (slide.mpp.mpp, slide.mpp.source) == (0.3, "--slide-mpp")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [(0.25, 0.3, "not square"), (250, 250, "too coarse"), (1e-4, 1e-4, "no")],
)
def test_a_pixel_size_that_cannot_be_is_refused(
    tmp_path: Path, x: float, y: float, words: str
) -> None:
    metadata = {"axes": "YXS", "PhysicalSizeX": x, "PhysicalSizeY": y}
    tifffile.imwrite(tmp_path / "a.ome.tif", picture(), photometric="rgb", metadata=metadata)
    with pytest.raises(CalibrationError, match=f"{words}.*--slide-mpp"):
        open_slide(tmp_path / "a.ome.tif")
    with open_slide(tmp_path / "a.ome.tif", slide_mpp=0.25) as slide:
        assert slide.mpp is not None
        assert slide.mpp.mpp == 0.25


@pytest.mark.parametrize("mpp", [0, -1, 250, float("nan")])
def test_an_absurd_slide_mpp_is_refused(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(UsageError, match="--slide-mpp"):
        open_slide(tmp_path / "never opened.tif", slide_mpp=mpp)


# --- what is refused by name ---------------------------------------------------------------------


def _tiff(path: Path, data: NDArray, **options: object) -> None:
    tifffile.imwrite(path, data, **{"metadata": None, **PER_CM, **options})


def _ome(path: Path, shape: tuple[int, ...], axes: str, dtype: str = "uint8") -> None:
    tifffile.imwrite(
        path, np.zeros(shape, dtype), metadata={"axes": axes}, photometric="minisblack"
    )


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(path, exif=exif)


REFUSED = {
    "16 bit": ("a.tif", lambda p: _tiff(p, picture().astype("u2"), photometric="rgb"), "16 bit"),
    "float": ("a.tif", lambda p: _tiff(p, picture().astype("f4"), photometric="rgb"), "32 bit"),
    "grey": ("a.tif", lambda p: _tiff(p, picture()[..., 0]), "1 channel.*minisblack"),
    "palette": (
        "a.tif",
        lambda p: _tiff(
            p, picture()[..., 0], photometric="palette", colormap=np.zeros((3, 256), "u2")
        ),
        "palette",
    ),
    "fluorescence": ("a.ome.tif", lambda p: _ome(p, (3, 64, 64), "CYX", "u2"), "3 channels of 16"),
    "8 bit channels": ("a.ome.tif", lambda p: _ome(p, (4, 64, 64), "CYX"), "4 channels of 8 bit"),
    "z-stack": ("a.ome.tif", lambda p: _ome(p, (5, 64, 64), "ZYX"), "5 z planes"),
    "time series": ("a.ome.tif", lambda p: _ome(p, (7, 64, 64), "TYX"), "7 time points"),
    "stack": ("a.tif", lambda p: _tiff(p, np.stack([picture()] * 3), photometric="rgb"), "3 pages"),
    "turned tiff": (
        "a.tif",
        lambda p: _tiff(p, picture(), photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
        "Orientation 6",
    ),
    "ccitt": (
        "a.tif",
        lambda p: _tiff(p, picture()[..., 0] > 128, compression="packbits"),
        "1 bit",
    ),
    "lerc": (
        "a.tif",
        lambda p: _tiff(p, picture(), photometric="rgb", compression="lerc", tile=(64, 64)),
        "LERC.*not supported",
    ),
    "grey png": ("a.png", lambda p: Image.fromarray(picture()[..., 0]).save(p), r"1 channel"),
    "16 bit png": (
        "a.png",
        lambda p: cv2.imwrite(str(p), picture().astype("u2") * 200),
        "ushort",
    ),
    "cmyk": ("a.jpg", lambda p: Image.fromarray(picture()).convert("CMYK").save(p), "CMYK"),
    "turned jpeg": ("a.jpg", _turned, "EXIF orientation 6"),
    "gif": (
        "a.gif",
        lambda p: Image.fromarray(picture()).save(p),
        "no image of a known kind.*OME-TIFF",
    ),
    "text": ("a.svs", lambda p: p.write_text("this is no slide"), "no image of a known kind"),
    "empty": ("a.tif", lambda p: p.touch(), "is empty"),
    "folder": ("a.mrxs", lambda p: p.mkdir(), "is a folder"),
    "missing": ("a.ndpi", lambda _: None, "does not exist"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_rgb_brightfield_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    name, write, words = REFUSED[kind]
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}.*{words}") as caught:
        open_slide(tmp_path / name, slide_mpp=0.25)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


# --- hostile and broken files --------------------------------------------------------------------


def handmade_tiff(path: Path, tags: dict[int, tuple[int, list[int]]], next_ifd: int = 0) -> Path:
    """Write a TIFF of one directory: code -> (type, values), values inline or behind it."""
    entries, extra = b"", b""
    behind = 8 + 2 + 12 * len(tags) + 4
    for code, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(data) > 4:
            inline = struct.pack("<I", behind + len(extra))
            extra += data
        else:
            inline = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", code, kind, len(values)) + inline
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + entries + struct.pack("<I", next_ifd) + extra + b"\0" * 64)
    return path


def rgb_tags(width: int, height: int, tile: int = 256, compression: int = 7) -> dict:
    """Give the tags of a tiled RGB image with one tile of 32 bytes at offset 8."""
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8, 8, 8]),
        259: (3, [compression]),
        262: (3, [2]),
        277: (3, [3]),
        322: (4, [tile]),
        323: (4, [tile]),
        324: (4, [8]),
        325: (4, [32]),
    }


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (rgb_tags(1_000_000, 1_000_000), "1000000 x 1000000 pixels"),
        (rgb_tags(2_000_000_000, 16), "2000000000 x 16 pixels"),
        (rgb_tags(100_000, 100_000), "lists 1 of 152881 tiles"),
        (rgb_tags(60_000, 60_000, tile=65536), "tiles or strips of 65536 x 65536"),
        (rgb_tags(0, 16), "no pixels|not a sound TIFF|without an image"),
    ],
)
def test_a_header_that_claims_too_much_is_refused_at_once(
    tmp_path: Path, tags: dict, words: str
) -> None:
    path = handmade_tiff(tmp_path / "huge.tif", tags)
    before = resident_mb()
    with pytest.raises(InputError, match=f"huge.tif.*({words})"):
        open_slide(path, slide_mpp=0.25)
    assert resident_mb() - before < 50


def test_directories_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = handmade_tiff(tmp_path / "circle.tif", rgb_tags(64, 64), next_ifd=8)
    with pytest.raises(InputError, match=r"circle.tif.*circle"):
        open_slide(path, slide_mpp=0.25)


def test_a_tile_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    frame = bytes.fromhex("ffd8 ffc0 0011 08 ffff ffff 03 012200 021101 031101 ffda") + b"\0" * 9
    tags = rgb_tags(64, 64, tile=64)
    path = handmade_tiff(tmp_path / "bomb.tif", tags)
    data = bytearray(path.read_bytes())
    where = len(data) - 64
    data[where : where + len(frame)] = frame
    path.write_bytes(
        data.replace(struct.pack("<HHII", 324, 4, 1, 8), struct.pack("<HHII", 324, 4, 1, where))
    )
    with (
        open_slide(path, slide_mpp=0.25) as slide,
        pytest.raises(InputError, match=r"bomb.tif is damaged.*4294836225 pixels"),
    ):
        slide.read_region((0, 0), 0, (10, 10))


def test_a_png_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = struct.pack(">II", 500_000, 500_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb.png"):
        open_slide(tmp_path / "bomb.png", slide_mpp=0.25)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.png", "a.jpg", "a.svs"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, part: float) -> None:
    path = tmp_path / name
    if name.endswith("tif"):
        write_pyramid(path, picture(), tile=(64, 64))
    elif name.endswith("svs"):
        write_svs(path, picture(), picture()[::4, ::4].copy())
    else:
        Image.fromarray(picture()).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=name):
        read_everything(path)


def read_everything(path: Path) -> None:
    """Open an image and read all its levels."""
    with open_slide(path, slide_mpp=0.25) as slide:
        for level, size in enumerate(slide.level_dimensions):
            slide.read_level(level, 0, 0, *size)


def test_a_truncated_tiff_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(64, 64), metadata=None, **PER_CM)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut.tif is truncated"):
        open_slide(path)


def test_one_damaged_tile_does_not_spoil_the_others(tmp_path: Path) -> None:
    path = tmp_path / "hurt.tif"
    tifffile.imwrite(
        path,
        picture(),
        photometric="rgb",
        tile=(64, 64),
        compression="zlib",
        metadata=None,
        **PER_CM,
    )
    with tifffile.TiffFile(path) as tiff:
        offset, count = (
            values[6] for values in (tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts)
        )
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\xaa" * count
    path.write_bytes(data)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_region((0, 0), 0, (64, 64)), picture()[:64, :64])
        with pytest.raises(InputError, match=r"hurt.tif is damaged: tile 6"):
            slide.read_region((64, 64), 0, (10, 10))


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small files of several kinds, to be broken."""
    folder = tmp_path_factory.mktemp("sound")
    image = picture(90, 100)
    paths = [folder / name for name in ("a.tif", "b.tif", "c.svs", "d.png", "e.jpg")]
    write_pyramid(paths[0], image, tile=(32, 32), compression="jpeg")
    tifffile.imwrite(paths[1], image, photometric="rgb", bigtiff=True, rowsperstrip=8, **PER_CM)
    write_svs(paths[2], image, image[::4, ::4].copy())
    Image.fromarray(image).save(paths[3])
    Image.fromarray(image).save(paths[4])
    return paths


def test_tiles_too_large_for_any_memory_are_refused_before_openslide_ends_the_process(tmp_path):
    path = tmp_path / "hurt.svs"
    image = picture(90, 100)
    write_svs(path, image, image[::4, ::4].copy())
    with tifffile.TiffFile(path) as tiff:
        width = tiff.pages[0].tags["TileWidth"]
    data = bytearray(path.read_bytes())
    struct.pack_into(tiff.byteorder + "HI", data, width.offset + 2, 4, 1)
    struct.pack_into(tiff.byteorder + "I", data, width.offset + 8, 889192704)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"hurt.svs is damaged \(it has tiles of 889192704 x"):
        open_slide(path, slide_mpp=0.25)


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    which=st.integers(0, 4),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    near_start=st.booleans(),
)
def test_whatever_byte_is_wrong_only_an_input_error_comes_out(
    tmp_path: Path,
    sound_files: list[Path],
    which: int,
    changes: list[tuple[float, int]],
    near_start: bool,
) -> None:
    data = bytearray(sound_files[which].read_bytes())
    reach = min(len(data), 600) - 1 if near_start else len(data) - 1
    for place, value in changes:
        data[int(place * reach)] = value
    path = tmp_path / sound_files[which].name
    path.write_bytes(data)
    try:
        with open_slide(path, slide_mpp=0.25) as slide:
            width, height = slide.dimensions
            part = slide.read_region((0, 0), 0, (min(width, 300), min(height, 300)))
            assert part.dtype == np.uint8
    except InputError as error:
        assert path.name in str(error)  # noqa: PT017 - most broken files do open


# --- the global grid -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> ArraySlide:
    """A slide with levels of 1, 2 and 4, sides that are no multiples of them."""
    image = picture(611, 503)
    return ArraySlide(image, image[::2, ::2].copy(), image[::4, ::4].copy())


@settings(max_examples=120, deadline=None)
@given(
    downsample=st.one_of(st.floats(0.3, 9), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])),
    x=st.integers(-20, 200),
    y=st.integers(-20, 200),
    width=st.integers(2, 90),
    height=st.integers(2, 90),
    cut=st.floats(0, 1),
)
def test_a_window_read_in_two_halves_is_the_same(
    noisy: ArraySlide, downsample: float, x: int, y: int, width: int, height: int, cut: float
) -> None:
    whole = read_grid(noisy, downsample, x, y, width, height)
    assert whole.shape == (height, width, 3)
    left = 1 + int(cut * (width - 2))
    top = 1 + int(cut * (height - 2))
    parts = [
        [read_grid(noisy, downsample, x, y, left, top), (0, 0)],
        [read_grid(noisy, downsample, x + left, y, width - left, top), (left, 0)],
        [read_grid(noisy, downsample, x, y + top, left, height - top), (0, top)],
        [read_grid(noisy, downsample, x + left, y + top, width - left, height - top), (left, top)],
    ]
    for part, (column, row) in parts:
        rows, columns = part.shape[:2]
        np.testing.assert_array_equal(part, whole[row : row + rows, column : column + columns])


def test_a_large_window_is_put_together_from_the_same_pixels() -> None:
    flat = ArraySlide(np.tile(picture(1000, 700), (4, 5, 1)))
    whole = read_grid(flat, 3.7, -3, -3, 1360, 760)
    np.testing.assert_array_equal(read_grid(flat, 3.7, 500, 300, 200, 100), whole[303:403, 503:703])


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_whole_factors_are_plain_means(factor: int) -> None:
    image = picture(240, 240)
    slide = ArraySlide(image)
    found = read_grid(slide, factor, 3, 2, 20, 25)
    part = image[2 * factor : 27 * factor, 3 * factor : 23 * factor].astype(float)
    mean = part.reshape(25, factor, 20, factor, 3).mean(axis=(1, 3))
    assert np.abs(found - mean).max() <= 0.51


def test_a_level_of_the_wanted_resolution_is_copied(noisy: ArraySlide) -> None:
    np.testing.assert_array_equal(
        read_grid(noisy, 2.0, 10, 20, 50, 40), noisy.levels[1][20:60, 10:60]
    )
    np.testing.assert_array_equal(
        read_grid(noisy, 1.0, 10, 20, 50, 40), noisy.levels[0][20:60, 10:60]
    )


def test_the_coarsest_level_that_is_fine_enough_is_read(noisy: ArraySlide) -> None:
    wanted = {0.3: 0, 1.0: 0, 1.9: 0, 1.985: 1, 2.0: 1, 3.9: 1, 4.0: 2, 100.0: 2}
    assert {d: noisy.get_best_level_for_downsample(d) for d in wanted} == wanted


@settings(max_examples=40, deadline=None)
@given(downsample=st.floats(0.3, 8), pyramid=st.booleans())
def test_dots_keep_their_places_at_any_resolution(downsample: float, pyramid: bool) -> None:
    centres, image = _dots(sigma_px=max(2.5, 1.5 * downsample))
    levels = [image]
    while pyramid and len(levels) < 4:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    side = int(image.shape[0] / downsample)
    grid = 255.0 - read_grid(ArraySlide(*levels), downsample, 0, 0, side, side)[..., 0]
    for x, y in centres / downsample:
        radius = int(6 * max(2.5 / downsample, 1.5)) + 1
        left, top = max(0, int(x) - radius), max(0, int(y) - radius)
        part = grid[top : int(y) + radius + 1, left : int(x) + radius + 1]
        rows, columns = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        found = (part * columns).sum() / part.sum() + left, (part * rows).sum() / part.sum() + top
        assert np.hypot(found[0] - x, found[1] - y) < 0.1


def _dots(sigma_px: float) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Draw dark Gaussians at places between pixels, far from each other and from the border."""
    side = 512
    centres = np.array([[128.3, 130.7], [380.1, 128.9], [250.55, 377.25]])
    axis = np.arange(side) + 0.5
    dark = sum(
        np.exp(-(((axis - x) ** 2)[None, :] + ((axis - y) ** 2)[:, None]) / (2 * sigma_px**2))
        for x, y in centres
    )
    return centres, np.repeat(np.rint(255 - 250 * dark).astype(np.uint8)[..., None], 3, axis=2)


def test_outside_of_the_grid_is_white() -> None:
    slide = ArraySlide(np.zeros((100, 100, 3), np.uint8))
    for factor in (0.5, 1.0, 1.7, 2.0, 6.3):
        assert (read_grid(slide, factor, -50, -50, 40, 40) == 255).all()
        assert (read_grid(slide, factor, 2, 2, 5, 5) == 0).all()
