"""What a synthetic field looks like: stains, nuclei, background, camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Range = tuple[float, float]
Triple = tuple[float, float, float]

# QuPath's default H-DAB vectors lie within these; the others are the extremes of real slides:
# grey-violet or cyan haematoxylin, and DAB so dense that it nears black.
QUPATH_HAEMATOXYLIN: Triple = (0.651, 0.701, 0.290)
QUPATH_DAB: Triple = (0.269, 0.568, 0.778)
_BLUE_HAEMATOXYLIN: Triple = (0.690, 0.650, 0.318)
_HAEMATOXYLINS: tuple[Triple, ...] = (
    QUPATH_HAEMATOXYLIN,
    _BLUE_HAEMATOXYLIN,
    (0.635, 0.645, 0.430),
    (0.810, 0.515, 0.280),
)
_DABS: tuple[Triple, ...] = (QUPATH_DAB, (0.370, 0.590, 0.720))


@dataclass(frozen=True)
class Look:
    """Parameters of one staining, tissue and camera.

    Parameters
    ----------
    haematoxylin, dab
        Optical density vectors (R, G, B), normalised when used.
    white
        Intensity of empty glass (R, G, B), 0 to 255.
    flare
        Share of the white light that reaches the camera through any stain.
    density_per_mm2
        Nuclei per square millimetre of tissue, before crowding thins them.
    clustering
        0 even density, 1 dense nests beside nearly empty stroma.
    positive_fraction
        Share of nuclei with DAB.
    grade_mix
        Relative shares of 1+, 2+, 3+ among the positive ones.
    shape_mix
        Relative shares of epithelial, large tumour, lymphoid, spindle nuclei.
    size_factor
        Scale of all nuclear diameters.
    overlap
        0 nuclei never touch, 0.5 centres as near as half the sum of the radii.
    haematoxylin_od
        Range of the mean haematoxylin density of a nucleus.
    negative_dab_od, dab_od
        Range of the mean DAB density of negative, and of 1+, 2+, 3+ nuclei.
    dab_darkening
        How much dense DAB turns from brown to black: red density added per squared DAB.
    haematoxylin_under_dab
        Share of its haematoxylin that a positive nucleus keeps.
    irregularity, chromatin, rim
        Amplitudes of outline wobble, chromatin texture, dark nuclear membrane.
    vesicular, nucleoli
        Share of nuclei with a pale centre, and with visible nucleoli.
    out_of_focus
        Share of nuclei with a soft edge.
    dab_haze
        Share of its DAB that a positive nucleus spreads around itself.
    cytoplasm_od, cytoplasm_dab_od, stroma_od, stroma_dab_od
        Mean density of haematoxylin and DAB around nuclei and between them.
    texture, borders, web
        Contrast of stroma fibres; cell borders in the cytoplasm (-1 white cracks,
        +1 dark lines); share of vacuolated, web-like stroma.
    glands_per_mm2
        Round lumina lined by a palisade of nuclei.
    holes
        Share of the tissue area torn open to glass.
    red_cells_per_mm2, debris_per_mm2
        Red cells (in clusters) and dark specks that are no nuclei.
    folds
        Relative thickening of the tissue in a fold, 0 for none.
    blur_um, sharpen, noise, jpeg_quality, uneven_light
        Optics and camera: Gaussian sigma, unsharp gain, sigma in grey levels,
        JPEG quality (0 = none), relative fall of light across a field.
    """

    haematoxylin: Triple = _BLUE_HAEMATOXYLIN
    dab: Triple = QUPATH_DAB
    white: Triple = (243.0, 243.0, 243.0)
    flare: float = 0.012
    density_per_mm2: float = 4500.0
    clustering: float = 0.4
    positive_fraction: float = 0.3
    grade_mix: Triple = (0.3, 0.3, 0.4)
    shape_mix: tuple[float, float, float, float] = (0.6, 0.1, 0.15, 0.15)
    size_factor: float = 1.0
    overlap: float = 0.12
    haematoxylin_od: Range = (0.28, 0.5)
    negative_dab_od: Range = (0.0, 0.05)
    dab_od: tuple[Range, Range, Range] = ((0.26, 0.38), (0.43, 0.58), (0.65, 1.3))
    dab_darkening: float = 0.0
    haematoxylin_under_dab: float = 0.65
    irregularity: float = 0.085
    chromatin: float = 0.22
    rim: float = 0.25
    vesicular: float = 0.3
    nucleoli: float = 0.35
    out_of_focus: float = 0.08
    dab_haze: float = 0.03
    cytoplasm_od: float = 0.05
    cytoplasm_dab_od: float = 0.01
    stroma_od: float = 0.045
    stroma_dab_od: float = 0.008
    texture: float = 0.45
    borders: float = -0.5
    web: float = 0.25
    glands_per_mm2: float = 0.0
    holes: float = 0.02
    red_cells_per_mm2: float = 60.0
    debris_per_mm2: float = 4.0
    folds: float = 0.0
    blur_um: float = 0.25
    sharpen: float = 0.2
    noise: float = 1.5
    jpeg_quality: int = 90
    uneven_light: float = 0.02


def plain_look() -> Look:
    """Return a standard, unambiguous staining for demonstrations and tests."""
    return Look()


def random_look(rng: np.random.Generator) -> Look:
    """Return one of very different looks, for training.

    Parameters
    ----------
    rng
        Source of all randomness; equal states give equal looks.
    """
    crowded = rng.random() < 0.3
    pale = rng.random() < 0.35
    saturated = rng.random() < 0.4
    low = float(rng.uniform(0.08, 0.2) if pale else rng.uniform(0.18, 0.4))
    top = float(rng.uniform(0.9, 1.9) if saturated else rng.uniform(0.55, 1.1))
    return Look(
        haematoxylin=_vector(rng, _HAEMATOXYLINS, 0.025),
        dab=_vector(rng, _DABS, 0.025),
        white=_white(rng),
        flare=float(rng.uniform(0.003, 0.03)),
        density_per_mm2=float(rng.uniform(5000, 11000) if crowded else rng.uniform(300, 6000)),
        clustering=float(rng.uniform(0, 1)),
        positive_fraction=_positive_fraction(rng),
        grade_mix=_simplex3(rng),
        shape_mix=_shape_mix(rng),
        size_factor=float(rng.uniform(0.8, 1.3)),
        overlap=float(rng.uniform(0.1, 0.45) if crowded else rng.uniform(0, 0.3)),
        haematoxylin_od=(low, low * float(rng.uniform(1.3, 2.5))),
        negative_dab_od=(0.0, float(rng.uniform(0.01, 0.09))),
        dab_od=((0.13, 0.38), (0.38, 0.6), (0.6, top)),
        dab_darkening=float(rng.uniform(0, 0.22)),
        haematoxylin_under_dab=float(rng.uniform(0.3, 1.0)),
        irregularity=float(rng.uniform(0.03, 0.14)),
        chromatin=float(rng.uniform(0.08, 0.36)),
        rim=float(rng.uniform(0, 0.7)),
        vesicular=float(rng.beta(0.7, 1.0)),
        nucleoli=float(rng.uniform(0, 0.9)),
        out_of_focus=float(rng.beta(1, 4)),
        dab_haze=float(rng.gamma(0.7, 0.06)),
        cytoplasm_od=float(rng.gamma(2, 0.03)),
        cytoplasm_dab_od=_cytoplasm_dab_od(rng),
        stroma_od=float(rng.gamma(2, 0.025)),
        stroma_dab_od=float(rng.gamma(1, 0.015)),
        texture=float(rng.uniform(0.1, 1.0)),
        borders=float(rng.uniform(-1, 0.6)),
        web=float(rng.beta(0.6, 1.0)),
        glands_per_mm2=float(rng.uniform(5, 30)) if rng.random() < 0.25 else 0.0,
        holes=float(rng.beta(0.5, 6)),
        red_cells_per_mm2=float(rng.uniform(200, 4000)) if rng.random() < 0.3 else 20.0,
        debris_per_mm2=float(rng.gamma(1, 15)),
        folds=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.08 else 0.0,
        blur_um=float(rng.uniform(0.05, 0.55)),
        sharpen=float(rng.uniform(0, 0.9)) if rng.random() < 0.5 else 0.0,
        noise=float(rng.uniform(0.3, 5.0)),
        jpeg_quality=int(rng.integers(45, 97)) if rng.random() < 0.85 else 0,
        uneven_light=float(rng.uniform(0, 0.12)),
    )


def _vector(rng: np.random.Generator, corners: tuple[Triple, ...], spread: float) -> Triple:
    """Mix known vectors and move the mixture a little."""
    shares = rng.dirichlet([0.6] * len(corners))
    sums = (sum(s * c[k] for s, c in zip(shares, corners, strict=True)) for k in range(3))
    red, green, blue = (max(0.03, float(v) + float(rng.normal(0, spread))) for v in sums)
    return red, green, blue


def _white(rng: np.random.Generator) -> Triple:
    level = float(rng.uniform(195, 253))
    red, green, blue = (min(255.0, level + float(rng.normal(0, 5))) for _ in range(3))
    return red, green, blue


def _positive_fraction(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.15:
        return float(rng.uniform(0, 0.04))
    if kind < 0.3:
        return float(rng.uniform(0.8, 1.0))
    return float(rng.uniform(0.05, 0.8))


def _cytoplasm_dab_od(rng: np.random.Generator) -> float:
    """Draw little brown around the nuclei, or as much as a stain of the cytoplasm leaves."""
    return float(rng.uniform(0.1, 0.5) if rng.random() < 0.12 else rng.gamma(1, 0.03))


def _simplex3(rng: np.random.Generator) -> Triple:
    first, second, third = (float(v) for v in rng.dirichlet((0.8, 0.8, 1.2)))
    return first, second, third


def _shape_mix(rng: np.random.Generator) -> tuple[float, float, float, float]:
    shares = rng.dirichlet((1.2, 0.7, 0.6, 0.6))
    return float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])
