"""Real nuclei of other stainings, turned into H-DAB through Beer-Lambert.

The intensity of a fluorescent nucleus, or the optical density of a purple one,
is taken as the concentration of stain, so that real outlines, crowding and
chromatin reach the training set with exact masks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nucliseg_qp.training.synthetic import Field, compressed, uneven
from nucliseg_qp.training.tissue.background import Window, background
from nucliseg_qp.training.tissue.layout import draw_grades
from nucliseg_qp.training.tissue.paint import expose, photograph
from nucliseg_qp.training.tissue.scene import plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.looks import Look
    from nucliseg_qp.training.tissue.textures import F32

# Mean nuclear diameters of tissue, from which the pixel size of a picture without one is taken.
_TYPICAL_DIAMETER_UM = (7.5, 10.5)


@dataclass(frozen=True)
class _Truth:
    """Nuclei of a label image, numbered from 1 without gaps."""

    labels: NDArray[np.int32]
    area_px: NDArray[np.float64]
    points: NDArray[np.float64]
    classes: NDArray[np.int8]
    dab_od: NDArray[np.float64]


def fluorescence_to_hdab(
    intensity: NDArray[np.generic],
    labels: NDArray[np.integer],
    seed: int | np.random.Generator,
    look: Look,
) -> Field:
    """Turn fluorescent nuclei into an H-DAB field over synthetic stroma.

    Parameters
    ----------
    intensity
        (h, w) of any number type, bright nuclei on a dark ground.
    labels
        (h, w) instance labels, 0 background.
    seed
        A number or a generator; equal ones give equal fields.
    look
        Staining, background and camera; its nuclear shapes are not used.

    Returns
    -------
    Field
        `points` are centroids of the given masks. `mpp` is a guess that makes
        the median nucleus 7.5 to 10.5 um wide.

    Raises
    ------
    ValueError
        When the two arrays are not two-dimensional and of one shape.
    """
    _check(intensity, labels)
    rng = np.random.default_rng(seed)
    truth = _truth(rng, labels, look)
    mpp = _guess_mpp(rng, truth)
    scene = plan(rng, labels.shape[1] * mpp, labels.shape[0] * mpp, _empty(look))
    view = Window(0, 0, labels.shape[1], labels.shape[0], mpp)
    haematoxylin, dab = background(scene, view)
    cover = _soft(truth.labels > 0, 0.7)
    relief = _relief(intensity.astype(np.float32), truth)
    around = _soft(truth.labels > 0, 3.0 / mpp)
    stain = _per_nucleus(rng.uniform(*look.haematoxylin_od, len(truth.area_px)), truth)
    haematoxylin = (haematoxylin + around * look.cytoplasm_od) * (1 - 0.7 * cover)
    dab = (dab + around * look.cytoplasm_dab_od) * (1 - 0.7 * cover)
    haematoxylin += relief * cover * stain * _under(truth, look)
    dab += relief * cover * _per_nucleus(truth.dab_od, truth)
    return _finish(rng, haematoxylin, dab, truth, look, mpp)


def recolour_haematoxylin(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    seed: int | np.random.Generator,
    look: Look,
) -> Field:
    """Turn purple, H&E-like tissue into an H-DAB field; some nuclei become positive.

    Parameters
    ----------
    image
        (h, w, 3) uint8 RGB.
    labels
        (h, w) instance labels, 0 background.
    seed, look
        As in `fluorescence_to_hdab`.

    Raises
    ------
    ValueError
        When image and labels do not fit together.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (h, w, 3), got {image.shape}")
    density = _density(image)
    _check(density, labels)
    rng = np.random.default_rng(seed)
    truth = _truth(rng, labels, look)
    mpp = _guess_mpp(rng, truth)
    amount = _rescaled(density, truth, float(rng.uniform(*look.haematoxylin_od)), look)
    cover = _soft(truth.labels > 0, 0.7)
    dab_target = _per_nucleus(truth.dab_od, truth)
    haze = np.float32(look.stroma_dab_od) * np.clip(amount / max(look.stroma_od, 0.02), 0.0, 2.0)
    dab = _relief(density, truth) * cover * dab_target + haze * (1 - cover)
    under = 1.0 - cover * (1.0 - _under(truth, look))
    return _finish(
        rng, (amount * under).astype(np.float32), dab.astype(np.float32), truth, look, mpp
    )


def _check(intensity: NDArray[np.generic], labels: NDArray[np.integer]) -> None:
    if intensity.ndim != 2 or labels.shape != intensity.shape:
        raise ValueError(f"image {intensity.shape} and labels {labels.shape} must be one (h, w)")


def _empty(look: Look) -> Look:
    return replace(look, density_per_mm2=0.0, glands_per_mm2=0.0, holes=0.0)


def _truth(rng: np.random.Generator, labels: NDArray[np.integer], look: Look) -> _Truth:
    found, flat = np.unique(labels, return_inverse=True)
    shift = 0 if found[0] == 0 else 1
    numbered = flat.reshape(labels.shape).astype(np.int32) + np.int32(shift)
    count = int(numbered.max())
    ys, xs = np.indices(labels.shape)
    area = np.bincount(numbered.ravel(), minlength=count + 1)[1:].astype(np.float64)
    sum_x = np.bincount(numbered.ravel(), xs.ravel(), minlength=count + 1)[1:]
    sum_y = np.bincount(numbered.ravel(), ys.ravel(), minlength=count + 1)[1:]
    classes, dab_od = draw_grades(rng, count, look)
    points = np.stack((sum_x, sum_y), axis=1) / np.maximum(area, 1)[:, None] + 0.5
    return _Truth(numbered, area, points, classes, dab_od)


def _guess_mpp(rng: np.random.Generator, truth: _Truth) -> float:
    typical_um = rng.uniform(*_TYPICAL_DIAMETER_UM)
    if len(truth.area_px) == 0:
        return 0.5
    diameter_px = 2 * np.sqrt(np.median(truth.area_px) / np.pi)
    return float(np.clip(typical_um / diameter_px, 0.08, 1.5))


def _soft(mask: NDArray[np.bool_], sigma_px: float) -> F32:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma_px), np.float32)


def _per_nucleus(values: NDArray[np.float64], truth: _Truth) -> F32:
    """Spread one value per nucleus over its pixels and a little beyond its edge."""
    table = np.concatenate(((0.0,), values)).astype(np.float32)
    grown = np.asarray(cv2.dilate(table[truth.labels], np.ones((3, 3), np.uint8)), np.float32)
    return np.where(truth.labels > 0, table[truth.labels], grown)


def _relief(values: F32, truth: _Truth) -> F32:
    """Return the values divided by the mean of their nucleus, at most 2.5.

    Just outside a mask the nucleus's mean still counts, so that a mask drawn too
    wide leaves no coloured ring.
    """
    count = len(truth.area_px)
    if count == 0:
        return np.ones_like(values)
    total = np.bincount(truth.labels.ravel(), values.ravel(), minlength=count + 1)[1:]
    mean = np.maximum(total / np.maximum(truth.area_px, 1), 1e-6)
    return np.clip(values / np.maximum(_per_nucleus(mean, truth), 1e-6), 0.0, 2.5)


def _under(truth: _Truth, look: Look) -> F32:
    """Return the share of haematoxylin that each pixel keeps beneath DAB."""
    share = np.where(truth.classes > 0, look.haematoxylin_under_dab, 1.0)
    return np.concatenate(((1.0,), share)).astype(np.float32)[truth.labels]


def _density(image: NDArray[np.uint8]) -> F32:
    """Return the mean optical density over the channels, against the image's own white."""
    white = np.maximum(np.percentile(image.reshape(-1, 3), 99, axis=0), 1.0)
    share = np.clip(image.astype(np.float32) / white.astype(np.float32), 1 / 255, 1.0)
    return np.asarray(-np.log10(share).mean(axis=2), np.float32)


def _rescaled(density: F32, truth: _Truth, target_od: float, look: Look) -> F32:
    """Bring nuclei to `target_od` and the ground between them near the look's stroma."""
    inside = truth.labels > 0
    if not inside.any() or inside.all():
        return density
    ground = float(np.median(density[~inside]))
    nuclei = max(float(density[inside].mean()), ground + 0.05)
    slope = (target_od - look.stroma_od) / (nuclei - ground)
    return np.asarray(np.maximum((density - ground) * slope + look.stroma_od, 0.0), np.float32)


def _finish(
    rng: np.random.Generator, haematoxylin: F32, dab: F32, truth: _Truth, look: Look, mpp: float
) -> Field:
    size_px = (haematoxylin.shape[1], haematoxylin.shape[0])
    light = expose(haematoxylin, dab, look)
    light *= uneven(rng, size_px, look.uneven_light)
    at = (int(rng.integers(0, 4096)), int(rng.integers(0, 4096)))
    # These pictures carry their own optical blur already.
    image = photograph(light, replace(look, blur_um=look.blur_um / 2), mpp, *at)
    return Field(
        image=compressed(image, look.jpeg_quality),
        labels=truth.labels,
        points=truth.points,
        classes=truth.classes,
        dab_od=truth.dab_od.astype(np.float32),
        mpp=mpp,
    )
