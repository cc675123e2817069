"""One nucleus as a small patch of stain concentrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.training.tissue.layout import SPINDLE
from nucliseg_qp.training.tissue.textures import F32, Textures, textures, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nucliseg_qp.training.tissue.scene import Scene


@dataclass(frozen=True)
class Outline:
    """The shape of a nucleus on the scene's pixel grid.

    `rho` is 0 at the middle and 1 at the outline, `inside` the mask; `dx_um` and
    `dy_um` are the distances of its columns and rows from the middle.
    """

    x_px: int
    y_px: int
    dx_um: F32
    dy_um: F32
    rho: F32
    inside: NDArray[np.bool_]

    def centre_px(self) -> tuple[float, float]:
        """Return the centroid (x, y) of the mask in px of the scene."""
        ys, xs = np.nonzero(self.inside)
        return self.x_px + float(xs.mean()) + 0.5, self.y_px + float(ys.mean()) + 0.5


@dataclass(frozen=True)
class Stamp:
    """A painted nucleus; both concentrations are already weighted by the coverage `alpha`."""

    outline: Outline
    alpha: F32
    haematoxylin: F32
    dab: F32


def outline(scene: Scene, row: int, mpp: float) -> Outline:
    """Return the shape of nucleus `row` of a scene; it depends on nothing else."""
    nuclei = scene.nuclei
    x_um, y_um = float(nuclei.x_um[row]), float(nuclei.y_um[row])
    reach = int(np.ceil((float(nuclei.a_um[row]) * 1.3 + 1.5) / mpp))
    x_px, y_px = int(x_um / mpp // 1) - reach, int(y_um / mpp // 1) - reach
    steps = np.arange(2 * reach + 1) + 0.5
    dx_um = ((steps + x_px) * mpp - x_um).astype(np.float32)
    dy_um = ((steps + y_px) * mpp - y_um).astype(np.float32)
    wobble = _piece(textures(mpp).outline, int(nuclei.phase[row]), len(steps))
    rho = _radius(scene, row, dx_um, dy_um, wobble)
    inside = rho < 1.0
    if not inside.any():  # smaller than a pixel
        inside[reach, reach] = True
    return Outline(x_px, y_px, dx_um, dy_um, rho, inside)


def stamp(scene: Scene, row: int, mpp: float) -> Stamp:
    """Paint nucleus `row` of a scene; its mean DAB is the one laid out for it."""
    nuclei = scene.nuclei
    shape = outline(scene, row, mpp)
    a_um, b_um = float(nuclei.a_um[row]), float(nuclei.b_um[row])
    edges = np.float32(2 * a_um * b_um / (a_um + b_um) / nuclei.edge_um[row])
    alpha = np.clip((1.0 - shape.rho) * edges + np.float32(0.5), 0.0, 1.0)
    haematoxylin, dab = _stains(scene, row, shape, alpha, textures(mpp))
    mean = float(dab[shape.inside].mean())
    dab *= np.float32(nuclei.dab_od[row] / max(mean, 1e-6))
    return Stamp(shape, alpha, haematoxylin, dab)


def _radius(scene: Scene, row: int, dx: F32, dy: F32, wobble: F32) -> F32:
    """Return 0 at the centre and 1 at the outline of a bent, wobbly ellipse."""
    nuclei = scene.nuclei
    cos, sin = float(np.cos(nuclei.angle[row])), float(np.sin(nuclei.angle[row]))
    a_um, b_um = float(nuclei.a_um[row]), float(nuclei.b_um[row])
    u = (dx * np.float32(cos / a_um))[None, :] + (dy * np.float32(sin / a_um))[:, None]
    v = (dx * np.float32(-sin / b_um))[None, :] + (dy * np.float32(cos / b_um))[:, None]
    u2 = u * u
    v += np.float32(nuclei.bend[row]) * (u2 - np.float32(0.3))
    if nuclei.kind[row] == SPINDLE:  # blunt ends, not those of a leaf
        u2 *= np.float32(0.7) + np.float32(0.3) * u2
    rho = np.sqrt(u2 + v * v)
    wave = np.float32(scene.look.irregularity) * np.clip(wobble, -1.6, 1.6)
    return np.asarray(rho * (1.0 + wave), np.float32)


def _stains(scene: Scene, row: int, shape: Outline, alpha: F32, bank: Textures) -> tuple[F32, F32]:
    """Return haematoxylin, and DAB up to a factor: chromatin, membrane, pale centre, nucleoli."""
    look, nuclei, rho = scene.look, scene.nuclei, shape.rho
    phase = int(nuclei.phase[row])
    clumps = np.float32(look.chromatin) * _piece(bank.chromatin, phase // 7, len(rho))
    body = 1.0 - np.float32(nuclei.vesicular[row]) * np.clip(1.15 - rho * rho, 0.0, 1.0)
    rim = np.float32(look.rim) * np.exp(-(((rho - np.float32(0.9)) * 8.0) ** 2))
    spots = _nucleoli(int(nuclei.nucleoli[row]), phase, float(nuclei.b_um[row]), shape)
    relief = np.maximum(body + rim + clumps * (0.4 + 0.6 * body), 0.1) + spots
    brown = np.maximum(0.5 + 0.5 * body + 0.6 * clumps + 0.3 * rim + 0.25 * spots, 0.1)
    return alpha * relief * np.float32(nuclei.haematoxylin_od[row]), alpha * brown


def _nucleoli(count: int, phase: int, b_um: float, shape: Outline) -> F32:
    total = np.zeros_like(shape.rho)
    for k in range(count):
        bits = (phase >> (3 * k)) & 63
        x_um, y_um = 0.45 * b_um * np.cos(bits), 0.45 * b_um * np.sin(bits * 2.1)
        width_um = np.float32(0.55 + 0.35 * ((phase >> k) & 3) / 3)
        gx = np.exp(-(((shape.dx_um - np.float32(x_um)) / width_um) ** 2))
        gy = np.exp(-(((shape.dy_um - np.float32(y_um)) / width_um) ** 2))
        total += np.float32(0.9) * gy[:, None] * gx[None, :]
    return total


def _piece(texture: F32, phase: int, size: int) -> F32:
    """Cut a square from a texture at a place that the phase picks."""
    room = max(texture.shape[0] - size, 1)
    y, x = divmod(phase % (room * room), room)
    if y + size > texture.shape[0]:
        return window(texture, x, y, size, size)
    return texture[y : y + size, x : x + size]
