"""The workers of a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nucliseg_qp.errors import NucliSegError, UsageError
from nucliseg_qp.workers.shared import Pending, SharedWork

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from nucliseg_qp.config import Settings
    from nucliseg_qp.engine import Engine

__all__ = ["DaskWorkers"]

Result = TypeVar("Result")


class DaskWorkers(SharedWork):
    """The workers of a Dask cluster, each with this package installed and the images at hand.

    Parameters
    ----------
    engine : Engine
        Model, palette and settings.
    scheduler : str
        Address of the scheduler, such as ``tcp://10.0.0.5:8786``.
    timeout : str
        How long to wait for its answer.

    Raises
    ------
    UsageError
        When dask is not installed or nobody answers at the address.
    """

    def __init__(self, engine: Engine, scheduler: str, timeout: str = "15s") -> None:
        super().__init__(engine, _Cluster(_connect(scheduler, timeout), engine.settings))


class _Cluster:
    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings.model_dump_json()
        device = settings.keypoints.device
        self._resources = {"GPU": 1} if device.startswith(("cuda", "mps")) else None

    @property
    def size(self) -> int:
        threads: dict[str, int] = self._client.nthreads()  # type: ignore[no-untyped-call]
        return max(1, sum(threads.values()))

    def submit(self, function: Callable[..., Result], *arguments: object) -> Pending[Result]:
        # Not pure: the same call on another day may find another file under the same name.
        future = self._client.submit(
            function, self._settings, *arguments, pure=False, resources=self._resources
        )

        def wait() -> Result:
            from distributed import KilledWorker

            try:
                result: Result = future.result()
            except KilledWorker:
                raise NucliSegError(
                    "a task of the Dask cluster lost its worker too often",
                    "Workers are killed where memory is short: give them more of it. How often is "
                    "too often is `distributed.scheduler.allowed-failures` of the scheduler.",
                ) from None
            return result

        return Pending(wait, future.release)

    def close(self) -> None:
        # The cluster itself stays as it is.
        self._client.close()  # type: ignore[no-untyped-call]


def _connect(scheduler: str, timeout: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "--scheduler needs dask, which is not installed", "pip install 'nucliseg-qp[dask]'"
        ) from None
    try:
        return Client(scheduler, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler} ({error})", "Check --scheduler."
        ) from None
