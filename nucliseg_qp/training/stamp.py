"""One nucleus as a small patch of stain concentrations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.training.scene import Scene
from nucliseg_qp.training.textures import F32, Textures, textures


@dataclass(frozen=True)
class Stamp:
    """A painted nucleus on the scene's pixel grid.

    `haematoxylin` and `dab` are already weighted by the coverage `alpha`;
    `inside` is the nucleus's mask, `centre_px` its centroid (x, y).
    """

    x_px: int
    y_px: int
    alpha: F32
    haematoxylin: F32
    dab: F32
    inside: NDArray[np.bool_]
    centre_px: tuple[float, float]
    dab_od: float


def stamp(scene: Scene, row: int, mpp: float) -> Stamp:
    """Paint the nucleus `row` of a scene; the result depends on nothing else."""
    nuclei = scene.nuclei
    bank = textures(mpp)
    a_um, b_um = float(nuclei.a_um[row]), float(nuclei.b_um[row])
    reach = int(np.ceil((a_um * 1.3 + 1.5) / mpp))
    x0 = int(np.floor(nuclei.x_um[row] / mpp)) - reach
    y0 = int(np.floor(nuclei.y_um[row] / mpp)) - reach
    size = 2 * reach + 1
    dx = ((np.arange(x0, x0 + size) + 0.5) * mpp - nuclei.x_um[row]).astype(np.float32)
    dy = ((np.arange(y0, y0 + size) + 0.5) * mpp - nuclei.y_um[row]).astype(np.float32)
    phase = int(nuclei.phase[row])
    rho = _radius(scene, row, dx, dy, _piece(bank.outline, phase, size))
    mean_um = 2 * a_um * b_um / (a_um + b_um)
    inside = rho < 1.0
    if not inside.any():
        inside[reach, reach] = True
    alpha = np.clip((1.0 - rho) * np.float32(mean_um / nuclei.edge_um[row]) + 0.5, 0.0, 1.0)
    haematoxylin, dab = _stains(scene, row, rho, alpha, bank, dx, dy)
    dab_mean = float(dab[inside].mean())
    dab *= np.float32(nuclei.dab_od[row] / max(dab_mean, 1e-6))
    ys, xs = np.nonzero(inside)
    centre = (x0 + float(xs.mean()) + 0.5, y0 + float(ys.mean()) + 0.5)
    return Stamp(x0, y0, alpha, haematoxylin, dab, inside, centre, float(nuclei.dab_od[row]))


def _radius(scene: Scene, row: int, dx: F32, dy: F32, wobble: F32) -> F32:
    """Return 0 at the centre and 1 at the outline of a bent, wobbly ellipse."""
    nuclei = scene.nuclei
    cos, sin = float(np.cos(nuclei.angle[row])), float(np.sin(nuclei.angle[row]))
    a_um, b_um = float(nuclei.a_um[row]), float(nuclei.b_um[row])
    u = (dx * np.float32(cos / a_um))[None, :] + (dy * np.float32(sin / a_um))[:, None]
    v = (dx * np.float32(-sin / b_um))[None, :] + (dy * np.float32(cos / b_um))[:, None]
    u2 = u * u
    v += np.float32(nuclei.bend[row]) * (u2 - np.float32(0.3))
    rho = np.sqrt(u2 + v * v)
    return np.asarray(
        rho * (1.0 + np.float32(scene.look.irregularity) * np.clip(wobble, -1.6, 1.6)), np.float32
    )


def _stains(
    scene: Scene, row: int, rho: F32, alpha: F32, bank: Textures, dx: F32, dy: F32
) -> tuple[F32, F32]:
    look, nuclei = scene.look, scene.nuclei
    phase = int(nuclei.phase[row])
    clumps = np.float32(look.chromatin) * _piece(bank.chromatin, phase // 7, len(dx))
    body = 1.0 - np.float32(nuclei.vesicular[row]) * np.clip(1.15 - rho * rho, 0.0, 1.0)
    rim = np.float32(look.rim) * np.exp(-(((rho - np.float32(0.9)) * 8.0) ** 2))
    relief = np.maximum(body + rim + clumps * (0.4 + 0.6 * body), 0.1)
    spots = _nucleoli(int(nuclei.nucleoli[row]), phase, float(nuclei.b_um[row]), dx, dy)
    haematoxylin = alpha * (relief + spots) * np.float32(nuclei.haematoxylin_od[row])
    dab_relief = np.maximum(1.0 + 0.5 * (body - 1.0) + 0.6 * clumps + 0.3 * rim + 0.25 * spots, 0.1)
    return np.asarray(haematoxylin, np.float32), np.asarray(alpha * dab_relief, np.float32)


def _nucleoli(count: int, phase: int, b_um: float, dx: F32, dy: F32) -> F32:
    total = np.zeros((len(dy), len(dx)), np.float32)
    for k in range(count):
        bits = (phase >> (3 * k)) & 63
        x_um, y_um = 0.45 * b_um * np.cos(bits), 0.45 * b_um * np.sin(bits * 2.1)
        width_um = 0.55 + 0.35 * ((phase >> k) & 3) / 3
        gx = np.exp(-(((dx - np.float32(x_um)) / np.float32(width_um)) ** 2))
        gy = np.exp(-(((dy - np.float32(y_um)) / np.float32(width_um)) ** 2))
        total += np.float32(0.9) * gy[:, None] * gx[None, :]
    return total


def _piece(texture: F32, phase: int, size: int) -> F32:
    """Cut a square from a texture at a place that the phase picks."""
    room = texture.shape[0] - size
    y, x = divmod(phase % (room * room), room)
    return texture[y : y + size, x : x + size]
