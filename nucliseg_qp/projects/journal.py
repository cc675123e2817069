"""The journal beside a project: what became of each image, a line each, never rewritten."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.errors import OutputError, QuPathError
from nucliseg_qp.outputs import make_folder
from nucliseg_qp.qupath.data_file import DataState, noted_state

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.projects.scope import ProjectScope

__all__ = ["Journal", "Record", "digest", "engine_facts", "file_facts"]

_HEAD_BYTES = 65536


@dataclass(frozen=True)
class Record:
    """How one image ended in one run.

    Parameters
    ----------
    entry_id : int
        Number of the image.
    run : str
        Name of the run.
    status : str
        ``done``, ``incomplete``, ``failed``, ``staged`` or ``skipped``.
    analysis : str
        Fingerprint of what was asked for: settings, model, scope.
    fingerprint : str
        Of all that and the image, its annotations and stains; empty when it was not opened.
    problem : str
        What went wrong.
    exit_code : int
        That belongs to the problem.
    data : DataState
        Of data.qpdata as it was left; that of no file when it was not written.
    """

    entry_id: int
    run: str
    status: str
    analysis: str
    fingerprint: str = ""
    problem: str = ""
    exit_code: int = 0
    data: DataState = field(default_factory=DataState)


class Journal:
    """The last record of each image that says something about its nuclei.

    An image that was skipped had nothing in scope: what it holds is as the run before left it.

    Parameters
    ----------
    path : Path
        ``journal.jsonl``.

    Raises
    ------
    QuPathError
        When it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[int, Record] = {}
        self._ended: dict[tuple[str, int], Record] = {}
        for record in _records(path):
            self._take(record)

    def last(self, entry_id: int) -> Record | None:
        """Give how an image ended when it was last in scope."""
        return self._last.get(entry_id)

    def of_run(self, run: str) -> list[Record]:
        """Give how each image ended that a run got to, also those it skipped."""
        return [record for (name, _), record in self._ended.items() if name == run]

    def _take(self, record: Record) -> None:
        self._ended[record.run, record.entry_id] = record
        if record.status != "skipped":
            self._last[record.entry_id] = record

    def add(self, record: Record) -> None:
        """Append a record; it is on the disk when this returns.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        make_folder(self._path.parent)
        line = orjson.dumps(asdict(record)) + b"\n"
        try:
            with self._path.open("ab") as file:
                # A line that was cut off by a crash must not swallow this one.
                file.write((b"\n" if file.tell() else b"") + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be written ({error.strerror})", "Free the disk and run again."
            ) from error
        self._take(record)


def _records(path: Path) -> list[Record]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise QuPathError(f"{path} cannot be read ({error.strerror})", "Free it.") from None
    records = []
    for line in filter(None, lines):
        try:
            item = orjson.loads(line)
            records.append(Record(**{**item, "data": noted_state(item["data"])}))
        except (orjson.JSONDecodeError, TypeError, KeyError):
            # Cut off, or of another version: that image is looked at anew.
            continue
    return records


def digest(content: object) -> str:
    """Give a short name for anything JSON can hold."""
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:24]


def engine_facts(engine: Engine, scope: ProjectScope) -> dict[str, Any]:
    """Give all that the nuclei depend on besides the image: not the device, not the tiles."""
    settings = engine.settings.model_dump(mode="json", exclude={"output", "tiles", "work"})
    for name in ("device", "precision", "runtime", "batch_size", "model"):
        settings["keypoints"].pop(name)
    classes = [(one.name, list(one.color_rgb)) for one in engine.palette.classes]
    return {
        "program": __version__,
        "model": engine.runner.info.sha256,
        "mpp": engine.mpp,
        "threshold": engine.runner.threshold,
        "settings": settings,
        "palette": [engine.palette.name, classes, repr(engine.palette.rule)],
        "scope": str(scope),
    }


def file_facts(paths: list[Path]) -> list[dict[str, Any]]:
    """Tell image files apart by name, size and first bytes, wherever they lie."""
    facts = []
    for path in paths:
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        facts.append({"name": path.name, "size": path.stat().st_size, "head": head})
    return facts
