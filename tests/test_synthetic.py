"""The synthetic images are evidence elsewhere, so their truth must agree with their pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.training.fluorescence import fluorescence_to_hdab, recolour_haematoxylin
from nucliseg_qp.training.slides import SlideTruth, write_slide
from nucliseg_qp.training.synthetic import Field, draw_field, plain_look, random_look

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MPP = 0.5


@pytest.fixture(scope="module")
def plain() -> Field:
    return draw_field(7, (512, 400), MPP, plain_look())


def dab_density(image: NDArray[np.uint8], haematoxylin: object, dab: object) -> NDArray[np.float64]:
    """Unmix as QuPath does: two stains and their cross product, against white 243."""
    first, second = (np.asarray(v) / np.linalg.norm(v) for v in (haematoxylin, dab))
    stains = np.stack((first, second, np.cross(first, second)))
    density = -np.log10(np.maximum(image, 1) / 243.0)
    return np.asarray(
        (density.reshape(-1, 3) @ np.linalg.inv(stains))[:, 1].reshape(image.shape[:2])
    )


def mean_per_label(values: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    count = np.maximum(np.bincount(labels.ravel()), 1)
    return (np.bincount(labels.ravel(), values.ravel()) / count)[1:]


def inner_points(field: Field) -> NDArray[np.intp]:
    height, width = field.labels.shape
    x, y = field.points.T
    return np.flatnonzero((x >= 0) & (y >= 0) & (x < width) & (y < height))


def test_the_field_has_the_asked_shape_and_one_truth_row_per_label(plain: Field) -> None:
    assert plain.image.shape == (400, 512, 3)
    assert plain.image.dtype == np.uint8
    assert plain.labels.dtype == np.int32
    assert np.array_equal(np.unique(plain.labels), np.arange(len(plain.points) + 1))
    assert len(plain.classes) == len(plain.dab_od) == len(plain.points) > 150


def test_points_lie_in_their_own_nucleus_unless_another_covers_it(plain: Field) -> None:
    rows = inner_points(plain)
    x, y = np.floor(plain.points[rows]).astype(int).T
    hit = plain.labels[y, x]
    assert (hit == rows + 1).mean() > 0.97
    assert (hit > 0).all()


def test_points_are_centroids_of_whole_nuclei_in_pixel_centre_coordinates(plain: Field) -> None:
    ys, xs = np.indices(plain.labels.shape)
    mean_x = mean_per_label(xs + 0.5, plain.labels)
    mean_y = mean_per_label(ys + 0.5, plain.labels)
    inner = inner_points(plain)
    away = np.hypot(mean_x - plain.points[:, 0], mean_y - plain.points[:, 1])[inner]
    # Covered and cut nuclei move; most are whole and must not be off by the half pixel.
    assert np.median(away) < 1e-6


def test_negative_and_positive_are_separable_by_dab_in_the_plain_look() -> None:
    look = plain_look()
    measured, classes = [], []
    for seed in range(4):
        field = draw_field(seed, (512, 512), MPP, look)
        dab = dab_density(field.image, look.haematoxylin, look.dab)
        area = np.bincount(field.labels.ravel())[1:]
        measured.append(mean_per_label(dab, field.labels)[area > 30])
        classes.append(field.classes[area > 30])
    od, grade = np.concatenate(measured), np.concatenate(classes)
    threshold = 0.15
    assert ((od > threshold) == (grade > 0)).mean() > 0.99
    assert 0.25 < (grade > 0).mean() < 0.35
    assert (np.diff([np.median(od[grade == g]) for g in range(4)]) > 0.12).all()


def test_measured_dab_follows_the_stated_dab(plain: Field) -> None:
    look = plain_look()
    dab = dab_density(plain.image, look.haematoxylin, look.dab)
    area = np.bincount(plain.labels.ravel())[1:]
    measured = mean_per_label(dab, plain.labels)
    negative = (area > 60) & (plain.classes == 0)
    positive = (area > 60) & (plain.classes > 0) & (plain.dab_od < 0.8)
    assert np.median(np.abs(measured - plain.dab_od)[negative]) < 0.05
    assert np.median((measured / plain.dab_od)[positive]) == pytest.approx(0.97, abs=0.1)


def test_classes_follow_the_usual_dab_thresholds_in_the_plain_look(plain: Field) -> None:
    assert np.array_equal(plain.classes, np.digitize(plain.dab_od, (0.2, 0.4, 0.6)))


def test_equal_seeds_give_equal_fields_and_other_seeds_other_ones() -> None:
    first, again, other = (draw_field(s, (160, 120), MPP, plain_look()) for s in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.points, again.points)
    assert not np.array_equal(first.image, other.image)


def test_random_looks_differ_and_are_reproducible() -> None:
    looks = [random_look(np.random.default_rng(seed)) for seed in range(20)]
    assert random_look(np.random.default_rng(5)) == looks[5]
    assert len({look.haematoxylin for look in looks}) == 20
    assert np.ptp([look.density_per_mm2 for look in looks]) > 3000


@pytest.mark.parametrize("seed", range(8))
def test_every_random_look_can_be_drawn_with_valid_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = draw_field(rng, (150, 130), float(rng.uniform(0.2, 1.0)), random_look(rng))
    assert np.array_equal(
        np.unique(field.labels[field.labels > 0]), np.arange(len(field.points)) + 1
    )
    assert np.isfinite(field.points).all()


@pytest.mark.parametrize("size_px", [(1, 1), (3, 200), (37, 5)])
def test_tiny_fields_are_drawn(size_px: tuple[int, int]) -> None:
    assert draw_field(0, size_px, MPP, plain_look()).image.shape == (size_px[1], size_px[0], 3)


def test_a_look_without_nuclei_gives_background_only() -> None:
    field = draw_field(0, (100, 100), MPP, replace(plain_look(), density_per_mm2=0.0))
    assert len(field.points) == 0
    assert not field.labels.any()
    assert field.image.min() > 100


def blobs() -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Four bright discs, one cut by the border, with labels that skip numbers."""
    ys, xs = np.indices((120, 160))
    intensity, labels = np.zeros((120, 160), np.float32), np.zeros((120, 160), np.uint16)
    for label, x, y in ((3, 30, 30), (7, 90, 40), (9, 120, 80), (20, 0, 90)):
        disc = np.hypot(xs - x, ys - y) < 10
        intensity[disc] = 80 + 10 * np.sin(xs[disc])
        labels[disc] = label
    return intensity, labels


def test_fluorescent_nuclei_become_darker_than_the_stroma_with_their_own_masks() -> None:
    intensity, labels = blobs()
    field = fluorescence_to_hdab(intensity, labels, 1, plain_look())
    assert np.array_equal(field.labels > 0, labels > 0)
    assert field.labels.max() == len(field.points) == 4
    assert field.points[0] == pytest.approx((30.5, 30.5))
    assert field.image[labels > 0].mean() < field.image[labels == 0].mean() - 40
    assert 0.3 < field.mpp < 0.6


def test_positive_fraction_decides_the_colour_of_converted_nuclei() -> None:
    intensity, labels = blobs()
    purple = np.repeat((235 - 2 * intensity)[..., None], 3, axis=2).astype(np.uint8)
    for fraction, brown in ((0.0, False), (1.0, True)):
        look = replace(plain_look(), positive_fraction=fraction)
        for field in (
            fluorescence_to_hdab(intensity, labels, 2, look),
            recolour_haematoxylin(purple, labels, 2, look),
        ):
            red, _, blue = field.image[labels > 0].mean(axis=0)
            assert (red > blue) == brown
            assert (field.classes > 0).all() == brown


def test_an_image_without_nuclei_is_converted() -> None:
    nothing = np.zeros((40, 50), np.int32)
    field = fluorescence_to_hdab(np.zeros((40, 50)), nothing, 0, plain_look())
    assert field.points.shape == (0, 2)
    assert recolour_haematoxylin(field.image, nothing, 0, plain_look()).points.shape == (0, 2)


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one"):
        fluorescence_to_hdab(np.zeros((4, 5)), np.zeros((5, 4), np.int32), 0, plain_look())


SIZE_PX = (1300, 1111)


def slide(folder: Path, name: str, block_px: int, seed: int = 5) -> tuple[Path, SlideTruth]:
    path = folder / name
    look = replace(plain_look(), glands_per_mm2=20.0, folds=0.3)
    truth = write_slide(
        path, *SIZE_PX, 0.25, seed, 300, look, 0.1, block_px=block_px, jpeg_quality=0
    )
    return path, truth


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    return slide(tmp_path_factory.mktemp("slide"), "a.ome.tif", 512)


def test_blocks_join_without_seam(written: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    path, truth = written
    whole, same = slide(tmp_path, "b.ome.tif", 2048)
    assert np.array_equal(tifffile.imread(path), tifffile.imread(whole))
    assert np.array_equal(truth.points, same.points)
    assert np.array_equal(truth.classes, same.classes)


def test_equal_slides_are_equal_files(written: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    again, _ = slide(tmp_path, "a.ome.tif", 512)
    assert again.read_bytes() == written[0].read_bytes()


def test_the_slide_is_a_calibrated_pyramid(written: tuple[Path, SlideTruth]) -> None:
    with tifffile.TiffFile(written[0]) as file:
        levels = [level.shape for level in file.series[0].levels]
        page = file.pages[0]
        assert file.is_ome
        assert 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm"' in (file.ome_metadata or "")
        assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == 40000
        assert page.is_tiled
        assert page.tile == (512, 512)
        small = file.series[0].levels[1].asarray()
        full = file.series[0].levels[0].asarray()
    assert levels == [(1111, 1300, 3), (556, 650, 3)]
    quarters = full[:1110].reshape(555, 2, 650, 2, 3).mean(axis=(1, 3))
    assert np.abs(quarters - small[:555]).max() <= 1.0


def test_a_slide_reads_alike_through_openslide(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    path = tmp_path / "jpeg.ome.tif"
    write_slide(path, 700, 600, 0.25, 1, 300)
    with openslide.OpenSlide(str(path)) as opened:
        region = np.asarray(opened.read_region((0, 0), 0, (700, 600)))[..., :3]
    assert np.abs(region.astype(int) - tifffile.imread(path)).mean() < 1.0


def test_truth_labels_agree_with_points_and_pixels(written: tuple[Path, SlideTruth]) -> None:
    path, truth = written
    labels = truth.labels(0, 0, *SIZE_PX)
    assert np.array_equal(np.unique(labels), np.arange(len(truth.points) + 1))
    x, y = np.floor(truth.points).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < SIZE_PX[0]) & (y < SIZE_PX[1])
    assert (labels[y[inside], x[inside]] == np.flatnonzero(inside) + 1).mean() > 0.95
    image = tifffile.imread(path)
    assert image[labels > 0].mean() < image[labels == 0].mean() - 50


def test_labels_of_a_region_are_those_of_the_whole(written: tuple[Path, SlideTruth]) -> None:
    truth = written[1]
    whole = truth.labels(0, 0, *SIZE_PX)
    assert np.array_equal(truth.labels(333, 200, 400, 500), whole[200:700, 333:733])


def test_glass_and_density_are_as_asked(tmp_path: Path) -> None:
    truth = write_slide(tmp_path / "g.ome.tif", 2048, 2048, 0.5, 3, 200, None, 0.4)
    tissue_tiles = 0.6 * (2048 * 0.5 / 256) ** 2
    assert len(truth.points) / tissue_tiles == pytest.approx(200, rel=0.12)
    image = tifffile.imread(tmp_path / "g.ome.tif")
    corners = np.concatenate([image[:60, :60], image[-60:, -60:], image[:60, -60:]])
    assert corners.mean() > 238
    assert image[900:1100, 900:1100].mean() < 230


def test_more_than_a_thousand_nuclei_fit_in_a_tile(tmp_path: Path) -> None:
    truth = write_slide(tmp_path / "c.ome.tif", 1024, 1024, 0.25, 2, 1200, jpeg_quality=0)
    x, y = truth.points.T
    inside = (x > 0) & (x < 1024) & (y > 0) & (y < 1024)
    assert inside.sum() > 1050
    assert truth.labels(0, 0, 1024, 1024).max() == len(truth.points)


def test_truth_is_saved_beside_the_slide(written: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    written[1].save(tmp_path / "truth.npz")
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as saved:
        assert np.array_equal(saved["points"], written[1].points)
        assert np.array_equal(saved["classes"], written[1].classes)
        assert float(saved["mpp"]) == 0.25


@pytest.mark.parametrize(
    ("name", "size_px", "mpp", "glass"),
    [("a.tif", 100, 0.25, 0.0), ("a.ome.tif", 0, 0.25, 0.0), ("a.ome.tif", 100, 0.25, 1.0)],
)
def test_senseless_slides_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, size_px: int, mpp: float, glass: float
) -> None:
    with pytest.raises(UsageError):
        write_slide(tmp_path / name, size_px, 100, mpp, 0, 100, None, glass)
    assert not list(tmp_path.iterdir())


def test_no_draft_is_left_beside_the_slide(written: tuple[Path, SlideTruth]) -> None:
    assert [entry.name for entry in written[0].parent.iterdir()] == ["a.ome.tif"]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_slide(tmp_path / "none" / "a.ome.tif", 64, 64, 0.25, 0, 100)
