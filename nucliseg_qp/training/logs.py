"""Where the figures of a training go: a CSV always, TensorBoard and wandb as asked for."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import Logger

from nucliseg_qp.errors import OutputError, UsageError
from nucliseg_qp.outputs import make_folder, whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nucliseg_qp.training.session import SessionSettings

__all__ = ["MetricsLog", "log_picture", "metrics_file", "new_loggers"]


def metrics_file(out: Path) -> Path:
    """Name the CSV of a training's figures."""
    return out / "logs" / "metrics.csv"


class MetricsLog(Logger):
    """A CSV that holds every row as soon as it is logged, whatever ends the training.

    Parameters
    ----------
    path : Path
        The file; a column that is new goes behind those that are there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """Of the folder."""
        return self._path.parent.name

    @property
    def version(self) -> str:
        """There is but one."""
        return ""

    def log_hyperparams(self, params: object, *_: object, **__: object) -> None:
        """Leave them out: the checkpoint holds what the training was made with."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row, readable when this returns.

        Raises
        ------
        OutputError
            When the disk is full or the like.
        """
        row = {"step": 0 if step is None else step, **metrics}
        titles = self._titles()
        if new := [name for name in row if name not in titles]:
            titles += new
            self._write(titles, self._rows())
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, titles).writerow(row)
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be written ({error.strerror})",
                "Free the disk, then go on with --resume",
            ) from None

    def begin(self, first_step: int) -> None:
        """Keep the rows up to a step; what came after it is trained again, or is of another run."""
        make_folder(self._path.parent)
        kept = [row for row in self._rows() if first_step and int(row["step"]) <= first_step]
        self._write(self._titles() if kept else [], kept)

    def _titles(self) -> list[str]:
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _rows(self) -> list[dict[str, str]]:
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            # A row that was cut off by a kill has no step, or no number there.
            return [row for row in csv.DictReader(file) if str(row.get("step")).isdigit()]

    def _write(self, titles: list[str], rows: list[dict[str, str]]) -> None:
        with (
            whole_file(self._path, lasting=False) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, titles, extrasaction="ignore")
            if titles:
                writer.writeheader()
            writer.writerows(rows)


def new_loggers(settings: SessionSettings) -> list[Logger]:
    """Make the loggers: CSV always, others as asked for.

    Raises
    ------
    UsageError
        When the package of one that was asked for is not installed.
    """
    made: list[Logger] = [MetricsLog(metrics_file(settings.out))]
    try:
        if settings.tensorboard:
            from lightning.pytorch.loggers import TensorBoardLogger

            made.append(TensorBoardLogger(str(settings.out), name="tensorboard", version=""))
        if settings.wandb is not None:
            from lightning.pytorch.loggers import WandbLogger

            made.append(WandbLogger(project=settings.wandb, save_dir=str(settings.out)))
    except ModuleNotFoundError:
        name = "tensorboard" if len(made) < 1 + settings.tensorboard else "wandb"
        raise UsageError(f"{name} is not installed", f"pip install {name}, or leave it") from None
    return made


def log_picture(loggers: list[Logger], path: Path, step: int) -> None:
    """Hand a picture to the loggers that show pictures."""
    import cv2

    for each in loggers:
        kind = type(each).__name__
        if kind == "TensorBoardLogger":
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is not None:
                each.experiment.add_image(  # type: ignore[attr-defined]
                    "heatmaps", pixels[..., ::-1], step, dataformats="HWC"
                )
        elif kind == "WandbLogger":
            each.log_image("heatmaps", [str(path)], step=step)  # type: ignore[attr-defined]
