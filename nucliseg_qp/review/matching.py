"""Which images and which nuclei of two reviews are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nucliseg_qp.errors import InputError
from nucliseg_qp.review.lessons import reviewed_area
from nucliseg_qp.review.verdicts import ADDED

if TYPE_CHECKING:
    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["Rows", "common_images", "matched_rows", "rows_unseen_by"]

Rows: TypeAlias = NDArray[np.int64]
"""Pairs of rows, shape (k, 2)."""

SAME_PX = 3.0
"""Nuclei that two people added within this distance are one."""
_OTHER_RUN = "Compare reviews of the same run: collect both after the same annotate."


def common_images(first: Review, second: Review) -> list[tuple[ImageReview, ImageReview]]:
    """Pair the images both reviews have.

    Raises
    ------
    InputError
        Naming the image, when the two are about different runs, or there is none in common.
    """
    others = {(one.entry, one.name): one for one in second.images}
    pairs = [
        (one, others[one.entry, one.name])
        for one in first.images
        if (one.entry, one.name) in others
    ]
    if not pairs:
        raise InputError(
            f"the reviews of {first.reviewer} ({first.project}) and {second.reviewer} "
            f"({second.project}) have no image in common",
            "Compare two reviews of one project.",
        )
    for one, other in pairs:
        if one.ledger != other.ledger:
            raise InputError(
                f"{one.name}: {first.reviewer} reviewed run {one.ledger}, {second.reviewer} run "
                f"{other.ledger}",
                _OTHER_RUN,
            )
    return pairs


def matched_rows(one: ImageReview, other: ImageReview) -> Rows:
    """Pair rows of the same nucleus: by id, added ones by place, shape (k, 2)."""
    from nucliseg_qp.training.metrics import match_points

    place = {id_: row for row, id_ in enumerate(other.ids)}
    pairs = [(row, place[id_]) for row, id_ in enumerate(one.ids) if id_ in place]
    taken = ({row for row, _ in pairs}, {row for _, row in pairs})
    mine, theirs = (
        np.array([r for r in np.flatnonzero(x.change == ADDED).tolist() if r not in done], np.int64)
        for x, done in zip((one, other), taken, strict=True)
    )
    near = match_points(one.xy[mine], other.xy[theirs], SAME_PX)
    pairs += list(zip(mine[near[:, 0]].tolist(), theirs[near[:, 1]].tolist(), strict=True))
    return np.array(pairs, np.int64).reshape(-1, 2)


def rows_unseen_by(
    other: ImageReview, one: ImageReview, paired: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give rows that one person added where the other looked at every nucleus and saw none.

    Parameters
    ----------
    other, one : ImageReview
        Who looked, and who added.
    paired : ndarray of int64
        Rows of ``one`` that the other has as well.
    """
    import shapely

    alone = np.setdiff1d(np.flatnonzero(one.change == ADDED), paired)
    seen = shapely.intersects_xy(reviewed_area(other), *one.xy[alone].T)
    return np.asarray(alone[seen], np.int64)
