"""Progress of the verbs that train, convert and review, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nucliseg_qp.cli.show import PLAIN_EVERY_SECONDS, THEME, note

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["CountView", "TrainView"]

_messages = Console(stderr=True, highlight=False, emoji=False, theme=THEME)


class CountView:
    """Progress of work whose end is not known: a live line, or plain lines now and then.

    Parameters
    ----------
    title : str
        What is being done.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._items = self._nuclei = 0
        self._told = time.monotonic()
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=_messages,
            transient=True,
            disable=not _messages.is_terminal,
        )
        self._task = self._live.add_task(title, total=None)

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

    def advance(self, name: str, nuclei: int = 0) -> None:
        """Tell that an image is done and how many nuclei it had."""
        self._items += 1
        self._nuclei += nuclei
        text = f"{self._title}: {self._items} images, {self._nuclei:,} nuclei, last {name}"
        self._live.update(self._task, description=text)
        if not _messages.is_terminal and time.monotonic() - self._told > PLAIN_EVERY_SECONDS:
            self._told = time.monotonic()
            note(text)


class TrainView:
    """Progress of a training: how much of the budget is used, the loss, and the time left."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=_messages,
            transient=True,
            disable=not _messages.is_terminal,
        )
        self._task = self._live.add_task("preparing the data", total=1.0)

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

    def step(self, step: int, loss: float, share: float, seconds_left: float) -> None:
        """Tell that a step is done, its loss, the share of the budget used and the time left."""
        text = f"step {step}, loss {loss:.4f}"
        self._live.update(self._task, description=text, completed=share)
        if not _messages.is_terminal and time.monotonic() - self._told > PLAIN_EVERY_SECONDS:
            self._told = time.monotonic()
            note(f"{text}, {100 * share:.0f} % done, {_duration(seconds_left)} left")

    def checked(self, step: int, figures: dict[str, float]) -> None:
        """Tell the figures on the validation data."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        note(f"step {step}: {shown}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
