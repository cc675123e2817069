"""Everything the program shows: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from cyclopts import CycloptsError
    from rich.console import RenderableType

    from nucliseg_qp.batch import ImageOutcome
    from nucliseg_qp.demo import DemoLine
    from nucliseg_qp.doctor import Check
    from nucliseg_qp.pipeline import Engine
    from nucliseg_qp.qupath.scripts import Script

__all__ = [
    "BatchView",
    "check_table",
    "demo_table",
    "engine_line",
    "error",
    "note",
    "outcome_table",
    "plain",
    "project_line",
    "result",
    "script_table",
    "usage_line",
    "warn",
]

PLAIN_EVERY_SECONDS = 10.0
UNKNOWN = "–"
WIDE_COLUMNS = 1000
"""Width of a table in a file or a pipe, where nothing has to be folded."""

_messages = Console(stderr=True, highlight=False, emoji=False)
_results = Console(
    highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDE_COLUMNS
)


def error(text: str) -> None:
    """Print one line on stderr that says what went wrong and what to do."""
    _messages.print(f"[bold red]error:[/] {_safe(text)}", soft_wrap=True)


def warn(text: str) -> None:
    """Print one line on stderr that deserves a second look."""
    _messages.print(f"[yellow]warning:[/] {_safe(text)}", soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    _messages.print(_safe(text), soft_wrap=True)


def _safe(text: str) -> str:
    """Give text, such as a file's name, that neither rich nor a terminal takes for commands."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escape("".join(shown))


def result(text: RenderableType) -> None:
    """Print a line or a table on stdout."""
    _results.print(escape(text) if isinstance(text, str) else text, soft_wrap=True)


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


def usage_line(problem: CycloptsError) -> str:
    """Give what the command line parser complains about as one line."""
    text = " ".join(str(problem).split())
    if isinstance(problem.__cause__, ValidationError):
        first = problem.__cause__.errors()[0]
        option = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        text = f"--{option} {first['input']!r}: {first['msg']}"
    return f"{text.rstrip('.')}. See nucliseg-qp --help."


def outcome_table(outcomes: Sequence[ImageOutcome]) -> Table:
    """Give the table of a run: an image a line."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.counts))
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("image", overflow="fold")
    for title in ("nuclei", *names, "positive %", "tissue mm²", "seconds"):
        grid.add_column(title, justify="right")
    grid.add_column("status")
    for outcome in outcomes:
        known = outcome.status != "failed"
        counts = [outcome.nuclei, *(outcome.counts[name] for name in names)]
        grid.add_row(
            _safe(outcome.path.name),
            *(f"{count:,}" if known else UNKNOWN for count in counts),
            _number(outcome.row()["Positive %"]),
            _area(outcome.tissue_mm2),
            f"{outcome.seconds:.1f}",
            outcome.status,
        )
    return grid


def _area(value_mm2: float | None) -> str:
    return UNKNOWN if value_mm2 is None else f"{value_mm2:.3f}"


def _number(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value == value else UNKNOWN


def demo_table(lines: Sequence[DemoLine]) -> Table:
    """Give the table of the demonstration: what was found beside the truth."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("image", no_wrap=True)
    for title in ("nuclei", "truth", "positive %", "truth %"):
        grid.add_column(title, justify="right", no_wrap=True)
    for line in lines:
        grid.add_row(
            _safe(line.image),
            f"{line.nuclei:,}",
            "unknown" if line.true_nuclei is None else f"{line.true_nuclei:,}",
            _number(line.positive_percent),
            "unknown"
            if line.true_positive_percent is None
            else _number(line.true_positive_percent),
        )
    return grid


def check_table(checks: Sequence[Check]) -> Table:
    """Give the table of the doctor."""
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "status", "seen", "what to do"):
        grid.add_column(title, overflow="fold")
    for check in checks:
        status = f"[{colours[check.status]}]{check.status}[/]"
        grid.add_row(check.name, status, _safe(check.seen), _safe(check.fix))
    return grid


def script_table(scripts: Sequence[Script]) -> Table:
    """Give the table of the scripts for QuPath."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("script", no_wrap=True)
    grid.add_column("what it does", overflow="fold")
    for script in scripts:
        grid.add_row(escape(script.name.removesuffix(".groovy")), escape(script.description))
    return grid


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
