"""One image's corrections as the script inside QuPath writes them, read with distrust.

Version 1 told only changes and locked nuclei; version 2 adds reviewed areas, pixel size, classes,
annotations and the least sure of the nuclei nobody looked at. Both are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from nucliseg_qp.errors import InputError
from nucliseg_qp.review.verdicts import (
    ADDED,
    CHANGES,
    CONFIRMED,
    DELETED,
    Annotation,
    ImageReview,
    OpenNucleus,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_corrections", "split_file"]

VERSION = 2
MAX_BYTES = 4 << 30
_AGAIN = "Send the corrections again from QuPath, or run `nucliseg-qp review collect`."


def read_corrections(path: Path) -> ImageReview:
    """Read the corrections of one image.

    Raises
    ------
    InputError
        Naming the file, when it is missing, broken, edited so that it contradicts itself, or of a
        version that is not known.
    """
    head, lines = split_file(path)
    version = head.get("format")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise InputError(
            f"{path} is of version {version!r}, this program reads 1 to {VERSION}",
            "Update nucliseg-qp." if isinstance(version, int) else _AGAIN,
        )
    try:
        table = _Table()
        for line in lines:
            table.add(orjson.loads(line.removesuffix(b",")))
        review = _review(head, table)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is not a file of corrections ({error!r})", _AGAIN) from None
    _check(path, head, review)
    return review


def split_file(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Give the head of a file of corrections, and the lines of its features.

    Raises
    ------
    InputError
        When it is missing, or no such file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 30} GiB", _AGAIN)
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "Check the path.") from None
    body = [line for line in lines if line.strip()]
    if len(body) < 2 or body[-1].strip() != b"]}":
        raise InputError(f"{path} is not a file of corrections, or ends in the middle", _AGAIN)
    try:
        head = orjson.loads(body[0] + b"]}")["nucliseg"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InputError(f"{path} is not a file of corrections", _AGAIN) from None
    if not isinstance(head, dict):
        raise InputError(f"{path} is not a file of corrections", _AGAIN)
    return head, body[1:-1]


class _Table:
    """Nuclei and reviewed areas as they are read, checked; of each feature only what counts stays.

    A hundred thousand features with all their measurements would fill the memory, and Python's
    collector would look through them again and again.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.change: list[str] = []
        self.class_before: list[str] = []
        self.class_now: list[str] = []
        self.confirmed_by: list[str] = []
        self.annotation: list[str] = []
        self.rings: list[NDArray[np.float64]] = []
        self.areas: list[dict[str, Any]] = []
        self._measured: list[NDArray[np.float32]] = []
        self._rows_of: dict[tuple[str, ...], list[int]] = {}

    def add(self, feature: dict[str, Any]) -> None:
        """Take a feature."""
        about = feature["properties"]
        if about["change"] == "reviewed":
            self.areas.append(feature["geometry"])
            return
        what = str(about["change"])
        if what not in CHANGES:
            raise ValueError(f"{what!r} is no change that is known")
        default = "lock" if what == CONFIRMED else ""
        now = "" if what == DELETED else _class_name(about.get("classification"))
        self.ids.append(str(feature["id"]))
        self.change.append(what)
        self.class_before.append(str(about.get("class_before") or ""))
        self.class_now.append(now)
        self.confirmed_by.append(str(about.get("confirmed_by") or default))
        self.annotation.append(str(about.get("annotation") or ""))
        self.rings.append(_ring(feature["geometry"]))
        self._measure(about.get("measurements") or {})

    def _measure(self, measured: dict[str, float]) -> None:
        self._rows_of.setdefault(tuple(measured), []).append(len(self._measured))
        self._measured.append(np.array(list(measured.values()), np.float32))

    def columns(self) -> dict[str, NDArray[np.float32]]:
        """Give the measurements, NaN where a nucleus has none of a name."""
        names = list(dict.fromkeys(name for kind in self._rows_of for name in kind))
        values = np.full((len(names), len(self.ids)), np.nan, np.float32)
        for kind, rows in self._rows_of.items():
            if kind:
                place = [names.index(name) for name in kind]
                values[np.ix_(place, rows)] = np.stack([self._measured[i] for i in rows]).T
        return dict(zip(names, values, strict=True))


def _class_name(kind: object) -> str:
    if isinstance(kind, dict):
        return ": ".join(kind.get("names") or [str(kind["name"])])
    return str(kind or "")


def _ring(geometry: dict[str, Any] | None) -> NDArray[np.float64]:
    """Give the outer ring, closed; a point thrice for a point, NaN where nothing is known."""
    if geometry is None:
        return np.full((3, 2), np.nan)
    rings = geometry["coordinates"]
    if geometry["type"] == "Point":
        return np.array([rings[:2]] * 3, np.float64)
    if geometry["type"] == "MultiPolygon":
        rings = max(rings, key=lambda part: len(part[0]))
    ring = np.array(rings[0], np.float64)[:, :2]
    if len(ring) < 3:
        raise ValueError(f"an outline of {len(ring)} points")
    return ring


def _centres(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Give the centroid of each ring's area, of its vertices where it has none; shape (n, 2)."""
    if not rings:
        return np.empty((0, 2))
    start = np.cumsum([0, *(len(ring) for ring in rings[:-1])])
    size = np.array([[len(ring)] for ring in rings])
    xy = np.concatenate(rings)
    middle = np.add.reduceat(xy, start) / size
    offset = xy - np.repeat(middle, size[:, 0], axis=0)
    following = np.roll(offset, -1, axis=0)
    # Rings are closed: the step from the end of one to the start of the next is none of theirs.
    following[np.cumsum(size[:, 0]) - 1] = offset[start]
    cross = (offset[:, 0] * following[:, 1] - following[:, 0] * offset[:, 1])[:, None]
    area = 3 * np.add.reduceat(cross, start)
    moment = np.add.reduceat((offset + following) * cross, start)
    shift = np.divide(moment, area, out=np.zeros_like(moment), where=np.abs(area) > 1e-9)
    return np.asarray(middle + shift, np.float64)


def _review(head: dict[str, Any], table: _Table) -> ImageReview:
    mpp = head.get("mpp")
    return ImageReview(
        entry=str(head["entry"]),
        name=str(head["image"]),
        uris=tuple(str(uri) for uri in head["uris"]),
        width_px=int(head["width_px"]),
        height_px=int(head["height_px"]),
        mpp=None if mpp is None else float(mpp),
        ledger=str(head["ledger"]),
        nuclei_of_run=int(head["nuclei_of_run"]),
        ids=tuple(table.ids),
        change=_texts(table.change),
        class_before=_texts(table.class_before),
        class_now=_texts(table.class_now),
        confirmed_by=_texts(table.confirmed_by),
        annotation=_texts(table.annotation),
        xy=_centres(table.rings),
        measurements=table.columns(),
        areas=tuple(table.areas),
        classes={str(name): int(count) for name, count in head.get("classes", {}).items()},
        annotations=tuple(
            Annotation(str(one["id"]), str(one["name"]), str(one["class"]), int(one["nuclei"]))
            for one in head.get("annotations", ())
        ),
        open=tuple(
            OpenNucleus(str(i), float(x), float(y), str(kind), float(margin), str(inside))
            for i, x, y, kind, margin, inside in head.get("open", ())
        ),
    )


def _texts(values: list[str]) -> NDArray[np.str_]:
    return np.array(values, dtype=np.str_).reshape(-1)


def _check(path: Path, head: dict[str, Any], review: ImageReview) -> None:
    """Refuse a file whose head and rows do not agree: somebody edited it."""
    told = {name: int(head["counts"].get(name, 0)) for name in CHANGES}
    if told != review.counts:
        wrong = next(name for name in CHANGES if told[name] != review.counts[name])
        raise InputError(
            f"{path} was edited: it says {told[wrong]} {wrong} and holds {review.counts[wrong]}",
            _AGAIN,
        )
    if len(set(review.ids)) != len(review):
        raise InputError(f"{path} holds a nucleus twice", _AGAIN)
    ours = int((review.change != ADDED).sum())
    if ours > review.nuclei_of_run:
        raise InputError(
            f"{path} holds {ours} nuclei of a run of {review.nuclei_of_run}: it was edited", _AGAIN
        )
