"""Small tables of text, as spreadsheets and QuPath export them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_table"]

_MAX_BYTES = 1 << 30


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a table separated by comma, semicolon or tab, with a heading.

    Parameters
    ----------
    path : Path
        The file, UTF-8.
    columns : tuple of str
        Headings it must have; case and blanks around them do not matter.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, or a row is longer or shorter than the heading.
    """
    text = _text(path)
    heading = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=heading.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    names = [name.strip().lower() for name in next(reader, [])]
    for column in columns:
        if column not in names:
            raise InputError(
                f"{path} has no column '{column}' (it has {', '.join(names) or 'none'})",
                f"Its first line must name {', '.join(columns)}",
            )
    rows = []
    for row in reader:
        if len(row) != len(names):
            raise InputError(
                f"{path}: line {reader.line_num} has {len(row)} of {len(names)} columns", "Mend it"
            )
        rows.append(dict(zip(names, (cell.strip() for cell in row), strict=True)))
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than a table of nuclei", "Split it")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "Check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error})", "Save it as UTF-8") from None
