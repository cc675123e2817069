"""Small data to train on, small trainings, and a watcher that remembers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2

from nucliseg_qp.training.coco import TileRecord, write_coco
from nucliseg_qp.training.fit_settings import FitSettings
from nucliseg_qp.training.looks import plain_look
from nucliseg_qp.training.session import Session, SessionSettings
from nucliseg_qp.training.synthetic import draw_field

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 128


def write_data(folder: Path) -> Path:
    """Write converted data: two training tiles and one validation tile of other slides."""
    (folder / "images").mkdir(parents=True)
    for number, split in enumerate(("train", "train", "validation", "test")):
        field = draw_field(number, (SIDE, SIDE), 0.5, plain_look())
        points = field.points[((field.points > 0) & (field.points < SIDE)).all(axis=1)]
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), field.image[..., ::-1])
        facts = (name, SIDE, (SIDE, SIDE), 0.5, "mine", f"s{number}", name, (0, 0))
        write_coco(folder, split, [TileRecord(*facts, points, (None,) * len(points))], "x")
    return folder


def tiny(data: Path, out: Path, **changes) -> FitSettings:
    given = FitSettings(
        out=out,
        name="tiny",
        own=(data,),
        shares={"own": 0.8, "synthetic": 0.2},
        width=8,
        steps=8,
        seconds=120.0,
        batch_size=4,
        crop_px=64,
        canvas_px=96,
        bank_size=8,
        workers=0,
        bfloat16=False,
        learning_rate=1e-2,
    )
    return replace(given, **changes)


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, ...]] = []
        self.checks: list[int] = []

    def step(self, *values: float) -> None:
        self.steps.append(values)

    def checked(self, step: int, figures: dict[str, float]) -> None:
        assert 0.0 <= figures["f1"] <= 1.0
        self.checks.append(step)


def session(out: Path, watcher=None, **settings) -> Session:
    return Session(SessionSettings(out=out, **{"check_steps": 4, **settings}), watcher)
