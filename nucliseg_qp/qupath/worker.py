"""QuPath in a process of its own, asked about one image at a time and started anew now and then."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import InputError, NucliSegError, OutputError, QuPathError
from nucliseg_qp.qupath.held import Held, Written
from nucliseg_qp.qupath.install import HOW_TO_FIX, find_qupath
from nucliseg_qp.qupath.project import java_environment, last_words

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from nucliseg_qp.qupath.held import EntryResult

__all__ = ["QuPathWorker"]

IMAGES_A_PROCESS = 25
"""QuPath's memory grows with every image it opens."""
_CLOSE_SECONDS = 120.0
_ERRORS: dict[int, type[NucliSegError]] = {
    InputError.exit_code: InputError,
    OutputError.exit_code: OutputError,
}


class QuPathWorker:
    """A context manager that asks QuPath about the images of one project.

    Parameters
    ----------
    root : Path
        Folder of the project.
    images_a_process : int
        After so many images Java starts anew.

    Raises
    ------
    QuPathError
        When there is no QuPath.
    """

    def __init__(self, root: Path, images_a_process: int = IMAGES_A_PROCESS) -> None:
        if find_qupath() is None:
            raise QuPathError("QuPath is not found", HOW_TO_FIX)
        self._root = root
        self._most = images_a_process
        self._seen: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="nucliseg-qp-")
        self._log = Path(self._folder.name) / "log"

    def __enter__(self) -> Self:
        """Start nothing yet: an image may need no QuPath."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the process finish what it is at, and end it."""
        self.restart()
        self._folder.cleanup()

    @property
    def pid(self) -> int | None:
        """Number of the process, None while none runs."""
        return self._process.pid if self._process else None

    def read(self, entry_id: int) -> Held:
        """Give what QuPath holds for an image.

        Raises
        ------
        QuPathError
            When the image or its data cannot be read, or the process breaks down.
        """
        self._make_room(entry_id)
        return Held.from_json(self._ask({"ask": "read", "entry_id": entry_id})["held"])

    def write(self, result: EntryResult) -> Written:
        """Put nuclei into an image.

        Raises
        ------
        QuPathError, InputError, OutputError
            When it cannot be done: the image is as it was.
        """
        self._make_room(result.entry_id)
        answer = self._ask({"ask": "write", "result": result.to_json()})
        return Written.from_json(answer["written"])

    def corrections(self, entry_id: int, target: Path) -> bool:
        """Write what people did to the nuclei of an image to a file, as the script does.

        Returns
        -------
        bool
            False when the image has no nuclei of a run, so that nothing was written.

        Raises
        ------
        QuPathError
            When the image or its data cannot be read.
        """
        self._make_room(entry_id)
        question = {"ask": "corrections", "entry_id": entry_id, "target": str(target.resolve())}
        return bool(self._ask(question)["told"])

    def reclassify(self, entry_id: int, palette: str) -> dict[str, int]:
        """Give the nuclei of an image new classes from their measurements, and save it.

        Parameters
        ----------
        entry_id : int
            Number of the image.
        palette : str
            Name of a palette in the project's folder.

        Returns
        -------
        dict of str to int
            ``given`` a class, of these ``changed``, and ``kept`` as a person left them.

        Raises
        ------
        QuPathError, OutputError
            When it cannot be done: the image is as it was.
        """
        self._make_room(entry_id)
        answer = self._ask({"ask": "reclassify", "entry_id": entry_id, "palette": palette})
        return {name: int(answer[name]) for name in ("given", "changed", "kept")}

    def restart(self) -> None:
        """End the process; the next question starts another, which sees the project as it is."""
        process, self._process = self._process, None
        self._seen.clear()
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _make_room(self, entry_id: int) -> None:
        if entry_id not in self._seen and len(self._seen) >= self._most:
            self.restart()
        self._seen.add(entry_id)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        line = b""
        try:
            if process.stdin is not None and process.stdout is not None:
                process.stdin.write(orjson.dumps(question) + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line.endswith(b"\n"):
            self.restart()
            raise QuPathError(
                f"QuPath's process ended: {last_words(self._log)}",
                "If it was short of memory, set PAQUO_JAVA_OPTS, for example to -Xmx8g.",
            )
        answer: dict[str, Any] = orjson.loads(line)
        if "problem" in answer:
            kind = _ERRORS.get(answer["exit_code"], QuPathError)
            raise kind(answer["problem"], answer["hint"])
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-m", "nucliseg_qp.qupath.java_serve", str(self._root)]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=java_environment(),
                    # Ctrl-C is for us; an image that is being written is written to its end.
                    start_new_session=True,
                )
        return self._process
