"""Training learns from what it is shown, and its figures mean what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from nucliseg_qp.errors import InputError
from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.training.augment import Augmentation, augment, change_stains
from nucliseg_qp.training.canvases import (
    Canvas,
    CanvasBank,
    SyntheticSource,
    TileSource,
    canvas_of,
)
from nucliseg_qp.training.clutter import with_smudges
from nucliseg_qp.training.data import LabelledImage, centroids, read_folder, resized
from nucliseg_qp.training.fit import FitSettings, fit
from nucliseg_qp.training.metrics import average_precision, match_points, score_points

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def array(*points: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(len(points), -1)


def dotted(side: int, points: NDArray[np.float64]) -> LabelledImage:
    """White image with a black 3 x 3 dot at each point."""
    image = np.full((side, side, 3), 255, np.uint8)
    for x, y in points.astype(int):
        image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 0
    return LabelledImage("dots.png", image, points)


# ---------------------------------------------------------------- metrics


def test_two_detections_of_one_nucleus_are_one_match_and_one_error() -> None:
    score = score_points(array((10, 10)), array((11, 10, 0.9), (10, 13, 0.8)), 5.0)
    assert (score.matched, score.missed, score.spurious) == (1, 0, 1)
    assert score.mean_error_px == 1.0
    assert score.f1 == pytest.approx(2 / 3)


def test_matching_pairs_as_many_as_possible_rather_than_the_nearest_first() -> None:
    # Nearest first would take (10, 11) and leave both others alone.
    pairs = match_points(array((10, 0), (14, 0)), array((11.5, 0), (7, 0)), 4.0)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0)]


def test_the_border_strip_neither_counts_nor_harms() -> None:
    truth, found = array((2, 50), (50, 50), (13, 80)), array((50, 51), (98, 20), (11, 80))
    score = score_points(truth, found, 5.0, size_px=(100, 100), border_px=12.0)
    assert (score.matched, score.missed, score.spurious) == (2, 0, 0)


def test_nothing_found_of_nothing_is_perfect_and_something_is_not() -> None:
    none = np.zeros((0, 3))
    assert score_points(none, none, 5.0).f1 == 1.0
    assert score_points(none, array((1, 1, 0.5)), 5.0).precision == 0.0
    assert score_points(array((1, 1)), none, 5.0).recall == 0.0


def test_average_precision_by_hand() -> None:
    truths = [array((10, 10), (30, 30)), array((5, 5))]
    founds = [array((10, 11, 0.9), (60, 60, 0.8)), array((5, 5, 0.7))]
    # Ranked: hit, miss, hit of 3 true ones: (1 + 2/3) / 3.
    assert average_precision(truths, founds, 4.0) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(truths, [np.zeros((0, 3))] * 2, 4.0) == 0.0


# ---------------------------------------------------------------- data


def write_folder(folder: Path, *, with_mask: bool) -> None:
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((20, 30, 3), (10, 20, 30), np.uint8))
    if with_mask:
        (folder / "masks").mkdir()
        mask = np.zeros((20, 30), np.uint16)
        mask[4:8, 10:20] = 300
        cv2.imwrite(str(folder / "masks" / "a.png"), mask)
    (folder / "points.json").write_text(json.dumps({"a.png": [[3.5, 4.5, None]]}))


@pytest.mark.parametrize(("with_mask", "point"), [(False, (3.5, 4.5)), (True, (15.0, 6.0))])
def test_a_folder_is_read_with_x_first_and_rgb(
    tmp_path: Path, with_mask: bool, point: tuple[float, float]
) -> None:
    write_folder(tmp_path / "set", with_mask=with_mask)
    (item,) = read_folder(tmp_path / "set")
    np.testing.assert_allclose(item.points, [point])
    assert item.image[0, 0].tolist() == [30, 20, 10]


def test_a_folder_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", with_mask=False)
    (tmp_path / "set" / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png"):
        read_folder(tmp_path / "set")
    with pytest.raises(InputError, match=r"points\.json"):
        read_folder(tmp_path)


def test_centroids_use_pixel_centres() -> None:
    labels = np.zeros((4, 6), np.int32)
    labels[0, 0] = 1
    labels[1:3, 2:6] = 2
    np.testing.assert_allclose(centroids(labels), [(0.5, 0.5), (4.0, 2.0)])


# ---------------------------------------------------------------- canvases and augmentation


def brightness_at(image: NDArray[np.uint8], points: NDArray[np.float32]) -> list[int]:
    side = image.shape[0]
    inside = [(int(x), int(y)) for x, y in points if 1 <= x < side - 1 and 1 <= y < side - 1]
    return [int(image[y - 1 : y + 2, x - 1 : x + 2].min()) for x, y in inside]


@pytest.mark.parametrize(("side", "factor"), [(64, 1.0), (200, 1.0), (64, 0.5), (64, 1.7)])
def test_points_stay_on_their_nuclei_when_an_image_is_mirrored_and_scaled(
    side: int, factor: float
) -> None:
    rng = np.random.default_rng(1)
    item = dotted(side, rng.uniform(5, side - 5, (6, 2)))
    for _ in range(5):
        canvas = canvas_of(item, factor, 96, 2.0, rng)
        assert canvas.rgbw.shape == (96, 96, 4)
        values = brightness_at(canvas.rgbw[..., :3], canvas.points)
        assert all(value < 160 for value in values)
        dark = cv2.connectedComponents((canvas.rgbw[6:-6, 6:-6, 0] < 60).astype(np.uint8))[0] - 1
        near = ((canvas.points > 3) & (canvas.points < 93)).all(axis=1)
        assert near.sum() >= dark


def test_augmentation_moves_points_with_their_nuclei() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(20, 140, (12, 2))
    item = dotted(160, points)
    rgbw = np.concatenate([item.image, np.full((160, 160, 1), 255, np.uint8)], axis=2)
    batch = torch.from_numpy(np.stack([rgbw] * 6)).permute(0, 3, 1, 2).float() / 255
    how = Augmentation(blur_share=0.0, noise=0.0, sharpen_share=0.0)
    given = [torch.from_numpy(points).float()] * 6
    images, moved, weight = augment(batch, given, 96, how, torch.Generator().manual_seed(3))
    assert images.shape == (6, 3, 96, 96)
    assert 0.0 <= float(images.min()) <= float(images.max()) <= 1.0
    inside = moved[((moved[:, 1:] > 2) & (moved[:, 1:] < 94)).all(dim=1)]
    assert len(inside) > 10
    dark = images.amax(dim=1)
    for index, x, y in inside.tolist():
        around = dark[int(index), int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
        assert float(around.min()) < 0.45
    assert set(weight.unique().tolist()) <= {0.0, 1.0}


def test_white_stays_white_however_the_stains_change() -> None:
    how = Augmentation(white=(1.0, 1.0))
    changed = change_stains(torch.ones(8, 3, 4, 4), how, torch.Generator().manual_seed(0))
    assert float(changed.min()) > 0.9


def test_smudges_only_darken_and_keep_clear_of_the_centres_of_nuclei() -> None:
    side, mpp = 200, 0.5
    points = np.random.default_rng(1).uniform(0, side, (60, 2)).astype(np.float32)
    glass = Canvas(np.full((side, side, 4), 255, np.uint8), points)
    smudged = with_smudges(glass, np.random.default_rng(0), mpp)
    assert (smudged.rgbw[..., :3].min(axis=2) < 250).any(), "nothing was drawn"
    assert (smudged.rgbw[..., 3] == 255).all()
    assert smudged.points is points, "a smudge must not become a label"
    column, row = points.astype(int).T
    assert smudged.rgbw[row, column, :3].min() >= 215, "a nucleus was hidden"


def test_equal_seeds_give_equal_canvases() -> None:
    banks = [CanvasBank({"s": (SyntheticSource(), 1.0)}, 64, 0.6, 3, seed=5) for _ in range(2)]
    for bank in banks:
        bank.fill(4)
    first, second = (bank.sample(3) for bank in banks)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.rgbw, b.rgbw)


def test_a_tile_of_known_width_lands_near_its_true_scale() -> None:
    item = LabelledImage("t", np.zeros((100, 100, 3), np.uint8), array((25.0, 50.0)))
    assert resized(item, 0.5).points.tolist() == [[12.5, 25.0]]
    canvas = TileSource([item], 50.0).draw(np.random.default_rng(0), 96, 0.5)
    gaps = np.diff(np.sort(np.unique(canvas.points[:, 0].round(2))))
    # Mirrored copies of x = 25 of 100 lie half a width apart, as 0.5 um/px and +-15 % zoom allow.
    assert 30 < gaps.max() < 80


# ---------------------------------------------------------------- fitting


def test_a_short_training_learns_and_its_checkpoint_comes_back(tmp_path: Path) -> None:
    settings = FitSettings(
        out=tmp_path,
        name="tiny",
        width=8,
        steps=60,
        seconds=60.0,
        batch_size=4,
        crop_px=96,
        canvas_px=128,
        bank_size=4,
        workers=0,
        bfloat16=False,
        learning_rate=1e-2,
        seed=1,
    )
    model = load_model(fit(settings))
    assert model.info.metrics["train_steps"] == 60
    assert model.info.metrics["loss_last"] < 0.7 * model.info.metrics["loss_first"]
    assert model.info.metrics["synthetic_f1"] > 0.3
    assert model.info.trained_on == ("synthetic H-DAB fields of this program",)


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="glioma"):
        fit(FitSettings(out=tmp_path, shares={"glioma": 1.0}))
