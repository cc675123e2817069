"""An image's data written so that at every moment the old file or the new one is there.

QuPath itself moves data.qpdata away before it writes, so a computer that stops meanwhile leaves a
cut file.  Here the new file is written beside the old one, read again and counted, and takes its
name in one step.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from jpype import JClass, JException

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.qupath.data_file import DataState, data_problem, data_state, file_problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["ChangedMeanwhileError", "save_data", "take_builder"]

JavaObject: TypeAlias = Any


class ChangedMeanwhileError(QuPathError):
    """Somebody saved the image between our reading and our saving."""


def save_data(
    data: JavaObject,
    folder: Path,
    before: DataState,
    count: Callable[[JavaObject], dict[str, int]],
) -> None:
    """Write an image's data, read it again, count, and put it in the place of the old.

    Parameters
    ----------
    data : ImageData
        What to write.
    folder : Path
        ``data/<id>`` of the project.
    before : DataState
        What data.qpdata must still be.
    count : callable
        Counts the objects of a hierarchy by kind.

    Raises
    ------
    ChangedMeanwhileError
        When somebody saved meanwhile; their file stays.
    QuPathError
        When the new file is not whole; the old one stays.
    OutputError
        When it cannot be written; the old one stays.
    """
    path = folder / "data.qpdata"
    with whole_file(path) as partial:
        _write(data, partial)
        _check(partial, count(data.getHierarchy()), count)
        _to_disk(partial)
        if data_problem(folder) or data_state(folder) != before:
            raise ChangedMeanwhileError(
                f"{folder} was changed meanwhile", "Close QuPath and run again."
            )
    _write_summary(data, folder)


def take_builder(entry: JavaObject, builder: JavaObject) -> None:
    """Let an entry know the image as it is now, with its pixel size; it is stored with the project.

    QuPath does it when it saves an image, and offers no other way.
    """
    field = entry.getClass().getDeclaredField("serverBuilder")
    field.setAccessible(True)
    field.set(entry, builder)


def _write(data: JavaObject, path: Path) -> None:
    io, files = JClass("qupath.lib.io.PathIO"), JClass("java.nio.file.Files")
    try:
        stream = files.newOutputStream(_java_path(path))
        try:
            io.writeImageData(stream, data)
        finally:
            stream.close()
    except JException as error:
        reason = str(error.getMessage())
        raise OSError(0, reason if reason != str(path) else "no access") from None


def _check(
    path: Path, expected: dict[str, int], count: Callable[[JavaObject], dict[str, int]]
) -> None:
    # QuPath's reader never comes back from a cut file: look first.
    if problem := file_problem(path):
        raise QuPathError(f"the new data is not whole: {problem}")
    stream = JClass("java.nio.file.Files").newInputStream(_java_path(path))
    try:
        found = count(JClass("qupath.lib.io.PathIO").readHierarchy(stream))
    finally:
        stream.close()
    if found != expected:
        raise QuPathError(f"{path.parent} would hold {found} instead of {expected}", "Run again.")


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_summary(data: JavaObject, folder: Path) -> None:
    """Write QuPath's own overview, which its project tab shows without opening the image."""
    kind = JClass("java.lang.Class").forName(
        "qupath.lib.projects.DefaultProject$ImageDataSummary", True, _class_loader()
    )
    # There is one constructor; it is hidden because only QuPath saves.
    maker = kind.getDeclaredConstructors()[0]
    maker.setAccessible(True)
    time_ms = (folder / "data.qpdata").stat().st_mtime_ns // 1_000_000
    text = maker.newInstance(data, JClass("java.lang.Long")(time_ms)).toString()
    with whole_file(folder / "summary.json") as partial:
        partial.write_text(str(text), encoding="utf-8")


def _java_path(path: Path) -> JavaObject:
    return JClass("java.nio.file.Paths").get(str(path))


def _class_loader() -> JavaObject:
    return JClass("qupath.lib.common.GeneralTools").class_.getClassLoader()
