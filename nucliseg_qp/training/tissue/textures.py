"""Periodic noise textures, made once per resolution and read anywhere in a slide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Textures:
    """Periodic float32 textures of one pixel size.

    All but `walls` have zero mean and unit variance; `walls` is 1 on the borders
    of a foam of cells about 9 um wide and 0 inside them. `fibres` run at 0, 45,
    90 and 135 degrees.
    """

    chromatin: F32
    outline: F32
    grain: F32
    cloud: F32
    fibres: tuple[F32, ...]
    walls: F32


def textures(mpp: float) -> Textures:
    """Return the textures for pixels of about `mpp` um; always the same for one `mpp`.

    Sizes are kept in steps of the square root of 2, so that many pixel sizes share few textures.
    """
    return _made(round(2 * float(np.log2(mpp))))


@lru_cache(maxsize=12)
def _made(step: int) -> Textures:
    px_per_um = 2.0 ** (-step / 2)
    rng = np.random.default_rng(20240607)
    # Sides without a common factor, so that the sum of two textures does not visibly repeat.
    return Textures(
        chromatin=_noise(rng, 512, 0.42 * px_per_um, 0.42 * px_per_um, 0.0),
        outline=_outline(rng, px_per_um),
        grain=_noise(rng, 625, 0.5 * px_per_um, 0.5 * px_per_um, 0.0),
        cloud=_noise(rng, 675, 5.0 * px_per_um, 5.0 * px_per_um, 0.0),
        fibres=tuple(_fibre(rng, px_per_um, k * np.pi / 4) for k in range(4)),
        walls=_foam(rng, px_per_um),
    )


@lru_cache(maxsize=1)
def white_noise() -> F32:
    """Return (509, 509, 3) float32 of independent standard normal values."""
    return np.random.default_rng(20240608).standard_normal((509, 509, 3), dtype=np.float32)


def window(texture: F32, x_px: int, y_px: int, width_px: int, height_px: int) -> F32:
    """Return the (height, width, ...) part of an endlessly repeated texture."""
    rows = np.arange(y_px, y_px + height_px) % texture.shape[0]
    columns = np.arange(x_px, x_px + width_px) % texture.shape[1]
    return np.asarray(np.take(np.take(texture, rows, axis=0), columns, axis=1), np.float32)


def _noise(
    rng: np.random.Generator, side_px: int, long_px: float, short_px: float, angle: float
) -> F32:
    """Filter white noise by an oriented Gaussian in the Fourier domain."""
    fx = np.fft.rfftfreq(side_px)[None, :]
    fy = np.fft.fftfreq(side_px)[:, None]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    gain = np.exp(-2 * np.pi**2 * ((along * long_px) ** 2 + (across * short_px) ** 2))
    gain[0, 0] = 0.0
    spectrum = np.fft.rfft2(rng.standard_normal((side_px, side_px))) * gain
    field = np.fft.irfft2(spectrum, s=(side_px, side_px))
    return np.asarray(field / field.std(), dtype=np.float32)


def _outline(rng: np.random.Generator, px_per_um: float) -> F32:
    """Broad dents and fine raggedness of nuclear outlines."""
    dents = _noise(rng, 512, 2.6 * px_per_um, 2.6 * px_per_um, 0.0)
    ragged = _noise(rng, 512, 0.9 * px_per_um, 0.9 * px_per_um, 0.0)
    return np.asarray(0.97 * dents + 0.22 * ragged, np.float32)


def _fibre(rng: np.random.Generator, px_per_um: float, angle: float) -> F32:
    """Fine fibres over broad bundles, bent so that no line stays straight."""
    side_px = 600
    fine = _noise(rng, side_px, 4.0 * px_per_um, 0.5 * px_per_um, angle)
    broad = _noise(rng, side_px, 9.0 * px_per_um, 1.6 * px_per_um, angle)
    bend = 4.5 * px_per_um
    shift = [_noise(rng, side_px, 9.0 * px_per_um, 9.0 * px_per_um, 0.0) * bend for _ in "xy"]
    return _displaced(0.6 * fine + 0.8 * broad, *shift)


def _displaced(texture: F32, shift_x: F32, shift_y: F32) -> F32:
    """Read a periodic texture at shifted places."""
    side_px = texture.shape[0]
    rows, columns = np.indices(texture.shape, dtype=np.float32)
    padded = np.pad(texture, ((0, 1), (0, 1)), mode="wrap")
    x, y = np.mod(columns + shift_x, side_px), np.mod(rows + shift_y, side_px)
    return np.asarray(cv2.remap(padded, x, y, cv2.INTER_LINEAR), np.float32)


def _foam(rng: np.random.Generator, px_per_um: float) -> F32:
    """Walls between the cells of a periodic Voronoi diagram (Worley noise, F2 - F1)."""
    side_px, cell_px = 648, 9.0 * px_per_um
    count = max(int((side_px / cell_px) ** 2), 6)
    tree = cKDTree(rng.uniform(0, side_px, (count, 2)), boxsize=side_px)
    coarse_px = np.linspace(0, side_px, 217)[:-1]
    places = np.stack(np.meshgrid(coarse_px, coarse_px, indexing="ij"), axis=-1).reshape(-1, 2)
    nearest, _ = tree.query(places, k=2)
    gap = (nearest[:, 1] - nearest[:, 0]).reshape(216, 216).astype(np.float32)
    wide = np.pad(gap, ((0, 1), (0, 1)), mode="wrap")
    gap = np.asarray(cv2.resize(wide, (side_px + 2, side_px + 2)), np.float32)[1:-1, 1:-1]
    bend = 1.6 * px_per_um
    shift = [_noise(rng, side_px, 2.5 * px_per_um, 2.5 * px_per_um, 0.0) * bend for _ in "xy"]
    return np.asarray(
        np.exp(-((_displaced(gap, *shift) / np.float32(max(1.5 * px_per_um, 1.0))) ** 2)),
        np.float32,
    )
