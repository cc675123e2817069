"""Everything the program shows: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from rich.theme import Theme

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from cyclopts import CycloptsError
    from rich.console import RenderableType

    from nucliseg_qp.batch import ImageOutcome
    from nucliseg_qp.pipeline import Engine

__all__ = [
    "BatchView",
    "engine_line",
    "error",
    "help_console",
    "note",
    "plain",
    "printable",
    "project_line",
    "result",
    "usage_error",
    "warn",
]

PLAIN_EVERY_SECONDS = 10.0
UNKNOWN = "–"
WIDE_COLUMNS = 1000
"""Width of a table in a file or a pipe, where nothing has to be folded."""

THEME = Theme(
    {
        "cyclopts.name": "bold",
        "cyclopts.required": "bold",
        "cyclopts.required_marker": "bold red",
        "progress.remaining": "none",
        "progress.elapsed": "none",
        "progress.download": "none",
        "progress.percentage": "none",
        "progress.spinner": "magenta",
        "markdown.code": "bold",
    }
)
"""Red and magenta are the colours that can be read on black and on white; NO_COLOR ends both."""

_messages = Console(stderr=True, highlight=False, emoji=False, theme=THEME)
_results = Console(
    highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDE_COLUMNS, theme=THEME
)


def help_console() -> Console:
    """Give the console on which help is drawn."""
    return Console(theme=THEME)


def error(text: str) -> None:
    """Print one line on stderr that says what went wrong and what to do."""
    _messages.print(Text.assemble(("error:", "bold red"), " ", printable(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print one line on stderr that deserves a second look."""
    _messages.print(Text.assemble(("warning:", "magenta"), " ", printable(text)), soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    _messages.print(Text(printable(text)), soft_wrap=True)


def printable(text: str) -> str:
    """Give text, such as a file's name, that no terminal takes for commands."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def result(text: RenderableType) -> None:
    """Print a line or a table on stdout."""
    _results.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)


def plain(text: str) -> None:
    """Print text on stdout as it is, without colour or wrapping: for machines and files."""
    _results.out(text, highlight=False)


def engine_line(engine: Engine) -> None:
    """Tell on stderr which model runs where."""
    runner = engine.runner
    note(f"model {runner.info.name} on {runner.device.label}, {runner.precision}, {runner.runtime}")


def project_line(project: Path, writer: str) -> str:
    """Give the line that says how to go on with a project."""
    file = project / "project.qpproj"
    if writer == "paquo":
        return f"open {file} in QuPath to review the nuclei"
    return (
        f"open {file} in QuPath, then run Automate > Project scripts > import_nuclei for the "
        f"project; {project / 'README.txt'} says how"
    )


def usage_error(problem: CycloptsError) -> UsageError:
    """Give what the command line parser complains about as one line."""
    text = " ".join(str(problem).split()).partition(" Available commands")[0]
    if isinstance(problem.__cause__, ValidationError):
        first = problem.__cause__.errors()[0]
        option = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        text = f"--{option} {first['input']!r}: {first['msg']}"
    return UsageError(text.rstrip("."), "See nucliseg-qp --help.")


class BatchView:
    """Progress of a run: a live bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    images : int
        Number of images of the run.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._number = 0
        self._name = ""
        self._nuclei = 0
        self._stage = ""
        self._done = self._total = 0
        self._began = self._told = time.monotonic()
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[nuclei]}"),
            TimeRemainingColumn(),
            console=_messages,
            transient=True,
            disable=not _messages.is_terminal,
        )
        self._task = self._live.add_task("starting", total=None, nuclei="")

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop drawing."""
        self._live.stop()

    def image(self, path: Path) -> None:
        """Begin an image."""
        self._number += 1
        self._name, self._nuclei = path.name, 0
        self._began = self._told = time.monotonic()
        self._live.reset(self._task, description=self._title("opening"), total=None, nuclei="")

    def stage(self, name: str, total: int) -> None:
        """Begin a step of ``total`` pieces."""
        self._stage, self._done, self._total = name, 0, total
        self._live.reset(self._task, description=self._title(name), total=total, nuclei="")

    def advance(self, pieces: int = 1, nuclei: int = 0) -> None:
        """Tell that pieces are done and how many nuclei they gave."""
        self._done += pieces
        self._nuclei += nuclei
        rate = self._nuclei / max(time.monotonic() - self._began, 0.1)
        told = f"{self._nuclei:,} nuclei, {rate:,.0f}/s" if self._nuclei else ""
        self._live.update(self._task, advance=pieces, nuclei=told)
        if not _messages.is_terminal and time.monotonic() - self._told > PLAIN_EVERY_SECONDS:
            self._told = time.monotonic()
            note(f"{self._title(self._stage)}: {self._done}/{self._total} {told}".rstrip())

    def finished(self, outcome: ImageOutcome) -> None:
        """End an image."""
        if outcome.problem:
            error(outcome.problem)
        else:
            note(f"{self._title('done')}: {outcome.nuclei:,} nuclei in {outcome.seconds:.1f} s")

    def _title(self, stage: str) -> str:
        return f"[{self._number}/{self._images}] {self._name}: {stage}"
