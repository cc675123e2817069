"""Read pixels ahead of the computation, a few pieces at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from nucliseg_qp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["read_ahead"]

Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(
    read: Callable[[Item], Value], items: Iterable[Item], ahead: int = 4, threads: int = 2
) -> Iterator[tuple[Item, Value | InputError]]:
    """Give ``read(item)`` for every item in order, while the next ones are read in threads.

    At most ``ahead`` pieces are held, whatever the number of items.  A piece that cannot be read
    is given as its InputError, so that one damaged place does not end the image.
    """
    waiting: deque[tuple[Item, Future[Value | InputError]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(_try_read, read, item)))
                if len(waiting) > ahead:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _try_read(read: Callable[[Item], Value], item: Item) -> Value | InputError:
    try:
        return read(item)
    except InputError as error:
        return error
