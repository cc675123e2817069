"""The files of two reviews put together, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.geometry import made_valid
from nucliseg_qp.review.corrections import split_file
from nucliseg_qp.review.lessons import DISC_UM
from nucliseg_qp.review.matching import common_images, matched_rows
from nucliseg_qp.review.verdicts import ADDED, CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from nucliseg_qp.review.compare import Conflict
    from nucliseg_qp.review.folder import Review
    from nucliseg_qp.review.verdicts import ImageReview

__all__ = ["merged_files"]


def merged_files(
    out: Path,
    folders: tuple[Path, Path],
    reviews: tuple[Review, Review],
    conflicts: Sequence[Conflict],
    prefer: str | None,
) -> list[Path]:
    """Write a file of corrections for each image of either review.

    Parameters
    ----------
    out : Path
        Folder to write to.
    folders : tuple of Path
        Of the two reviews.
    reviews : tuple of Review
        What they hold.
    conflicts : sequence of Conflict
        About which nuclei they disagree.
    prefer : str or None
        Reviewer who decides these; without one they count as not looked at, also in reviewed
        areas, of which their place is cut out.
    """
    files = []
    pairs = {one.entry: (one, other) for one, other in common_images(*reviews)}
    for place, review in enumerate(reviews):
        for image in review.images:
            path = out / f"{image.entry}.geojson"
            if image.entry in pairs and place == 1:
                continue
            sources = [folder / "images" / path.name for folder in _roots(folders)]
            if image.entry in pairs:
                here = [one for one in conflicts if one.entry == image.entry]
                first = prefer is not None and prefer == reviews[0].reviewer
                _write_merged(path, sources, pairs[image.entry], here, _winner(prefer, first))
            else:
                path.write_bytes(sources[place].read_bytes())
            files.append(path)
    return files


def _roots(folders: Iterable[Path]) -> list[Path]:
    return [one.parent if one.name == "review.json" else one for one in folders]


def _winner(prefer: str | None, is_first: bool) -> int | None:
    return None if prefer is None else int(not is_first)


def _write_merged(
    path: Path,
    sources: Sequence[Path],
    images: tuple[ImageReview, ImageReview],
    conflicts: Sequence[Conflict],
    winner: int | None,
) -> None:
    one, other = images
    disputed = {item.id for item in conflicts}
    same = {other.ids[theirs]: one.ids[mine] for mine, theirs in matched_rows(one, other).tolist()}
    head, first = _features(sources[0])
    _, second = _features(sources[1])
    kept = [item for item in first if winner == 0 or item.get("id") not in disputed]
    kept += [item for item in second if _is_wanted(item, same, disputed, winner)]
    if winner is None:
        kept = [_without(item, conflicts, one.mpp) for item in kept]
    head |= {"counts": _counts(kept), "open": _still_open(head, kept)}
    _write(path, head, kept)


def _features(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    head, lines = split_file(path)
    return head, [orjson.loads(line.removesuffix(b",")) for line in lines]


def _is_wanted(
    item: dict[str, Any], same: dict[str, str], disputed: set[str], winner: int | None
) -> bool:
    """Tell whether a feature of the second review is not in the first, or decides there."""
    name = str(item["id"])
    if item["properties"]["change"] == "reviewed":
        return True
    return winner == 1 if same.get(name, name) in disputed else name not in same


def _without(
    item: dict[str, Any], conflicts: Sequence[Conflict], mpp: float | None
) -> dict[str, Any]:
    """Cut places that are disputed out of a reviewed area."""
    import shapely
    from shapely.geometry import mapping, shape

    if item["properties"]["change"] != "reviewed" or not conflicts:
        return item
    points = shapely.points([(one.x, one.y) for one in conflicts if one.x == one.x])
    discs = shapely.union_all(shapely.buffer(points, DISC_UM / (mpp or 0.5), quad_segs=4))
    rest = shapely.difference(made_valid(shape(item["geometry"])), discs)
    return {**item, "geometry": mapping(rest)}


def _counts(features: Sequence[dict[str, Any]]) -> dict[str, int]:
    found = [item["properties"]["change"] for item in features]
    return {name: found.count(name) for name in CHANGES}


def _still_open(head: dict[str, Any], features: Sequence[dict[str, Any]]) -> list[list[Any]]:
    looked = {item.get("id") for item in features if item["properties"]["change"] != ADDED}
    return [row for row in head.get("open", []) if row[0] not in looked]


def _write(path: Path, head: dict[str, Any], features: Sequence[dict[str, Any]]) -> None:
    rows = b",\n".join(orjson.dumps(item) for item in features)
    start = b'{"type":"FeatureCollection","nucliseg":' + orjson.dumps(head) + b',"features":['
    path.write_bytes(start + b"\n" + rows + b"\n]}\n")
