"""Images whose numbers lie far from those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nucliseg_qp.quantify.table import SummaryRow

__all__ = ["find_outliers"]

FEWEST_IMAGES = 6
LIMIT = 3.5
"""Modified z-score of Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993."""

_COLUMNS = ("Positive %", "H-score", "nuclei_per_mm2")


def find_outliers(rows: Sequence[SummaryRow]) -> list[str]:
    """Name the images whose value lies far from the median, measured in median deviations."""
    found = []
    for column in _COLUMNS:
        known = [(row, row.get(column)) for row in rows]
        pairs = [(row, v) for row, v in known if isinstance(v, (int, float)) and np.isfinite(v)]
        if len(pairs) < FEWEST_IMAGES:
            continue
        values = np.array([value for _, value in pairs], np.float64)
        median = float(np.median(values))
        spread = float(np.median(np.abs(values - median)))
        if spread == 0:
            continue
        score = 0.6745 * (values - median) / spread
        found += [
            f"{row['image']}: {column} is {value:.4g}, the median of all images {median:.4g}"
            for (row, value), far in zip(pairs, np.abs(score) > LIMIT, strict=True)
            if far
        ]
    return found
