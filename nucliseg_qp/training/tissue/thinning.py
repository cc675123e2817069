"""Keep discs apart: greedy thinning on a grid of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Disc = tuple[float, float, float]
_Cells = dict[tuple[int, int], list[_Disc]]


def apart(
    x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64], most: int
) -> NDArray[np.intp]:
    """Return the rows of discs that intersect no earlier kept disc, `most` at the most.

    Parameters
    ----------
    x, y, radius
        (n,) in one unit; earlier rows go first.
    most
        Stop after so many.
    """
    cell = 2 * float(radius.max(initial=0.5))
    cells: _Cells = {}
    kept: list[int] = []
    for i, disc in enumerate(zip(x.tolist(), y.tolist(), radius.tolist(), strict=True)):
        if len(kept) >= most:
            break
        home = (int(disc[0] // cell), int(disc[1] // cell))
        if _is_free(cells, home, disc):
            cells.setdefault(home, []).append(disc)
            kept.append(i)
    return np.asarray(kept, dtype=np.intp)


def _is_free(cells: _Cells, home: tuple[int, int], disc: _Disc) -> bool:
    x, y, radius = disc
    column, row = home
    for c in (column, column - 1, column + 1):
        for r in (row, row - 1, row + 1):
            for other_x, other_y, other_radius in cells.get((c, r), ()):
                near = radius + other_radius
                if (other_x - x) ** 2 + (other_y - y) ** 2 < near * near:
                    return False
    return True
