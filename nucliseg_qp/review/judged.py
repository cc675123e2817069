"""Reviewed nuclei as examples: what was measured and which class is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.quantify.scores import last_part
from nucliseg_qp.review.verdicts import CONFIRMED, RECLASSIFIED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nucliseg_qp.palette.classes import Palette
    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["LEAST", "JudgedRows", "check_classes", "judged_rows"]

LEAST = 8
"""Reviewed nuclei a class needs before anything is fitted to it."""


@dataclass(frozen=True)
class JudgedRows:
    """Nuclei of one slide whose class a person gave or confirmed.

    Parameters
    ----------
    slide : str
        Name of the image.
    features : dict of str to ndarray of float32, shape (n,)
        Their measurements, none NaN in the columns the rule reads.
    truth : ndarray of int16, shape (n,)
        The right class, as position in the palette.
    left_out : int
        Nuclei with a class that the palette does not have, or without measurements.
    """

    slide: str
    features: dict[str, NDArray[np.float32]]
    truth: NDArray[np.int16]
    left_out: int = 0

    def told(self, palette: Palette) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Give the names of the right classes and of those a palette gives."""
        names = np.array(palette.names)
        index, _ = palette.rule.classify(self.features)
        return names[self.truth], names[index]

    def take(self, rows: NDArray[np.bool_]) -> JudgedRows:
        """Give some of the nuclei."""
        features = {name: column[rows] for name, column in self.features.items()}
        return JudgedRows(self.slide, features, self.truth[rows], self.left_out)


def judged_rows(image: ImageReview, palette: Palette) -> JudgedRows:
    """Take the nuclei of an image that were given or confirmed a class of the palette."""
    looked = np.isin(image.change, (RECLASSIFIED, CONFIRMED))
    truth = np.array([_place(name, palette) for name in image.class_now.tolist()], np.int16)
    usable = looked & (truth.reshape(-1) >= 0)
    for name in palette.rule.measurements:
        column = image.measurements.get(name)
        usable &= np.zeros(len(image), bool) if column is None else np.isfinite(column)
    features = {name: column[usable] for name, column in image.measurements.items()}
    features |= {n: np.empty(0, np.float32) for n in palette.rule.measurements if n not in features}
    left_out = int(looked.sum() - usable.sum())
    return JudgedRows(image.name, features, truth.reshape(-1)[usable], left_out)


def _place(name: str, palette: Palette) -> int:
    """Find a class by its name, or by its last part: ``Tumor: Positive`` is ``Positive``."""
    for one in (name, last_part(name)):
        if one in palette.names:
            return palette.names.index(one)
    return -1


def check_classes(
    slides: Sequence[JudgedRows], palette: Palette, keep: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Tell which classes are fitted; refuse when one has too little.

    Raises
    ------
    InputError
        Saying of which class how many reviewed nuclei are missing.
    """
    truth = np.concatenate([rows.truth for rows in slides] or [np.empty(0, np.int16)])
    counts = np.bincount(truth, minlength=len(palette.names))
    unknown = [name for name in keep if name not in palette.names]
    if unknown:
        raise InputError(
            f"--keep {unknown[0]!r} is no class of palette {palette.name}",
            f"Its classes are: {', '.join(palette.names)}.",
        )
    fitted = np.array([name not in keep for name in palette.names])
    missing = [
        f"{LEAST - count} more of {name} (there are {count} of {LEAST})"
        for name, count, fit in zip(palette.names, counts.tolist(), fitted.tolist(), strict=True)
        if fit and count < LEAST
    ]
    if missing or fitted.sum() < 1:
        strangers = sum(rows.left_out for rows in slides)
        raise InputError(
            f"too few reviewed nuclei with measurements to fit: {', '.join(missing) or 'none'}",
            f"{strangers} have classes palette {palette.name} lacks, or no measurements: is "
            "--palette the one they were classified by?"
            if strangers
            else "Review more in QuPath (show_doubtful_nuclei), or keep a class with --keep.",
        )
    return fitted
