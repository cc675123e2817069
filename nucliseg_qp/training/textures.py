"""Periodic noise textures, made once per resolution and read anywhere in a slide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Textures:
    """Zero-mean, unit-variance periodic float32 textures of one pixel size."""

    chromatin: F32
    outline: F32
    grain: F32
    cloud: F32
    fibres: tuple[F32, ...]
    white: F32


def textures(mpp: float) -> Textures:
    """Return the textures for pixels of about `mpp` um; always the same for one `mpp`.

    Sizes are kept in steps of the square root of 2, so that many pixel sizes share few textures.
    """
    return _made(round(2 * float(np.log2(mpp))))


@lru_cache(maxsize=12)
def _made(step: int) -> Textures:
    mpp = 2.0 ** (step / 2)
    rng = np.random.default_rng(20240607)
    angles = np.arange(4) * (np.pi / 4)
    return Textures(
        chromatin=_noise(rng, 512, 0.42 / mpp, 0.42 / mpp, 0.0),
        outline=_noise(rng, 512, 2.2 / mpp, 2.2 / mpp, 0.0),
        grain=_noise(rng, 631, 0.5 / mpp, 0.5 / mpp, 0.0),
        cloud=_noise(rng, 701, 5.0 / mpp, 5.0 / mpp, 0.0),
        fibres=tuple(_noise(rng, 599, 5.0 / mpp, 0.55 / mpp, float(a)) for a in angles),
        white=rng.standard_normal((509, 509, 3), dtype=np.float32),
    )


def window(texture: F32, x_px: int, y_px: int, width_px: int, height_px: int) -> F32:
    """Return the (height, width) part of an endlessly repeated texture."""
    rows = np.arange(y_px, y_px + height_px) % texture.shape[0]
    columns = np.arange(x_px, x_px + width_px) % texture.shape[1]
    return texture[rows[:, None], columns[None, :]]


def _noise(
    rng: np.random.Generator, size: int, long_px: float, short_px: float, angle: float
) -> F32:
    """Filter white noise by an oriented Gaussian in the Fourier domain."""
    fx = np.fft.rfftfreq(size)[None, :]
    fy = np.fft.fftfreq(size)[:, None]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    gain = np.exp(-2 * np.pi**2 * ((along * long_px) ** 2 + (across * short_px) ** 2))
    gain[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * gain, s=(size, size))
    return np.asarray(field / field.std(), dtype=np.float32)
