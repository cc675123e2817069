"""Progress on stderr: a live line on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nucliseg_qp.cli.show import error, messages, note, printable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from rich.progress import ProgressColumn

    from nucliseg_qp.batch import ImageOutcome

__all__ = ["BatchView", "CountView", "TrainView"]

PLAIN_EVERY_SECONDS = 10.0


class _LiveView:
    """Draws while a block runs."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._told = time.monotonic()
        # On the console of the messages, which then go above the line and not through it.
        self._live = Progress(
            *columns, console=messages, transient=True, disable=not messages.is_terminal
        )

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

    def _tell(self, text: str) -> None:
        """Print a line where nothing is drawn, unless the last one is but seconds old."""
        if not messages.is_terminal and time.monotonic() - self._told > PLAIN_EVERY_SECONDS:
            self._told = time.monotonic()
            note(text)


class BatchView(_LiveView):
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
        self._began = time.monotonic()
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[nuclei]}"),
            TimeRemainingColumn(),
        )
        self._task = self._live.add_task("starting", total=None, nuclei="")

    def image(self, path: Path) -> None:
        """Begin an image."""
        self._number += 1
        self._name, self._nuclei = printable(path.name), 0
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
        self._tell(f"{self._title(self._stage)}: {self._done}/{self._total} {told}".rstrip())

    def finished(self, outcome: ImageOutcome) -> None:
        """End an image."""
        if outcome.problem:
            error(outcome.problem)
        else:
            note(f"{self._title('done')}: {outcome.nuclei:,} nuclei in {outcome.seconds:.1f} s")
        if outcome.note:
            note(f"{self._title('note')}: {outcome.note}")

    def _title(self, stage: str) -> str:
        return f"[{self._number}/{self._images}] {self._name}: {stage}"


class CountView(_LiveView):
    """Progress of work whose end is not known: a live line, or plain lines now and then.

    Parameters
    ----------
    title : str
        What is being done.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._items = self._nuclei = 0
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        self._task = self._live.add_task(title, total=None)

    def advance(self, name: str, nuclei: int = 0) -> None:
        """Tell that an image is done and how many nuclei it had."""
        self._items += 1
        self._nuclei += nuclei
        text = f"{self._title}: {self._items} images, {self._nuclei:,} nuclei, last {name}"
        self._live.update(self._task, description=text)
        self._tell(text)


class TrainView(_LiveView):
    """Progress of a training: how much of the budget is used, the loss, and the time left."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._task = self._live.add_task("preparing the data", total=1.0)

    def step(self, step: int, loss: float, share: float, seconds_left: float) -> None:
        """Tell that a step is done, its loss, the share of the budget used and the time left."""
        text = f"step {step}, loss {loss:.4f}"
        self._live.update(self._task, description=text, completed=share)
        self._tell(f"{text}, {100 * share:.0f} % done, {_duration(seconds_left)} left")

    def checked(self, step: int, figures: dict[str, float]) -> None:
        """Tell the figures on the validation data."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        note(f"step {step}: {shown}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
