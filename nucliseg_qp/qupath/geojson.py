"""Nuclei as GeoJSON, in the words of QuPath's own reader.

The bulk goes through byte templates: a slide has a million nuclei, and one JSON object each would
take twenty times as long.  A feature stands on a line of its own, so a file can be read piece by
piece and compared line by line.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from itertools import chain, compress, islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import orjson

from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.rings import snap, usable_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.qupath.results import Area

__all__ = ["HEADER", "RGB", "area_feature", "class_json", "write_geojson", "written_files"]

HEADER = b'{"type":"FeatureCollection","features":['
"""First line of every file written here."""

_SUFFIX = ".geojson.gz"
_GZIP_NAMED = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"
_BATCH = 4000
_GZIP_LEVEL = 1  # of ISA-L: half the time of libdeflate's 1 for files 4 % larger

RGB = tuple[int, int, int]


def write_geojson(
    path: Path,
    parts: Iterable[tuple[Nuclei, Sequence[str]]],
    classes: Iterable[tuple[str, RGB]],
    *,
    areas: Sequence[Area] = (),
    z: int = 0,
    t: int = 0,
    shard: int | None = None,
) -> list[Path]:
    """Stream nuclei into one or several gzipped files that QuPath imports.

    Parameters
    ----------
    path : Path
        ``<stem>.geojson.gz``.
    parts : iterable of (Nuclei, sequence of str)
        Tables with the UUID of each row, in the order they are written.  Outlines are expected as
        `usable_rows` gives them; any that are not are repaired here, or left out without area.
    classes : iterable of (str, (int, int, int))
        Name and colour of each class that occurs.
    areas : sequence of Area
        Locked annotations that go first.
    z, t : int
        Plane of the image.
    shard : int, optional
        Most nuclei in a file; a larger number goes to ``<stem>.001.geojson.gz`` and so on.

    Returns
    -------
    list of Path
        The files, complete and in order.  Files of an earlier run under the same stem are gone.

    Raises
    ------
    OutputError
        When a file cannot be written; then none of them appears.
    UsageError
        When a nucleus is of a class without a colour.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nucliseg_qp import read_geojson, write_geojson
    >>> found = read_geojson(Path("results/nuclei/low.geojson.gz"))
    >>> colours = [("Negative", (112, 112, 225)), ("Positive", (250, 62, 62))]
    >>> [file] = write_geojson(Path("again.geojson.gz"), [(found.nuclei, found.ids)], colours)
    >>> file.name
    'again.geojson.gz'
    """
    if not path.name.endswith(_SUFFIX):
        raise OutputError(f"{path} does not end in {_SUFFIX}", "QuPath needs that ending.")
    colours = dict(classes)
    head = (area_feature(area, z, t) for area in areas)
    lines = (row for nuclei, ids in parts for row in _lines(nuclei, ids, colours, (z, t)))
    written = _write_shards(path, _shards(chain(head, lines), shard))
    _remove_earlier(path, written)
    return written


def _write_shards(path: Path, shards: Iterable[Iterable[bytes]]) -> list[Path]:
    paths: list[Path] = []
    with ExitStack() as all_or_none:
        for number, lines in enumerate(shards, start=1):
            # The first goes under the whole name: "a.001" may be another image's.
            paths.append(path if number == 1 else _shard_path(path, number))
            partial = all_or_none.enter_context(whole_file(paths[-1]))
            with partial.open("wb") as file:
                file.write(_gzip_name(path))
                _write_collection(file, lines)
    if len(paths) == 1:
        return paths
    try:
        return [path.replace(_shard_path(path, 1)), *paths[1:]]
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})", "Free it.") from error


def _shards(lines: Iterator[bytes], shard: int | None) -> Iterator[Iterable[bytes]]:
    """Deal lines out to files of at most ``shard``; gives one file at least."""
    yield islice(lines, shard)
    while (first := next(lines, None)) is not None:
        yield chain([first], islice(lines, (shard or 1) - 1))


def _write_collection(file: BinaryIO, lines: Iterable[bytes]) -> None:
    source, before = iter(lines), HEADER + b"\n"
    while rows := list(islice(source, _BATCH)):
        rows[0] = before + rows[0]
        file.write(_gzip(b",\n".join(rows)))
        before = b",\n"
    end = b"\n]}\n"
    file.write(_gzip(end if before == b",\n" else HEADER + end))


def _gzip(block: bytes) -> bytes:
    # Blocks are members of one gzip file (RFC 1952), which every reader joins; the header holds no
    # time stamp, so the same nuclei give the same bytes.
    from isal import igzip

    return igzip.compress(block, _GZIP_LEVEL, mtime=0)


def _gzip_name(path: Path) -> bytes:
    """Give an empty gzip member that names the unpacked file, as gzip does (RFC 1952, FNAME)."""
    name = path.name.removesuffix(".gz").encode()
    return _GZIP_NAMED + name + b"\0\x03\0" + bytes(8)


def _shard_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name[: -len(_SUFFIX)]}.{number:03d}{_SUFFIX}")


def written_files(path: Path) -> list[Path]:
    """Give the files of an image's nuclei that are there: the whole one, or its shards.

    Raises
    ------
    OutputError
        When one cannot be read.
    """
    # An image "a.001.tif" has a file of the same name as the first shard of "a.tif", so the name
    # inside decides.
    stem, name = re.escape(path.name[: -len(_SUFFIX)]), _gzip_name(path)
    pattern = re.compile(rf"{stem}(\.\d{{3,}})?{re.escape(_SUFFIX)}")
    found = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    return [one for one in found if pattern.fullmatch(one.name) and _starts_with(one, name)]


def _remove_earlier(path: Path, written: list[Path]) -> None:
    for other in written_files(path):
        if other not in written:
            other.unlink(missing_ok=True)


def _starts_with(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror})", "Remove it.") from None


def area_feature(area: Area, z: int = 0, t: int = 0) -> bytes:
    """Give the locked annotation that holds nuclei, on plane ``z``, ``t``."""
    geometry = dict(area.geometry) | ({"plane": {"c": -1, "z": z, "t": t}} if z or t else {})
    properties = {"objectType": "annotation", "name": area.name, "isLocked": True}
    return orjson.dumps(
        {"type": "Feature", "id": area.id, "geometry": geometry, "properties": properties}
    )


def class_json(name: str, rgb: RGB) -> bytes:
    """Give a classification as QuPath writes it; a derived class has several names."""
    names = name.split(": ")
    label = {"name": name} if len(names) == 1 else {"names": names}
    return orjson.dumps({**label, "color": list(rgb)})


def _lines(
    nuclei: Nuclei, ids: Sequence[str], colours: dict[str, RGB], plane: tuple[int, int]
) -> Iterator[bytes]:
    if len(ids) != len(nuclei):
        raise UsageError(f"{len(nuclei)} nuclei have {len(ids)} ids", "Give one id a nucleus.")
    for start in range(0, len(nuclei), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(nuclei)))
        batch = nuclei if len(rows) == len(nuclei) else nuclei.take(rows)
        names = ids[start : start + _BATCH]
        if not batch.simple:
            batch, kept = usable_rows(batch)
            if not kept.all():
                batch, names = batch.take(kept), list(compress(names, kept.tolist()))
        yield from _features(batch, names, colours, _plane_json(*plane))


def _plane_json(z: int, t: int) -> bytes:
    return b',"plane":{"c":-1,"z":%d,"t":%d}' % (z, t) if z or t else b""


def _features(
    nuclei: Nuclei, ids: Sequence[str], colours: dict[str, RGB], plane: bytes
) -> list[bytes]:
    """Give one line a nucleus."""
    measured, columns = _measured(nuclei)
    template = (
        b'{"type":"Feature","id":"%b","geometry":{"type":"Polygon","coordinates":[[%b]]'
        + plane
        + b'},"properties":{"objectType":"detection"%b'
        + measured
        + b"}}"
    )
    names = (name.encode("ascii") for name in ids)
    texts = (names, _ring_texts(nuclei), _class_texts(nuclei, colours), *columns)
    return [template % row for row in zip(*texts, strict=True)]


def _ring_texts(nuclei: Nuclei) -> list[bytes]:
    """Give each outline closed, as ``[x,y],[x,y],...``."""
    # All outlines are printed in one call and cut apart at rows of null between them.
    count, size = len(nuclei), np.diff(nuclei.ring_start)
    if not count:
        return []
    row = np.arange(count)
    vertex = np.arange(len(nuclei.ring_xy) + 2 * count) - np.repeat(2 * row, size + 2)
    close = nuclei.ring_start[1:] + 2 * row
    vertex[close], vertex[close + 1] = nuclei.ring_start[:-1], -1
    rows = np.append(snap(nuclei.ring_xy), [[np.nan, np.nan]], axis=0).take(vertex, axis=0)
    text = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1 : -len(b",[null,null]]")].split(b",[null,null],")


def _class_texts(nuclei: Nuclei, colours: dict[str, RGB]) -> list[bytes]:
    used = np.unique(nuclei.class_index[nuclei.class_index >= 0]).tolist()
    lost = [nuclei.class_names[k] for k in used if nuclei.class_names[k] not in colours]
    if lost:
        raise UsageError(f"class {lost[0]!r} has no colour", "Add it to the palette.")
    text = {-1: b""}
    for k in used:
        name = nuclei.class_names[k]
        text[k] = b',"classification":' + class_json(name, colours[name])
    index = nuclei.class_index.tolist() or [-1] * len(nuclei)
    return [text[k] for k in index]


def _measured(nuclei: Nuclei) -> tuple[bytes, list[list[bytes]]]:
    """Give the template of all rows' measurements and what goes into it, column by column.

    Those that are not finite are left out.
    """
    if not nuclei.measurements:
        return b"", []
    names = [orjson.dumps(name).replace(b"%", b"%%") + b":%b" for name in nuclei.measurements]
    values = np.stack(list(nuclei.measurements.values())).astype(np.float32, copy=False)
    columns = [_column_text(column) for column in values]
    finite = np.isfinite(values)
    if finite.all():
        return _measurement_template(names), columns
    rows = zip(zip(*columns, strict=True), finite.T, strict=True)
    return b"%b", [[_partly_measured(names, row, known) for row, known in rows]]


def _partly_measured(names: list[bytes], row: tuple[bytes, ...], known: NDArray[np.bool_]) -> bytes:
    chosen = known.tolist()
    return _measurement_template(list(compress(names, chosen))) % tuple(compress(row, chosen))


def _measurement_template(names: list[bytes]) -> bytes:
    return b',"measurements":{' + b",".join(names) + b"}" if names else b""


def _column_text(column: NDArray[np.float32]) -> list[bytes]:
    # orjson prints the shortest text that gives the same float32.
    text = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",")
