"""The work in several processes of this machine, or on the machines of a Dask cluster.

Both are handed the same two functions of `nucliseg_qp.workers.tasks`; what comes back is put in
order again, so a run gives the same bits whoever did the work.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nucliseg_qp.work import Inline
from nucliseg_qp.workers.cluster import DaskWorkers
from nucliseg_qp.workers.processes import ProcessWorkers, process_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nucliseg_qp.engine import Engine
    from nucliseg_qp.work import Workers

__all__ = ["DaskWorkers", "ProcessWorkers", "open_workers"]


@contextmanager
def open_workers(engine: Engine) -> Iterator[Workers]:
    """Give the workers the settings ask for: a cluster, processes, or this process alone.

    Raises
    ------
    UsageError
        When a cluster is asked for and cannot be reached.
    """
    wanted = engine.settings.work
    if wanted.scheduler is not None:
        with DaskWorkers(engine, wanted.scheduler) as cluster:
            yield cluster
        return
    count = wanted.workers or process_count(engine)
    if count == 1:
        yield Inline(engine)
        return
    with ProcessWorkers(engine, count) as processes:
        yield processes
