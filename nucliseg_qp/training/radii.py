"""Teach a network how far nuclei reach, once it finds them.

Only `RadiiHead` learns, from features that stay as they are: what the network finds does not
change by it. The truth comes from masks, so from sources that have them.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from nucliseg_qp.geometry import RAYS
from nucliseg_qp.training.augment import Augmentation, Views, change_stains, degrade
from nucliseg_qp.training.canvases import CanvasBank
from nucliseg_qp.training.lightning import one_cycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from nucliseg_qp.keypoints.model import KeypointModel
    from nucliseg_qp.training.canvases import Canvas, CanvasSource

__all__ = ["RadiiSettings", "fit_radii", "radial_distances"]

logger = logging.getLogger(__name__)

_LONGEST_PX = 20.0
_STEP_PX = 0.5
_OFF_PX = 0.8
"""Keypoints are found about this far off; those learnt from are, too."""
_SMOOTH = 0.1
_REPORT_STEPS = 250


@dataclass(frozen=True)
class RadiiSettings:
    """How long and on what.

    Attributes
    ----------
    steps, batch_size, crop_px, canvas_px, bank_size, augmentation
        As in `FitSettings`.
    learning_rate
        At the top of the cycle.
    seed
        Of everything random.
    """

    steps: int = 3000
    batch_size: int = 12
    crop_px: int = 224
    canvas_px: int = 416
    bank_size: int = 200
    learning_rate: float = 2e-3
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class _Lesson:
    """Images (n, 3, side, side) uint8, keypoints of them, and the log radii (k, 16) wanted."""

    images: Tensor
    owner: Tensor
    x: Tensor
    y: Tensor
    log_radii: Tensor


def fit_radii(
    model: KeypointModel,
    sources: dict[str, tuple[CanvasSource, float]],
    how: RadiiSettings,
    tell: Callable[[int, float], None] | None = None,
) -> KeypointModel:
    """Give the model with radii that were learnt, from where they were.

    Parameters
    ----------
    model : KeypointModel
        A trained one.
    sources : dict
        Source and share by name; canvases without masks teach nothing.
    how : RadiiSettings
        How long and on what.
    tell : callable, optional
        Gets the step and its loss.
    """
    net = copy.deepcopy(model.net)
    head = net.radii.requires_grad_(True).train()
    folded = model.net.folded()
    optimiser = torch.optim.AdamW(head.parameters(), how.learning_rate, weight_decay=1e-4)
    losses: list[float] = []
    for lesson in _lessons(sources, model.info.mpp, how):
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(len(losses) / how.steps, how.learning_rate)
        with torch.no_grad():
            features = folded.maps(_normalised(lesson.images, model))[1]
        found = head(features, lesson.owner, lesson.x, lesson.y).log()
        loss = functional.smooth_l1_loss(found, lesson.log_radii, beta=_SMOOTH)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        if tell is not None:
            tell(len(losses), losses[-1])
        if len(losses) % _REPORT_STEPS == 0:
            logger.info("radii: step %d, loss %.4f", len(losses), np.mean(losses[-_REPORT_STEPS:]))
    return replace(model, net=net.eval().requires_grad_(False))


def _normalised(images: Tensor, model: KeypointModel) -> Tensor:
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (model.info.mean, model.info.std))
    x = (images.float() / 255 - mean) / std
    return x.contiguous(memory_format=torch.channels_last)


def _lessons(
    sources: dict[str, tuple[CanvasSource, float]], mpp: float, how: RadiiSettings
) -> Iterator[_Lesson]:
    bank = CanvasBank(sources, how.canvas_px, mpp, how.bank_size, how.seed)
    bank.fill(4)
    rng, jitter = torch.Generator().manual_seed(how.seed), np.random.default_rng(how.seed)
    for _ in range(how.steps):
        bank.renew()
        lesson = _lesson(bank.sample(how.batch_size), how, rng, jitter)
        if len(lesson.owner):
            yield lesson


def _lesson(
    canvases: Sequence[Canvas],
    how: RadiiSettings,
    rng: torch.Generator,
    jitter: np.random.Generator,
) -> _Lesson:
    rgbw = torch.from_numpy(np.stack([canvas.rgbw for canvas in canvases]))
    masks = torch.from_numpy(np.stack([_labels(canvas) for canvas in canvases]))
    views = Views.random(len(rgbw), rgbw.shape[1], how.crop_px, how.augmentation, rng)
    crops = views.cut_rgbw(rgbw.permute(0, 3, 1, 2).float() / 255)
    images = degrade(change_stains(crops[:, :3], how.augmentation, rng), how.augmentation, rng)
    labels = views.cut(masks[:, None].float(), "nearest").numpy().astype(np.int32)[:, 0]
    trusted = (crops[:, 3] > 0.99).numpy()
    rows = views.move([torch.from_numpy(canvas.points) for canvas in canvases]).numpy()
    xy = rows[:, 1:] + jitter.normal(0.0, _OFF_PX, (len(rows), 2))
    # Points come canvas by canvas.
    wanted = np.concatenate(
        [
            radial_distances(labels[index], xy[rows[:, 0] == index], trusted[index])
            for index in range(len(canvases))
        ]
    )
    known = np.isfinite(wanted).all(axis=1)
    owner, x, y = (torch.from_numpy(column[known]) for column in (rows[:, 0], *xy.T))
    log_radii = torch.from_numpy(np.log(wanted[known])).float()
    return _Lesson((images * 255).round().byte(), owner.long(), x.float(), y.float(), log_radii)


def _labels(canvas: Canvas) -> NDArray[np.int32]:
    if canvas.labels is None:
        return np.zeros(canvas.rgbw.shape[:2], np.int32)
    return canvas.labels


def radial_distances(
    labels: NDArray[np.int32],
    xy: NDArray[np.float64],
    trusted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Give how far the label under each point reaches, (k, 16) in px; NaN where that is unknown.

    The last pixel of the label counts, whatever lies before it, so that a notch or a nucleus
    above makes no border. Unknown are nuclei that the image cuts, and those that reach into or
    beyond what is not trusted: there may be a mirrored twin of the same label.

    Parameters
    ----------
    labels : ndarray of int32, shape (h, w)
        0 is background.
    xy : ndarray, shape (k, 2)
        Points in pixels.
    trusted : ndarray of bool, shape (h, w), optional
        Where the labels count; everywhere when left out.
    """
    height, width = labels.shape
    turn = np.arange(RAYS) * (2 * np.pi / RAYS)
    steps = np.arange(_STEP_PX, _LONGEST_PX, _STEP_PX)
    x = xy[:, 0, None, None] + np.cos(turn)[:, None] * steps
    y = xy[:, 1, None, None] + np.sin(turn)[:, None] * steps
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    own = _at(labels, xy[:, 0], xy[:, 1])
    own = np.where((xy >= 0).all(axis=1) & (xy < (width, height)).all(axis=1), own, 0)
    same = (_at(labels, x, y) == own[:, None, None]) & inside
    radii = np.where(same, steps, _STEP_PX).max(axis=2)
    # The pixel where a ray leaves the image still belongs to the nucleus.
    unknown = (same[:, :, :-1] & ~inside[:, :, 1:]).any(axis=2) | ~inside[:, :, 0]
    if trusted is not None:
        doubtful = ~_at(trusted, x, y) & (steps <= radii[:, :, None])
        unknown |= doubtful.any(axis=2)
    radii[unknown.any(axis=1) | (own == 0)] = np.nan
    return np.asarray(radii, np.float64)


def _at(values: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[Any]:
    height, width = values.shape
    row = np.floor(y).astype(int).clip(0, height - 1)
    column = np.floor(x).astype(int).clip(0, width - 1)
    return np.asarray(values[row, column])
