"""Cut or resize annotated images into tiles of one side, split by slide or patient, with a report.

Pixels are brought to the tile's resolution by the same code that feeds the network later.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nucliseg_qp.errors import InputError, OutputError, UsageError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.training.class_names import spelled_alike
from nucliseg_qp.training.coco import TileRecord, coco_file, write_coco
from nucliseg_qp.training.convert_notes import kept_notes, split_notes
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.splits import (
    SPLITS,
    assign_splits,
    grouping,
    load_splits,
    match_splits,
    save_splits,
)
from nucliseg_qp.training.tiling import Tiling, nuclei_by_area, tiles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.training.sources import AnnotatedImage
    from nucliseg_qp.training.tiling import Tile

__all__ = ["ConvertReport", "ConvertSettings", "convert"]


@dataclass
class ConvertReport:
    """What became of the images.

    Attributes
    ----------
    images, tiles, nuclei : int
        Read and written.
    splits : dict
        Split to number of groups, tiles and nuclei.
    left_out : dict of str to int
        Reason to number, for everything that is in the source and not in the tiles.
    notes : list of str
        What a person should know.
    """

    images: int = 0
    tiles: int = 0
    nuclei: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def convert(
    images: Iterable[AnnotatedImage],
    settings: ConvertSettings,
    advance: Callable[[str, int], None] | None = None,
) -> ConvertReport:
    """Write ``images/``, a JSON file a split, ``splits.json`` and ``report.json``.

    Nothing appears under ``settings.out`` unless everything was good.

    Raises
    ------
    InputError
        With the file's name when an annotation is broken.
    OutputError
        When the folder is not empty or cannot be written.
    """
    if settings.out.exists() and (settings.out.is_file() or any(settings.out.iterdir())):
        raise OutputError(f"{settings.out} is not an empty folder", "Choose a new one with -o")
    make_folder(settings.out.parent)
    partial = settings.out.with_name(f".{settings.out.name}.{os.getpid()}.part")
    try:
        named = replace(settings, name=settings.name or settings.out.name, out=partial)
        report = _convert(images, named, advance)
        if settings.out.exists():
            settings.out.rmdir()
        partial.rename(settings.out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{settings.out} cannot be written ({reason})", "Free it") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _convert(
    images: Iterable[AnnotatedImage],
    settings: ConvertSettings,
    advance: Callable[[str, int], None] | None,
) -> ConvertReport:
    report, records = ConvertReport(), list[TileRecord]()
    group_of = grouping(settings.group_by)
    make_folder(settings.out / "images")
    fields = 0
    for number, image in enumerate(images, start=1):
        group = _group(image, group_of, settings)
        fields += image.group is None and _is_field(image.path, settings)
        added = _write_tiles(image, number, group, settings, report)
        records += added
        report.images += 1
        report.notes += [*image.remarks, *(f"{image.path.name}: {note}" for note in image.notes)]
        report.left_out.update(image.left_out)
        if advance is not None:
            advance(image.path.name, sum(len(record.points) for record in added))
    if not records:
        raise InputError("there is no annotated image", "Check what was named")
    _write_lists(records, settings, report, fields)
    return report


def _group(
    image: AnnotatedImage,
    group_of: Callable[[Path, str | None], str | None],
    settings: ConvertSettings,
) -> str:
    group = group_of(image.path, image.group)
    if group is not None:
        return group
    if image.width_um is not None or settings.mode == "resize":
        # Such images are tiles: two of one slide must not end up in train and in test.
        raise UsageError(
            f"{image.path} is a tile and nobody says of which slide or patient",
            "Name a CSV with image and group, or a regular expression, with --group-by; "
            "--group-by image takes every tile for a slide of its own",
        )
    return image.path.stem


def _is_field(path: Path, settings: ConvertSettings) -> bool:
    """Tell whether an image has no pixel size of its own and so is hardly a whole slide."""
    if settings.group_by != "auto" or (settings.image_mpp or settings.width_um) is None:
        return False
    with open_slide(path, require_mpp=False) as slide:
        return slide.mpp is None


def _write_tiles(
    image: AnnotatedImage,
    number: int,
    group: str,
    settings: ConvertSettings,
    report: ConvertReport,
) -> list[TileRecord]:
    with _opened(image, settings) as slide:
        checked = _checked(image, slide, settings, report)
        how = Tiling(settings.mode, settings.mpp, settings.tile_px)
        return [
            _write_tile(tile, f"{number:05d}_{_plain(image.path.stem)}", image, group, settings)
            for tile in tiles_of(slide, checked, how, report.left_out)
        ]


def _write_tile(
    tile: Tile, stem: str, image: AnnotatedImage, group: str, settings: ConvertSettings
) -> TileRecord:
    import cv2

    name = f"{stem}_{tile.origin_px[0]}_{tile.origin_px[1]}.png"
    path = settings.out / "images" / name
    if not cv2.imwrite(str(path), np.ascontiguousarray(tile.pixels[..., ::-1])):
        raise OutputError(f"{path} cannot be written", "Free the disk")
    return TileRecord(
        file_name=name,
        side_px=settings.tile_px,
        valid_px=tile.valid_px,
        mpp=tile.mpp,
        dataset=settings.name or "",
        group=group,
        source=image.path.name,
        origin_px=tile.origin_px,
        points=tile.points,
        classes=tile.classes,
        areas=tile.areas,
    )


def _plain(stem: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in stem)[:60]


def _opened(image: AnnotatedImage, settings: ConvertSettings) -> Slide:
    if not image.path.is_file():
        raise InputError(f"{image.path}, annotated in {image.annotation}, is missing", "Add it")
    width_um = settings.width_um or (image.width_um if settings.image_mpp is None else None)
    if width_um is None:
        return open_slide(image.path, settings.image_mpp)
    with open_slide(image.path, require_mpp=False) as slide:
        width_px = slide.dimensions[0]
    return open_slide(image.path, width_um / width_px)


def _checked(
    image: AnnotatedImage, slide: Slide, settings: ConvertSettings, report: ConvertReport
) -> AnnotatedImage:
    """Stop at broken annotations; leave out repeated points, which are counted."""
    width, height = slide.dimensions
    if image.size_px not in (None, (width, height)):
        raise InputError(
            f"{image.annotation} was made on {image.size_px[0]} x {image.size_px[1]} px, "
            f"but {image.path} has {width} x {height}",
            "Find the image that belongs to it",
        )
    outside = ((image.points < 0) | (image.points > (width, height))).any(axis=1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        x, y = image.points[number]
        raise InputError(
            f"{image.annotation}: point {number + 1} ({x:g}, {y:g}) lies outside of {image.path}, "
            f"which has {width} x {height} px",
            "Check that the points are pixels (not um) of this very image",
        )
    if not settings.allow_empty:
        report.notes += [f"{image.path.name}: {note}" for note in _empty_areas(image)]
    _, first = np.unique(image.points.round(1), axis=0, return_index=True)
    report.left_out["points repeated at the same place"] += len(image.points) - len(first)
    kept = np.sort(first)
    return replace(image, points=image.points[kept], classes=tuple(image.classes[i] for i in kept))


def _empty_areas(image: AnnotatedImage) -> list[str]:
    """Stop at an image without any nucleus that counts; tell of areas without one."""
    nuclei = nuclei_by_area(image)
    if not sum(nuclei):
        where = "" if image.areas is None else " in its areas"
        raise InputError(
            f"{image.annotation} has no nucleus{where} for {image.path}",
            "Remove the image, or say --allow-empty if it truly shows none",
        )
    empty = nuclei.count(0)
    have = "has" if empty == 1 else "have"
    return [f"{empty} of {len(nuclei)} areas {have} no nucleus"] if empty else []


def _write_lists(
    records: list[TileRecord], settings: ConvertSettings, report: ConvertReport, fields: int
) -> None:
    records, spelling = spelled_alike(records)
    weights = Counter(record.group for record in records)
    known = load_splits(settings.splits) if settings.splits else {}
    kept, absent = match_splits(weights, known)
    groups = assign_splits(weights, settings.shares, settings.seed, kept)
    save_splits(settings.out / "splits.json", absent | groups, settings.seed, settings.group_by)
    for split in SPLITS:
        chosen = [record for record in records if groups[record.group] == split]
        write_coco(settings.out, split, chosen, f"{settings.name}: nuclei as keypoints")
        report.splits[split] = {
            "groups": len({record.group for record in chosen}),
            "tiles": len(chosen),
            "nuclei": sum(len(record.points) for record in chosen),
        }
    report.tiles, report.nuclei = len(records), sum(len(r.points) for r in records)
    report.left_out += Counter()
    report.notes += [
        *spelling,
        *kept_notes(settings, weights, kept, absent),
        *split_notes(weights, groups, settings, fields),
    ]
    _write_report(settings, report)


def _write_report(settings: ConvertSettings, report: ConvertReport) -> None:
    import orjson

    how: dict[str, Any] = {
        "name": settings.name,
        "mode": settings.mode,
        "mpp": settings.mpp if settings.mode == "cut" else None,
        "tile_px": settings.tile_px,
        "seed": settings.seed,
        "group_by": settings.group_by,
        "lists": [coco_file(settings.out, split).name for split in SPLITS],
    }
    content = {**how, **vars(report), "left_out": dict(report.left_out)}
    with whole_file(settings.out / "report.json") as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
