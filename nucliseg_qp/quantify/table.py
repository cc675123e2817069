"""Tables of measurements: a Parquet file per image, a summary row per image."""

from __future__ import annotations

import csv
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from nucliseg_qp.outputs import whole_file
from nucliseg_qp.palette.classes import CLASS_MARGIN
from nucliseg_qp.palette.rules import HUE
from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS
from nucliseg_qp.quantify.scores import GRADES, last_part
from nucliseg_qp.quantify.shape import SHAPE_COLUMNS, centroids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.quantify.scores import Scores


LengthUnit = Literal["um", "px"]
Status = Literal["done", "incomplete", "failed", "staged", "skipped"]
"""How an image ended; only one that is done has scores."""

SummaryRow = dict[str, str | int | float | None]
"""One line of the summary by column; None stands for an empty field."""

_ROWS_A_GROUP = 65_536
_AREA, _PERIMETER, _, _MAX_CALIPER, _MIN_CALIPER, _ = SHAPE_COLUMNS


class TableWriter:
    """Write the nuclei of one image part by part into a Parquet file.

    A context manager: the file takes its name when the block ends without an error. Columns are
    ``id``, ``x``, ``y`` (centroid of the outline), ``keypoint_x``, ``keypoint_y``, ``class`` (null
    for none), ``score`` and the measurements of the first part; the unit of each column is in its
    field's metadata.

    Parameters
    ----------
    path : Path
        The file.
    image_name : str
        Kept in the file's metadata.
    length_unit : {"um", "px"}
        Unit of the shape measurements.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """

    def __init__(self, path: Path, image_name: str, *, length_unit: LengthUnit = "um") -> None:
        self._image_name = image_name
        self._length_unit = length_unit
        self._waiting: list[pa.Table] = []
        self._writer: pa.parquet.ParquetWriter | None = None
        self._partial: Path | None = None
        self._file = self._written(path)

    def __enter__(self) -> Self:
        """Open a temporary neighbour of the file."""
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Finish the file, or remove what there is of it after an error."""
        return self._file.__exit__(kind, error, trace)

    def add(self, nuclei: Nuclei, ids: Sequence[str]) -> None:
        """Append nuclei, ``ids`` in the order of the table; all parts have the same columns."""
        import pyarrow as pa

        if not len(nuclei):
            return
        schema = self._open(tuple(nuclei.measurements)).schema
        centre = centroids(nuclei.ring_xy, nuclei.ring_start)
        place = [centre[:, 0], centre[:, 1], nuclei.x, nuclei.y]
        columns = [list(ids), *place, _class_column(nuclei), nuclei.score]
        columns += [nuclei.measurements[name] for name in schema.names[len(columns) :]]
        self._waiting.append(pa.table(columns, schema=schema))
        if sum(part.num_rows for part in self._waiting) >= _ROWS_A_GROUP:
            self._flush()

    @contextmanager
    def _written(self, path: Path) -> Iterator[None]:
        with whole_file(path) as self._partial:
            try:
                yield
                self._open((*MEASUREMENT_COLUMNS, CLASS_MARGIN))
                self._flush()
            finally:
                if self._writer is not None:
                    self._writer.close()

    def _open(self, measurements: tuple[str, ...]) -> pa.parquet.ParquetWriter:
        if self._writer is None:
            from pyarrow import parquet

            schema = _schema(measurements, self._image_name, self._length_unit)
            self._writer = parquet.ParquetWriter(
                self._partial, schema, compression="zstd", use_dictionary=["class"]
            )
        return self._writer

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting and self._writer is not None:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries())
        self._waiting = []


def _class_column(nuclei: Nuclei) -> pa.Array:
    import pyarrow as pa

    index = nuclei.class_index if len(nuclei.class_index) else np.full(len(nuclei), -1, np.int16)
    codes = pa.array(index, pa.int16(), mask=index < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(nuclei.class_names, pa.string()))


def _schema(measurements: tuple[str, ...], image_name: str, length_unit: LengthUnit) -> pa.Schema:
    import pyarrow as pa

    place = [(name, pa.float64()) for name in ("x", "y", "keypoint_x", "keypoint_y")]
    classes = ("class", pa.dictionary(pa.int16(), pa.string()))
    numbers = [(name, pa.float32()) for name in ("score", *measurements)]
    units = _units(length_unit)
    fields = [
        pa.field(name, kind, metadata={"unit": units.get(name, "1")})
        for name, kind in [("id", pa.string()), *place, classes, *numbers]
    ]
    about = {
        "image": image_name,
        "length_unit": length_unit,
        "coordinates": "px of the full-resolution image, (0, 0) is its top left corner",
    }
    return pa.schema(fields, metadata=about)


def _units(length_unit: LengthUnit) -> dict[str, str]:
    lengths = dict.fromkeys((_PERIMETER, _MAX_CALIPER, _MIN_CALIPER), str(length_unit))
    places = dict.fromkeys(("x", "y", "keypoint_x", "keypoint_y"), "px")
    texts = {"id": "", "class": ""}
    return {**lengths, **places, **texts, _AREA: f"{length_unit}^2", HUE: "degree"}


def summary_row(
    image: str,
    counts: Mapping[str, int],
    scores: Scores,
    *,
    tissue_mm2: float | None,
    seconds: float,
    status: Status,
    unclassified: int = 0,
) -> SummaryRow:
    """Make an image's line of the summary.

    Parameters
    ----------
    image : str
        Name of the image.
    counts : mapping of str to int
        Nuclei of each class of the palette, in its order.
    scores : Scores
        From ``score_counts``.
    tissue_mm2 : float or None
        Area that was analysed; None or 0 when it is not known.
    seconds : float
        Time spent.
    status : {"done", "incomplete", "failed", "staged", "skipped"}
        An image that is not done has no scores, because some of its nuclei are missing; one that
        failed or was skipped has no counts either.
    unclassified : int
        Nuclei without a class.

    Returns
    -------
    SummaryRow
        ``image``, ``nuclei``, ``Num <class>`` for each class, ``Positive %``, ``H-score`` (empty
        unless the palette grades, as in QuPath), ``tissue_mm2``, ``nuclei_per_mm2``, ``seconds``,
        ``status``.
    """
    done, uncounted = status == "done", status in ("failed", "skipped")
    nuclei = sum(counts.values()) + unclassified
    graded = any(last_part(name) in GRADES for name in counts)
    return {
        "image": image,
        "nuclei": None if uncounted else nuclei,
        **{f"Num {name}": None if uncounted else number for name, number in counts.items()},
        "Positive %": scores.positive_percent if done else None,
        "H-score": scores.h_score if done and graded else None,
        "tissue_mm2": tissue_mm2,
        "nuclei_per_mm2": nuclei / tissue_mm2 if done and tissue_mm2 else None,
        "seconds": seconds,
        "status": status,
    }


def write_summary(path: Path, rows: Sequence[SummaryRow]) -> None:
    """Write the lines of all images as CSV (UTF-8), floats with 7 digits, NaN as an empty field.

    Images may have different classes: the columns are those of all rows.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    columns = _merged([list(row) for row in rows])
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _merged(headers: Sequence[Sequence[str]]) -> list[str]:
    # A column that only a later row has goes behind the one it follows there.
    columns: list[str] = []
    for header in headers:
        for before, name in zip(["", *header], header, strict=False):
            if name not in columns:
                columns.insert(columns.index(before) + 1 if before else 0, name)
    return columns


def _cell(value: str | float | None) -> str | int:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.7g}" if isinstance(value, float) else value
