"""From what people decided to annotated images: what is there, what is not, and where that holds.

Inside reviewed areas every nucleus counts. Outside of them only a small disc around each decision
counts: a nucleus that was confirmed, given another class or added is a positive there, a deleted
one is a hard negative, and nothing is said about their neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.geometry import made_valid
from nucliseg_qp.qupath.entries import local_path
from nucliseg_qp.review.verdicts import DELETED
from nucliseg_qp.training.sources import AnnotatedImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.review.verdicts import ImageReview

    Polygon = tuple[NDArray[np.float64], ...]

__all__ = ["annotated_images", "check_enough", "reviewed_area"]

DISC_UM = 5.0
"""Radius around a single decision in which it is known what is there: about a nucleus."""
LEAST_IMAGES = 3
LEAST_NUCLEI = 60


def check_enough(reviews: Sequence[Review]) -> None:
    """Refuse to train from too little.

    Raises
    ------
    InputError
        Saying how many images and nuclei are missing: one image each must be held out to choose
        the weights and to judge them.
    """
    usable = [image for review in reviews for image in review.images if len(image)]
    names = {(image.name, image.uris) for image in usable}
    nuclei = sum(len(image) for image in usable)
    missing = []
    if len(names) < LEAST_IMAGES:
        missing.append(f"{LEAST_IMAGES - len(names)} more reviewed image(s)")
    if nuclei < LEAST_NUCLEI:
        missing.append(f"{LEAST_NUCLEI - nuclei} more nuclei")
    if missing:
        raise InputError(
            f"{nuclei} nuclei of {len(names)} images are too few to train on: "
            f"missing are {' and '.join(missing)}",
            'Draw annotations named "Reviewed", correct what is wrong in them, collect again.',
        )


def annotated_images(reviews: Sequence[Review]) -> list[AnnotatedImage]:
    """Give the images of reviews as training data takes them.

    Raises
    ------
    InputError
        When an image file is not where the project had it.
    """
    return [
        _annotated(review, image)
        for review in reviews
        for image in review.images
        if len(image) or image.areas
    ]


def _annotated(review: Review, image: ImageReview) -> AnnotatedImage:
    there = np.asarray(~np.isin(image.change, (DELETED,)), np.bool_)
    if image.mass_deletion:
        image = image.take(there)
        there = np.ones(len(image), bool)
    known = np.asarray(np.isfinite(image.xy).all(axis=1), np.bool_)
    present = image.take(np.asarray(there & known, np.bool_))
    path = _file(image)
    return AnnotatedImage(
        path=path,
        annotation=Path(f"review of {review.reviewer}"),
        points=np.clip(present.xy, 0, (image.width_px, image.height_px)),
        classes=tuple(name or None for name in present.class_now.tolist()),
        areas=_trusted(image.take(known)),
        size_px=(image.width_px, image.height_px),
        # Two people may have reviewed an image, each in a project of their own.
        group=str(path),
        # Pixel sizes that somebody set in QuPath are not in the file.
        width_um=None if image.mpp is None else image.mpp * image.width_px,
    )


def _file(image: ImageReview) -> Path:
    paths = [local_path(uri) for uri in image.uris]
    for path in paths:
        if path is not None and path.is_file():
            return path
    raise InputError(
        f"the file of {image.name} is not there: {', '.join(map(str, paths)) or 'none is named'}",
        "Connect its drive, or relink the project and collect again.",
    )


def reviewed_area(image: ImageReview) -> BaseGeometry:
    """Give where in an image every nucleus was looked at."""
    import shapely
    from shapely.geometry import shape

    return shapely.union_all([made_valid(shape(dict(one))) for one in image.areas])


def _trusted(image: ImageReview) -> tuple[Polygon, ...]:
    """Unite reviewed areas and the discs around single decisions outside of them."""
    import shapely

    areas = reviewed_area(image)
    shapely.prepare(areas)
    outside = image.xy[~shapely.intersects_xy(areas, *image.xy.T)]
    radius_px = DISC_UM / (image.mpp or 0.5)
    discs = shapely.buffer(shapely.points(outside), radius_px, quad_segs=4)
    return tuple(_polygons(shapely.union_all([areas, *discs])))


def _polygons(geometry: Any) -> list[Polygon]:  # noqa: ANN401 - shapely is untyped
    import shapely

    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [
        tuple(shapely.get_coordinates(ring)[:-1] for ring in (part.exterior, *part.interiors))
        for part in parts
        if part.geom_type == "Polygon"
    ]
