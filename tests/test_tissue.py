"""Tissue: all of it is found, on whatever glass, and no picture of a field loses its border."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from nucliseg_qp.config import TissueSettings
from nucliseg_qp.errors import CalibrationError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.slide import Calibration, Slide, open_slide
from nucliseg_qp.images.tissue import TissueMask, find_tissue

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(os.environ.get("NUCLISEG_QP_DATA", Path(__file__).parents[2] / "shared" / "data"))

MPP = 8.0
WIDTH, HEIGHT = 2100, 700  # 16.8 x 5.6 mm

GLASS = {
    "neutral": (238, 238, 240),
    "tinted": (222, 229, 218),
    "warm": (243, 237, 226),
    "burnt out": (255, 255, 255),
    "dim": (200, 201, 204),
}


class ArraySlide(Slide):
    """A slide in memory."""

    def __init__(self, image: NDArray[np.uint8], mpp: float | None = MPP) -> None:
        calibration = None if mpp is None else Calibration(mpp, mpp, "test")
        super().__init__(Path("memory"), "array", ((image.shape[1], image.shape[0]),), calibration)
        self.image = image

    def _read_inside(self, level: int, region: Region) -> NDArray[np.uint8]:
        assert level == 0
        return self.image[region.y_px : region.bottom_px, region.x_px : region.right_px].copy()

    def close(self) -> None:
        """Do nothing."""


def blob(x: float, y: float, radius: float, seed: int) -> NDArray[np.bool_]:
    """Draw a piece with a ragged border."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT // 4, WIDTH // 4))
    noise = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 4), (WIDTH, HEIGHT))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(columns - x, rows - y) + noise / noise.std() * 12 < radius


def paint(image: NDArray[np.float64], where: NDArray[np.bool_], strength: float, seed: int) -> None:
    """Stain a piece: pale blue ground with dark nuclei, some of them brown."""
    random = np.random.default_rng(seed)
    nuclei = cv2.GaussianBlur(random.normal(size=where.shape), (0, 0), 0.7)
    dark = np.clip(nuclei / nuclei.std() - 0.8, 0, 1.5)[..., None]
    brown = cv2.GaussianBlur(random.normal(size=where.shape), (0, 0), 15)[..., None] > 0
    density = 0.04 * np.array([1.2, 1.0, 0.5]) + 0.35 * dark * np.where(
        brown, np.array([0.5, 0.9, 1.2]), np.array([1.2, 1.1, 0.5])
    )
    image[where] *= 10 ** (-strength * density)[where]


def photographed(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Add noise, uneven light, a seam of the scan, and JPEG."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    fall = ((columns - WIDTH / 2) ** 2 + (rows - HEIGHT / 2) ** 2) / (WIDTH * HEIGHT)
    image = image * (1 - 0.03 * fall[..., None])
    image[300:400] *= 0.985
    image = image + np.random.default_rng(9).normal(0, 1.5, image.shape)
    bgr = np.clip(image, 0, 255).astype(np.uint8)[..., ::-1]
    coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def at_mask(truth: NDArray[np.bool_], tissue: TissueMask) -> NDArray[np.bool_]:
    """Bring a picture of where tissue is to the size of a mask."""
    size = tissue.mask.shape[1], tissue.mask.shape[0]
    return cv2.resize(truth.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)


@pytest.mark.parametrize(
    ("glass", "strength"), [("neutral", 1.0), *((glass, 0.5) for glass in GLASS)]
)
def test_tissue_is_found_on_any_glass(glass: str, strength: float) -> None:
    image = np.full((HEIGHT, WIDTH, 3), GLASS[glass], np.float64)
    pieces = [blob(400, 250, 150, 1), blob(1200, 400, 200, 2), blob(2070, 100, 100, 3)]
    for seed, piece in enumerate(pieces):
        paint(image, piece, strength, seed)
    tissue = find_tissue(ArraySlide(photographed(image)), TissueSettings())
    truth = at_mask(np.any(pieces, axis=0), tissue)
    far = ~cv2.dilate(truth.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool)
    assert tissue.mask[truth].mean() > 0.99
    assert tissue.mask[far].mean() < 0.01


def test_borders_ink_and_dust_are_no_tissue() -> None:
    image = np.full((HEIGHT, WIDTH, 3), GLASS["neutral"], np.float64)
    piece = blob(600, 350, 200, 1)
    paint(image, piece, 1.0, 1)
    image[:, :40] = 4
    image[-15:] = 8
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(ink, (1200, 100), (2000, 130), 1, 15)
    image[ink > 0] = (40, 140, 70)
    other = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.line(other, (1200, 300), (2000, 330), 1, 15)
    image[other > 0] = (30, 70, 170)
    image[500:502, 1500:1502] = 100
    tissue = find_tissue(ArraySlide(photographed(image)), TissueSettings())
    assert tissue.mask[at_mask(piece, tissue)].mean() > 0.99
    black = at_mask(image.max(axis=2) < 20, tissue)
    marks = at_mask((ink > 0) | (other > 0), tissue)
    assert tissue.mask[black].mean() < 0.05
    assert tissue.mask[marks].mean() < 0.2
    assert not tissue.extent(Region(1450, 450, 100, 100)).area_px


@pytest.mark.parametrize("glass", GLASS)
def test_bare_glass_has_no_tissue(glass: str) -> None:
    image = photographed(np.full((HEIGHT, WIDTH, 3), GLASS[glass], np.float64))
    assert not find_tissue(ArraySlide(image), TissueSettings()).mask.any()


@pytest.mark.parametrize("colour", [(150, 100, 60), (120, 110, 160), (90, 50, 30)])
def test_a_slide_full_of_stain_is_all_tissue(colour: tuple[int, int, int]) -> None:
    image = photographed(np.full((HEIGHT, WIDTH, 3), colour, np.float64))
    assert find_tissue(ArraySlide(image), TissueSettings()).mask.all()


def test_tissue_from_border_to_border_is_kept() -> None:
    image = np.full((HEIGHT, WIDTH, 3), GLASS["neutral"], np.float64)
    paint(image, np.ones((HEIGHT, WIDTH), bool), 0.7, 4)
    assert find_tissue(ArraySlide(photographed(image)), TissueSettings()).mask.all()


@pytest.mark.parametrize("size", [(1, 1), (37, 4001), (500, 300), (1999, 3)])
def test_a_small_picture_is_tissue_up_to_its_border_or_empty(size: tuple[int, int]) -> None:
    width, height = size
    brown = np.full((height, width, 3), (150, 100, 60), np.uint8)
    assert find_tissue(ArraySlide(brown, 0.25), TissueSettings()).mask.all()
    for empty in (255, 230):
        glass = np.full((height, width, 3), empty, np.uint8)
        assert not find_tissue(ArraySlide(glass, 0.25), TissueSettings()).mask.any()


def test_a_single_nucleus_makes_a_field_worth_looking_at() -> None:
    image = np.full((1000, 1400, 3), 238, np.uint8)
    cv2.circle(image, (1390, 5), 16, (110, 100, 150), -1)
    tissue = find_tissue(ArraySlide(image, 0.25), TissueSettings())
    assert tissue.mask.all()
    assert tissue.contains(np.array([1399.9]), np.array([0.0])).all()
    assert tissue.contains(np.array([0.0]), np.array([999.9])).all()


def test_looking_can_be_turned_off() -> None:
    slide = ArraySlide(np.full((300, 5000, 3), 255, np.uint8), 1.0)
    assert find_tissue(slide, TissueSettings(find=False)).mask.all()


def test_small_specks_and_the_rim_follow_the_settings() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    cv2.circle(image, (1000, 400), 10, (120, 80, 60), -1)  # 80 um radius, 20,000 um2
    slide = ArraySlide(image)
    assert find_tissue(slide, TissueSettings(min_area_um2=10_000)).mask.any()
    assert not find_tissue(slide, TissueSettings(min_area_um2=60_000)).mask.any()
    narrow, wide = (find_tissue(slide, TissueSettings(margin_um=um)) for um in (0, 160))
    near = Region(1000 + 10 + 14, 400, 2, 2)  # 112 um from the speck
    assert wide.extent(near).area_px
    assert not narrow.extent(near).area_px


def test_without_a_pixel_size_nothing_is_assumed() -> None:
    with pytest.raises(CalibrationError, match="--slide-mpp"):
        find_tissue(ArraySlide(np.zeros((9, 9, 3), np.uint8), None), TissueSettings())


def test_a_mask_answers_for_the_pixels_it_covers() -> None:
    mask = TissueMask(np.array([[0, 1, 0], [0, 0, 0]], bool), 32.0)
    x, y = np.array([32, 63.9, 64, 31.9, -1, 40, 1e9]), np.array([0, 31.9, 5, 5, 5, 32, 5])
    np.testing.assert_array_equal(mask.contains(x, y), [1, 1, 0, 0, 0, 0, 0])
    boxes = [(0, 0, 32, 64), (0, 0, 33, 1), (63, 31, 1, 1), (64, 0, 32, 64), (-50, -50, 40, 40)]
    expected = [False, True, True, False, False]
    regions = [Region(*box) for box in boxes]
    assert [bool(mask.extent(region).area_px) for region in regions] == expected
    edges = [[r.x_px, r.y_px, r.right_px, r.bottom_px] for r in regions]
    np.testing.assert_array_equal(mask.overlaps_boxes(np.array(edges, float)), expected)


def _fields() -> list[tuple[Path, float]]:
    scale = {"glioma_ki67/images": 0.33, "endonuke/images": 0.3, "openslide_ki67": 0.25}
    return [
        (path, mpp) for name, mpp in scale.items() for path in sorted((DATA / name).glob("*.png"))
    ]


@pytest.mark.skipif(not _fields(), reason="no annotated images (NUCLISEG_QP_DATA names a folder)")
def test_real_fields_are_tissue_also_where_they_are_part_of_a_slide() -> None:
    for path, mpp in _fields():
        with open_slide(path, mpp) as slide:
            assert find_tissue(slide, TissueSettings()).mask.all(), path.name
        # The same field in the middle of a slide's worth of glass.
        field = np.asarray(Image.open(path).convert("RGB"))
        small = cv2.resize(field, None, fx=mpp / 8, fy=mpp / 8, interpolation=cv2.INTER_AREA)
        image = np.full((300, 2100, 3), 244, np.uint8)
        rows, columns = small.shape[:2]
        image[100 : 100 + rows, 900 : 900 + columns] = small
        mask = find_tissue(ArraySlide(image, 8.0), TissueSettings()).mask
        assert mask[100 : 100 + rows, 900 : 900 + columns].mean() > 0.97, path.name
