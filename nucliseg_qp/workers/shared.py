"""How pieces of a slide are dealt out to others and put in order again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from nucliseg_qp.work import Inline
from nucliseg_qp.workers.tasks import keypoints_task, nuclei_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.errors import InputError
    from nucliseg_qp.geometry import Tile
    from nucliseg_qp.images.slide import Slide
    from nucliseg_qp.keypoints.search import Keypoints
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.work import TilePlan

__all__ = ["Crew", "Pending", "SharedWork"]

Result = TypeVar("Result")

TILES_A_TASK = 2
WINDOWS_A_TASK = 2
TILES_A_WINDOW = 1
"""About how much a window of the network costs beside a tile of outlines of 1536 px."""
WORTH_TILES = 16
"""Slides with fewer tiles are done before other processes have started."""
AHEAD = 3
"""Tasks waiting per worker, so that none idles while results are written."""


@dataclass(frozen=True)
class Pending(Generic[Result]):
    """A task that was given to a crew; either its result is waited for or it is dropped.

    Parameters
    ----------
    wait : callable
        Gives the result.
    drop : callable
        Tells the crew that nobody wants it any more.
    """

    wait: Callable[[], Result]
    drop: Callable[[], None]

    def __call__(self) -> Result:
        """Wait for the result."""
        return self.wait()


class Crew(Protocol):
    """Somebody who runs functions elsewhere."""

    @property
    def size(self) -> int:
        """Give the number of tasks done at the same time."""
        ...

    def submit(self, function: Callable[..., Result], *arguments: object) -> Pending[Result]:
        """Start ``function(settings_json, *arguments)`` and give what waits for its result."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class SharedWork:
    """Deals pieces out to a crew and gives their results in order; a context manager.

    Parameters
    ----------
    engine : Engine
        Model, palette and settings.
    crew : Crew
        Who does the work; closed at the end.
    """

    def __init__(self, engine: Engine, crew: Crew) -> None:
        self.engine = engine
        self._crew = crew
        self._inline = Inline(engine)

    def __enter__(self) -> Self:
        """Give the workers; those that are processes start with the first large slide."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the crew's work."""
        self._crew.close()

    def keypoints(
        self, slide: Slide, windows: Sequence[Tile], downsample: float
    ) -> Iterator[tuple[int, Keypoints]]:
        """See `nucliseg_qp.work.Workers`."""
        if not self._is_worth_it(slide, len(windows) * TILES_A_WINDOW):
            yield from self._inline.keypoints(slide, windows, downsample)
            return
        pieces = _pieces(windows, WINDOWS_A_TASK)
        tasks = ((slide.opener, some, downsample) for some in pieces)
        for some, found in zip(pieces, self._in_order(keypoints_task, tasks), strict=True):
            yield len(some), found

    def nuclei(
        self, slide: Slide, tiles: Sequence[Tile], plan: TilePlan
    ) -> Iterator[tuple[Tile, Nuclei | InputError]]:
        """See `nucliseg_qp.work.Workers`."""
        if not self._is_worth_it(slide, len(tiles)):
            yield from self._inline.nuclei(slide, tiles, plan)
            return
        pieces = _pieces(tiles, TILES_A_TASK)
        tasks = ((slide.opener, some, plan.near(some)) for some in pieces)
        for done in self._in_order(nuclei_task, tasks):
            yield from done

    def _is_worth_it(self, slide: Slide, tiles: int) -> bool:
        return slide.opener is not None and tiles >= WORTH_TILES

    def _in_order(
        self, function: Callable[..., Result], tasks: Iterable[tuple[object, ...]]
    ) -> Iterator[Result]:
        waiting: deque[Pending[Result]] = deque()
        try:
            for arguments in tasks:
                waiting.append(self._crew.submit(function, *arguments))
                if len(waiting) >= AHEAD * self._crew.size:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            # Of an image that failed: the next one must find the crew as if it had not been.
            for task in waiting:
                task.drop()


def _pieces(items: Sequence[Tile], size: int) -> list[Sequence[Tile]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
