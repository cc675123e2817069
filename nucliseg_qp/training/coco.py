"""Tiles with their keypoints as COCO keypoints JSON, one file a split, beside `images/`.

COCO's coordinates are ours: x before y, pixels from the image's corner. Boxes and areas are
nominal (a nucleus 8 um wide), for tools that want them: the annotation is a point.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.training.coco_fields import AGAIN, checked_fields
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CocoTile", "TileRecord", "coco_file", "read_coco", "write_coco"]

NOMINAL_RADIUS_UM = 4.0
NO_CLASS = "nucleus"


@dataclass(frozen=True)
class TileRecord:
    """A tile that was written, without its pixels.

    Attributes
    ----------
    file_name : str
        Below ``images/``.
    side_px : int
        Width and height of the file.
    valid_px : tuple of int
        Width and height of the part, from the corner, that shows the image; the rest is white.
    mpp : float
        um per pixel.
    dataset, group, source : str
        Name of the data set, slide or patient, and image file.
    origin_px : tuple of int
        Corner of the tile in pixels of the image at `mpp`.
    points : NDArray[np.float64]
        (k, 2) in pixels of the tile.
    classes : tuple of str or None
        Class of each point.
    areas : tuple of NDArray[np.float64] or None
        Outlines of the annotated part in pixels of the tile, holes by the even-odd rule; None is
        all of it.
    """

    file_name: str
    side_px: int
    valid_px: tuple[int, int]
    mpp: float
    dataset: str
    group: str
    source: str
    origin_px: tuple[int, int]
    points: NDArray[np.float64]
    classes: tuple[str | None, ...]
    areas: tuple[NDArray[np.float64], ...] | None = None


@dataclass(frozen=True)
class CocoTile:
    """A tile read back.

    Attributes
    ----------
    item : LabelledImage
        Pixels, points, um per pixel and where the annotation counts.
    classes : tuple of str or None
        Class of each point.
    dataset, group, source : str
        See `TileRecord`.
    side_px : int
        Side of the whole tile; the item may show less, where the image ended.
    is_cut : bool
        Whether the image is larger than the tile, so that seams cut nuclei.
    """

    item: LabelledImage
    classes: tuple[str | None, ...]
    dataset: str
    group: str
    source: str
    side_px: int
    is_cut: bool = False


def coco_file(folder: Path, split: str) -> Path:
    """Name the JSON file of a split."""
    return folder / f"{split}.json"


def write_coco(folder: Path, split: str, records: Sequence[TileRecord], description: str) -> None:
    """Write the tiles of one split as COCO keypoints JSON.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    import orjson

    names = [NO_CLASS, *sorted({name for r in records for name in r.classes if name} - {NO_CLASS})]
    document = {
        "info": {"description": description, "version": "1", "split": split},
        "licenses": [],
        "categories": [_category(number, name) for number, name in enumerate(names, start=1)],
        "images": [_image(number, record) for number, record in enumerate(records, start=1)],
        "annotations": _annotations(records, names),
    }
    with whole_file(coco_file(folder, split)) as partial:
        partial.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _category(number: int, name: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "supercategory": NO_CLASS,
        "keypoints": ["centre"],
        "skeleton": [],
    }


def _image(number: int, record: TileRecord) -> dict[str, Any]:
    areas = record.areas
    return {
        "id": number,
        "file_name": record.file_name,
        "width": record.side_px,
        "height": record.side_px,
        "valid_px": list(record.valid_px),
        "mpp": record.mpp,
        "dataset": record.dataset,
        "group": record.group,
        "source": record.source,
        "origin_px": list(record.origin_px),
        "areas": None if areas is None else [ring.round(2).ravel().tolist() for ring in areas],
    }


def _annotations(records: Sequence[TileRecord], names: list[str]) -> list[dict[str, Any]]:
    place = {name: number for number, name in enumerate(names, start=1)}
    found: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        radius = NOMINAL_RADIUS_UM / record.mpp
        for (x, y), name in zip(record.points.round(3).tolist(), record.classes, strict=True):
            box = [x - radius, y - radius, 2 * radius, 2 * radius]
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": image_id,
                    "category_id": place[name or NO_CLASS],
                    "keypoints": [x, y, 2],
                    "num_keypoints": 1,
                    "bbox": [round(value, 3) for value in box],
                    "area": round(math.pi * radius**2, 3),
                    "iscrowd": 0,
                }
            )
    return found


def read_coco(folder: Path, *splits: str) -> list[CocoTile]:
    """Read the tiles of the named splits of a converted folder, or of all.

    Raises
    ------
    InputError
        With the file's name when a split is missing or broken, a field makes no sense, an image is
        missing, there twice or of another size than stated, or a point is no number or lies
        outside.
    """
    return [tile for split in splits or SPLITS for tile in _read_split(folder, split)]


def _read_split(folder: Path, split: str) -> list[CocoTile]:
    path = coco_file(folder, split)
    document = _load(path)
    try:
        _check_ids(path, document["images"])
        names = {item["id"]: item["name"] for item in document["categories"]}
        marks: dict[int, list[tuple[float, float, str]]] = {
            image["id"]: [] for image in document["images"]
        }
        for mark in document["annotations"]:
            x, y = mark["keypoints"][:2]
            marks[mark["image_id"]].append((float(x), float(y), names[mark["category_id"]]))
        images = document["images"]
        # All tiles of an image are in one split, and only the first has its corner.
        cut = {_origin(image) for image in images if any(image.get("origin_px") or ())}
        return [
            _tile(folder, path, image, marks[image["id"]], _origin(image) in cut)
            for image in images
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not COCO keypoints JSON of ours ({error!r})", AGAIN) from None


def _origin(image: dict[str, Any]) -> tuple[str, str]:
    return str(image["source"]), str(image["group"])


def _check_ids(path: Path, images: list[dict[str, Any]]) -> None:
    for key in ("id", "file_name"):
        twice = [value for value, number in Counter(x[key] for x in images).items() if number > 1]
        if twice:
            raise InputError(f"{path} has two images of the {key} {twice[0]!r}", AGAIN)


def _load(path: Path) -> Any:  # noqa: ANN401 - JSON is anything
    import orjson

    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})",
            "Make the folder with `nucliseg-qp data convert`",
        ) from None
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error})", AGAIN) from None


def _tile(
    folder: Path,
    path: Path,
    image: dict[str, Any],
    marks: list[tuple[float, float, str]],
    is_cut: bool,
) -> CocoTile:
    name = str(image["file_name"])
    fields = checked_fields(f"{path}: {name}", image)
    width, height = fields.valid_px
    pixels = _pixels(folder / "images" / name, fields.size_px)
    points = np.array([mark[:2] for mark in marks], np.float64).reshape(-1, 2)
    inside = (points >= 0).all(axis=1) & (points <= (width, height)).all(axis=1)
    if not inside.all():
        x, y = points[~inside][0]
        raise InputError(f"{path}: {name}: point ({x:g}, {y:g}) lies outside", AGAIN)
    item = LabelledImage(
        name,
        np.ascontiguousarray(pixels[:height, :width]),
        points,
        mpp=fields.mpp,
        trusted=fields.trusted,
    )
    classes = tuple(None if mark[2] == NO_CLASS else mark[2] for mark in marks)
    return CocoTile(
        item,
        classes,
        dataset=str(image["dataset"]),
        group=str(image["group"]),
        source=str(image["source"]),
        side_px=fields.size_px[0],
        is_cut=is_cut,
    )


def _pixels(path: Path, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path} is missing or no image", AGAIN)
    if (image.shape[1], image.shape[0]) != size_px:
        raise InputError(
            f"{path} has {image.shape[1]} x {image.shape[0]} px, its list says "
            f"{size_px[0]} x {size_px[1]}",
            AGAIN,
        )
    return np.asarray(image[..., ::-1], np.uint8)
