"""Pseudo-labels: what a model is sure of in images that nobody annotated (Lee, ICML 2013 workshop).

The rule: the image is looked at in eight ways, turned and mirrored. A nucleus is labelled when it
is found in at least `AGREE` of them with a mean score of at least `sure`. Where the model saw
something but is not sure, the pixels around do not count in training, neither for nor against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import CalibrationError, InputError, UsageError
from nucliseg_qp.images.calibration import MAX_MPP, MIN_MPP
from nucliseg_qp.images.resample import read_grid
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.metrics import match_points
from nucliseg_qp.training.sources import IMAGE_SUFFIXES
from nucliseg_qp.training.validate import detect_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.keypoints.runtime import Device

    Floats = NDArray[np.float64]

__all__ = ["AGREE", "Confidence", "pseudo_folder", "pseudo_labels"]

AGREE = 0.75
"""Share of the views in which a sure nucleus must be found."""

_MATCH_UM = 2.0
_DOUBT_UM = 5.0
_TILE_PX = 512


@dataclass(frozen=True)
class Confidence:
    """When a found nucleus becomes a label.

    Attributes
    ----------
    sure : float or None
        Smallest mean score of a label; None takes the middle between the model's threshold and 1.
    doubtful : float
        Points with a smaller score are taken for background.
    """

    sure: float | None = None
    doubtful: float = 0.1


def pseudo_labels(
    model: KeypointModel,
    image: NDArray[np.uint8],
    name: str = "",
    how: Confidence | None = None,
    device: Device | None = None,
) -> LabelledImage:
    """Label one image.

    Parameters
    ----------
    model : KeypointModel
        The teacher.
    image : NDArray[np.uint8]
        RGB (h, w, 3) at the model's um per pixel.
    name : str
        Of the image.
    how : Confidence, optional
        The rule.
    device : Device, optional
        Where to run; the CPU or the first GPU when not given.

    Returns
    -------
    LabelledImage
        With the sure nuclei, and not trusted within 5 um of the doubtful ones.
    """
    how = how or Confidence()
    sure = (1 + model.info.threshold) / 2 if how.sure is None else how.sure
    runner = KeypointRunner(model, device or pick_device(), threshold=how.doubtful)
    seen = _tracked(_views(runner, image), _MATCH_UM / model.info.mpp)
    certain = (seen[:, 3] >= AGREE) & (seen[:, 2] >= sure)
    trusted = _apart(image.shape[:2], seen[~certain, :2], _DOUBT_UM / model.info.mpp)
    # A doubtful point right beside a sure one must not take the sure one's label away.
    trusted |= ~_apart(image.shape[:2], seen[certain, :2], _MATCH_UM / model.info.mpp)
    return LabelledImage(name, image, seen[certain, :2], mpp=model.info.mpp, trusted=trusted)


def _views(runner: KeypointRunner, image: NDArray[np.uint8]) -> list[Floats]:
    """Detect in all eight orientations, with the points turned back."""
    height, width = image.shape[:2]
    views = []
    for turns in range(4):
        for mirrored in (False, True):
            view = np.rot90(image[:, ::-1] if mirrored else image, turns)
            found = detect_whole(runner, np.ascontiguousarray(view))
            xy = _turned_back(found[:, :2], turns, (width, height))
            if mirrored:
                xy[:, 0] = width - xy[:, 0]
            views.append(np.concatenate([xy, found[:, 2:]], axis=1))
    return views


def _turned_back(xy: Floats, turns: int, size_px: tuple[int, int]) -> Floats:
    """Undo counterclockwise quarter turns of an image of this width and height."""
    width, height = size_px
    sizes = [(width, height) if turn % 2 == 0 else (height, width) for turn in range(turns)]
    for before_width, _ in reversed(sizes):
        xy = np.stack([before_width - xy[:, 1], xy[:, 0]], axis=1)
    return xy.copy()


def _tracked(views: list[Floats], radius_px: float) -> Floats:
    """Join what the views found: (k, 4) mean x, mean y, mean score (0 where unseen), share."""
    sums = np.zeros((0, 4))
    for found in views:
        centres = sums[:, :2] / np.maximum(sums[:, 3:], 1)
        pairs = match_points(centres, found, radius_px)
        sums[pairs[:, 0], :3] += found[pairs[:, 1]]
        sums[pairs[:, 0], 3] += 1
        fresh = np.delete(found, pairs[:, 1], axis=0)
        sums = np.concatenate([sums, np.pad(fresh, ((0, 0), (0, 1)), constant_values=1.0)])
    count = sums[:, 3:]
    return np.concatenate([sums[:, :2] / count, sums[:, 2:] / len(views)], axis=1)


def _apart(shape: tuple[int, ...], points: Floats, radius_px: float) -> NDArray[np.bool_]:
    """Tell for each pixel whether it is farther than the radius from all points."""
    import cv2

    free = np.ones((shape[0], shape[1]), np.uint8)
    for x, y in points:
        centre = round((x - 0.5) * 16), round((y - 0.5) * 16)
        cv2.circle(free, centre, round(radius_px * 16), 0, -1, shift=4)
    return free > 0


def pseudo_folder(
    model: KeypointModel, folder: Path, width_um: float = 0.0, how: Confidence | None = None
) -> list[LabelledImage]:
    """Label an image, or all images of a folder, in pieces of 512 px at the model's resolution.

    Parameters
    ----------
    model : KeypointModel
        The teacher.
    folder : Path
        Of images, or one image.
    width_um : float
        Width of each image in um; 0 where they state their pixel size themselves.
    how : Confidence, optional
        The rule.

    Raises
    ------
    InputError
        When the folder holds no image, or one is broken.
    CalibrationError
        When one has no pixel size and no width was given.
    UsageError
        When the width gives pixels in which no nuclei can be seen.
    """
    paths = [folder] if folder.is_file() else sorted(folder.glob("*"))
    files = [path for path in paths if path.name.lower().endswith(IMAGE_SUFFIXES)]
    if not files:
        raise InputError(f"{folder} holds no image", "Name a folder of images")
    device = pick_device()
    return [
        pseudo_labels(model, piece, file.name, how, device)
        for file in files
        for piece in _pieces(file, width_um, model.info.mpp)
    ]


def _given_mpp(file: Path, width_um: float) -> float | None:
    """Give um per pixel by the width that was told; None where the file states its own."""
    with open_slide(file, require_mpp=False) as slide:
        width_px, stated = slide.dimensions[0], slide.mpp
    if not width_um and stated is None:
        raise CalibrationError(
            f"{file} states no pixel size that can be used",
            "Give the width of the images in um with --unlabelled-um",
        )
    mpp = width_um / width_px
    if width_um and not MIN_MPP <= mpp <= MAX_MPP:
        raise UsageError(
            f"--unlabelled-um {width_um:g} makes pixels of {mpp:.3g} um of {file}",
            f"Give the width of each image in um; pixels may have {MIN_MPP:g} to {MAX_MPP:g} um",
        )
    return mpp or None


def _pieces(file: Path, width_um: float, mpp: float) -> list[NDArray[np.uint8]]:
    with open_slide(file, _given_mpp(file, width_um)) as slide:
        own = slide.mpp.mpp if slide.mpp else mpp
        width, height = (max(1, round(length * own / mpp)) for length in slide.dimensions)
        return [
            read_grid(slide, mpp / own, x, y, min(_TILE_PX, width - x), min(_TILE_PX, height - y))
            for y in range(0, height, _TILE_PX)
            for x in range(0, width, _TILE_PX)
            if min(width - x, height - y) >= 64 or (x, y) == (0, 0)
        ]
