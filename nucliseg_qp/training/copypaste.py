"""Copy-paste: nuclei of annotated images onto empty places of others (Ghiasi et al., CVPR 2021).

Stain absorbs: what a donor nucleus adds to the optical density of its surroundings is added to the
density of the place it goes to, so background and noise of the canvas stay. That needs no mask,
only points: the added density fades out towards the neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.training.canvases import Canvas, CanvasSource
    from nucliseg_qp.training.data import LabelledImage

    F32 = NDArray[np.float32]

__all__ = ["CopyPasteSource", "empty_places", "nucleus_density", "paste_nuclei"]

_RADIUS_UM = 6.0
_SPACING_UM = 9.0
_PALE_OD = 0.12
_TRIES = 400
_MOST = 40
_WEAKEST_OD = 0.06


@dataclass(frozen=True)
class CopyPasteSource:
    """Canvases of another source, some with further nuclei.

    Parameters
    ----------
    base
        Draws the canvases.
    donors
        Annotated images with a known pixel size, whose nuclei are taken.
    share
        Share of the canvases that get any.
    """

    base: CanvasSource
    donors: Sequence[LabelledImage]
    share: float

    def draw(self, rng: np.random.Generator, side_px: int, mpp: float) -> Canvas:
        """Draw a canvas and perhaps paste nuclei onto its empty places."""
        canvas = self.base.draw(rng, side_px, mpp)
        if not self.donors or rng.random() >= self.share:
            return canvas
        donor = self.donors[int(rng.integers(len(self.donors)))]
        count = int(rng.integers(1, _MOST + 1))
        return paste_nuclei(canvas, donor, count, mpp, rng)


def paste_nuclei(
    canvas: Canvas, donor: LabelledImage, count: int, mpp: float, rng: np.random.Generator
) -> Canvas:
    """Paste up to `count` nuclei of one image where the canvas is pale and far from its own.

    Parameters
    ----------
    canvas
        Stays as it is; a changed copy is returned.
    donor
        Its pixel size is taken to be that of the canvas when it is unknown.
    count
        Of nuclei; fewer when there is no room.
    mpp
        um per pixel of the canvas.
    """
    from nucliseg_qp.training.data import resized

    scaled = resized(donor, (donor.mpp or mpp) / mpp)
    places = empty_places(canvas, count, mpp, rng)
    if not len(scaled.points):
        return canvas
    chosen = rng.integers(0, len(scaled.points), len(places))
    density = _density(canvas.rgbw[..., :3])
    pasted = []
    for place, index in zip(places, chosen, strict=True):
        patch = nucleus_density(scaled, int(index), mpp)
        if patch is None:
            continue
        turned = np.rot90(patch, int(rng.integers(4)))
        _add(density, turned[:, ::-1] if rng.random() < 0.5 else turned, place)
        pasted.append(place.astype(float) + 0.5)
    if not pasted:
        return canvas
    rgbw = canvas.rgbw.copy()
    rgbw[..., :3] = np.round(255 * np.exp(-density)).clip(0, 255)
    points = np.concatenate([canvas.points, np.array(pasted, np.float32)])
    return replace(canvas, rgbw=rgbw, points=points)


def empty_places(
    canvas: Canvas, count: int, mpp: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose up to `count` pixels (k, 2), x first, pale and trusted, apart from all nuclei."""
    from scipy.ndimage import uniform_filter
    from scipy.spatial import cKDTree

    side, spacing = canvas.rgbw.shape[0], _SPACING_UM / mpp
    reach = max(1, round(_RADIUS_UM / mpp))
    grey = _density(canvas.rgbw[..., :3]).mean(axis=2)
    pale = uniform_filter(grey, 2 * (reach // 2) + 1) < _PALE_OD * np.log(10)
    trusted = canvas.rgbw[..., 3] == 255
    tries = rng.integers(reach, max(reach + 1, side - reach), (_TRIES, 2))
    tries = tries[(pale & trusted)[tries[:, 1], tries[:, 0]]]
    if len(canvas.points) and len(tries):
        tries = tries[cKDTree(canvas.points).query(tries)[0] > spacing]
    kept: list[NDArray[np.int64]] = []
    for place in tries:
        if len(kept) == count:
            break
        if all(np.hypot(*(place - other)) > spacing for other in kept):
            kept.append(place)
    return np.array(kept, np.int64).reshape(-1, 2)


def nucleus_density(item: LabelledImage, index: int, mpp: float) -> F32 | None:
    """Give what one nucleus adds to the density around it.

    Returns
    -------
    NDArray[np.float32] or None
        (2 r + 1, 2 r + 1, 3), natural logarithm, fading to 0 at the border and towards the
        neighbours; None when the nucleus is cut by the image's border or hardly stained.
    """
    reach = max(2, round(_RADIUS_UM / mpp))
    x, y = np.floor(item.points[index]).astype(int)
    height, width = item.image.shape[:2]
    if not (reach <= x < width - reach and reach <= y < height - reach):
        return None
    window = item.image[y - reach : y + reach + 1, x - reach : x + reach + 1]
    density = _density(window)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(rows, columns)
    ring = (distance > 0.8 * reach) & (distance <= reach)
    added = np.maximum(density - np.quantile(density[ring], 0.3, axis=0), 0.0)
    weight = np.clip((reach - distance) / (0.35 * reach), 0.0, 1.0)
    added = (
        added * (weight * _own_share(item.points - item.points[index], rows, columns))[..., None]
    )
    if added[distance < 0.4 * reach].mean() < _WEAKEST_OD * np.log(10):
        return None
    return np.asarray(added, np.float32)


def _own_share(
    others: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fade out where a neighbour is nearer than this nucleus, over 1.5 px."""
    near = others[(np.abs(others) < 2 * rows.max() + 2).all(axis=1)]
    gaps = [np.hypot(columns - x, rows - y) for x, y in near if abs(x) + abs(y) > 1e-6]
    if not gaps:
        return np.ones(rows.shape)
    own = np.hypot(rows, columns)
    return np.asarray(np.clip((np.min(gaps, axis=0) - own) / 3.0 + 0.5, 0.0, 1.0))


def _density(image: NDArray[np.uint8]) -> F32:
    return np.asarray(-np.log(np.maximum(image, 1).astype(np.float32) / 255.0), np.float32)


def _add(density: F32, patch: F32, place: NDArray[np.int64]) -> None:
    reach = patch.shape[0] // 2
    x, y = int(place[0]), int(place[1])
    density[y - reach : y + reach + 1, x - reach : x + reach + 1] += patch
