"""What reviews want of QuPath: corrections out of an image, other classes into it.

Both are done by the classes of the scripts that people run inside QuPath, so that nothing is
decided in two ways. Like `java.py` it is only imported in a process of its own.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from jpype import JClass, JException

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.qupath.java_entries import JavaEntries
from nucliseg_qp.qupath.java_saving import save_data

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["JavaReview"]

JavaObject: TypeAlias = Any


class JavaReview(JavaEntries):
    """The images of a project with what reviews do to them."""

    @cached_property
    def _corrections(self) -> JavaObject:
        return self._groovy.load("send_corrections.groovy", "NucliSegCorrections")[0]

    @cached_property
    def _reclassification(self) -> list[JavaObject]:
        names = ("NucliSegPalettes", "NucliSegReclassification")
        return self._groovy.load("reclassify.groovy", *names)

    def corrections(self, entry_id: int, target: Path) -> bool:
        """Write the corrections of an image; False when it has no nuclei of a run.

        Raises
        ------
        QuPathError
            When the image or its data cannot be read.
        """
        entry = self._entry(entry_id)
        self._state(entry_id)
        data = self._open(entry)
        try:
            self._check_nothing_lost(data, entry)
            found = self._corrections(data, entry, _java_path(self._folder.manifest(0).parent))
            if not found.hasRun():
                return False
            found.write(_java_path(target))
            return True
        finally:
            data.getServer().close()

    def reclassify(self, entry_id: int, palette: str) -> dict[str, int]:
        """Give the nuclei of an image the classes of a palette of the project, and save it.

        Raises
        ------
        QuPathError, OutputError
            When it cannot be done; the image stays as it was.
        """
        entry, state = self._entry(entry_id), self._state(entry_id)
        data = self._open(entry)
        try:
            self._check_nothing_lost(data, entry)
            counts = self._reclassified(entry_id, palette, data)
            if counts["given"]:
                save_data(data, self._folder.data(entry_id), state, self._groovy.counts)
            return counts
        finally:
            data.getServer().close()

    def _reclassified(self, entry_id: int, palette: str, data: JavaObject) -> dict[str, int]:
        palettes, kind = self._reclassification
        folder = _java_path(self._folder.manifest(0).parent)
        work = kind(data, folder, str(entry_id), palettes.read(folder, palette))
        try:
            work.run(JClass("java.util.LinkedHashMap")({"palette": palette}))
        except JException as error:
            # Nothing to give a class to, or all of it decided by people, is no failure.
            if work.getGiven() or str(error.getClass().getName()) != "NucliSegProblem":
                raise QuPathError(str(error.getMessage())) from None
        return {
            "given": int(work.getGiven()),
            "changed": int(work.getChanged()),
            "kept": int(work.getKept()),
        }


def _java_path(path: Path) -> JavaObject:
    return JClass("java.nio.file.Paths").get(str(path))
