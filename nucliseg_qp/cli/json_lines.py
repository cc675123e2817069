"""Events for a program that started this one: a JSON object a line on standard output."""

from __future__ import annotations

import base64
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp import __version__
from nucliseg_qp.request import FORMAT

if TYPE_CHECKING:
    from pathlib import Path

    from nucliseg_qp.errors import NucliSegError
    from nucliseg_qp.pipeline import Engine

__all__ = ["JsonLines", "end_with_stdin"]

TELL_EVERY_SECONDS = 0.25
CHUNK_BYTES = 300_000
INTERRUPTED = 130
STAGES = ("keypoints", "outlines")


class JsonLines:
    """Tells about an analysis in JSON lines; a `nucliseg_qp.pipeline.Progress`."""

    def __init__(self) -> None:
        self._stage, self._done, self._total, self._nuclei = "", 0, 0, 0
        self._began = self._told = time.monotonic()

    def hello(self) -> None:
        """Tell which engine this is, before anything that takes time or can fail."""
        self._tell(event="hello", format=FORMAT, version=__version__)

    def engine(self, engine: Engine) -> None:
        """Tell which model runs where."""
        runner = engine.runner
        self._tell(
            event="engine",
            model=runner.info.name,
            device=runner.device.label,
            precision=runner.precision,
        )

    def stage(self, name: str, total: int) -> None:
        """Begin a step of ``total`` pieces."""
        self._stage, self._done, self._total, self._began = name, 0, total, time.monotonic()
        self._tell_progress()

    def advance(self, pieces: int = 1, nuclei: int = 0) -> None:
        """Tell that pieces are done and how many nuclei they gave."""
        self._done += pieces
        self._nuclei += nuclei
        if self._done >= self._total or time.monotonic() - self._told > TELL_EVERY_SECONDS:
            self._tell_progress()

    def result(self, manifest: Path, nuclei: int) -> None:
        """Tell that the result is whole."""
        self._tell(event="result", path=str(manifest), nuclei=nuclei)

    def files(self, folder: Path, names: list[str]) -> None:
        """Send files piece by piece, for a result on another computer."""
        for name in names:
            with (folder / name).open("rb") as file:
                while piece := file.read(CHUNK_BYTES):
                    self._tell(event="file", name=name, base64=base64.b64encode(piece).decode())

    def error(self, error: NucliSegError) -> None:
        """Tell what went wrong and what to do."""
        self._tell(event="error", message=error.message, hint=error.hint, exit_code=error.exit_code)

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        step = STAGES.index(self._stage) + 1 if self._stage in STAGES else 1
        self._tell(
            event="progress",
            stage=self._stage,
            step=step,
            steps=len(STAGES),
            done=self._done,
            total=self._total,
            nuclei=self._nuclei,
            seconds_left=self._seconds_left(),
        )

    def _seconds_left(self) -> float | None:
        """Guess from this step's pace; the outlines take about as long as the keypoints."""
        if not self._done or not self._total:
            return None
        spent = time.monotonic() - self._began
        whole = spent * self._total / self._done
        left = whole - spent + (whole if self._stage == STAGES[0] else 0)
        return round(left, 1)

    def _tell(self, **event: Any) -> None:  # noqa: ANN401 - JSON is anything
        # One write a line: nothing else of this process can fall into it.
        sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
        sys.stdout.buffer.flush()


def end_with_stdin() -> None:
    """End this process when standard input closes: whoever started it is gone or gave up."""

    def wait() -> None:
        # Not sys.stdin: its lock, held by a waiting thread, breaks the end of the interpreter.
        while os.read(0, 1 << 16):
            pass
        os._exit(INTERRUPTED)

    threading.Thread(target=wait, name="end with stdin", daemon=True).start()
