"""How a data set is made: settings and command line in one, without anything heavy to import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the command line needs the type at run time
from typing import Annotated, Literal

from cyclopts import Parameter

from nucliseg_qp.errors import UsageError

__all__ = ["ConvertSettings"]


@dataclass(frozen=True)
class ConvertSettings:
    """How a data set is made; also the options of `data convert`.

    Attributes
    ----------
    out : Path
        Folder to make; must not exist yet, or be empty.
    name : str or None
        Name of the data set, shown by `evaluate`; the folder's own when not given.
    mode : str
        cut makes tiles at --mpp, side by side; resize makes one tile of each image, whatever its
        resolution, and keeps its pixel size.
    mpp : float
        Pixel size in um of the tiles that are cut.
    tile_px : int
        Side of a tile in pixels.
    shares : tuple of float
        Shares of train, validation and test.
    seed : int
        Of the splits.
    group_by : str
        auto, image, a CSV with the columns image and group, or a regular expression that finds the
        slide or patient in an image's name.
    splits : Path or None
        splits.json of an earlier conversion: slides known there stay where they are, also those
        that are not in the data now.
    image_mpp : float or None
        Pixel size in um to assume whatever the images say.
    width_um : float or None
        Width of every image in um, instead of a pixel size.
    allow_empty : bool
        Images without any nucleus are meant so.
    """

    out: Annotated[Path, Parameter(name=("--out", "-o"))]
    name: str | None = None
    mode: Literal["cut", "resize"] = "cut"
    mpp: float = 0.5
    tile_px: int = 256
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: int = 0
    group_by: str = "auto"
    splits: Path | None = None
    image_mpp: Annotated[float | None, Parameter(name="--slide-mpp")] = None
    width_um: Annotated[float | None, Parameter(name="--image-um")] = None
    allow_empty: Annotated[bool, Parameter(negative=())] = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0.05 <= self.mpp <= 10 or not math.isfinite(self.mpp):
            raise UsageError(f"--mpp {self.mpp} is no pixel size", "Give um per pixel, as in 0.5")
        if self.tile_px < 32 or self.tile_px % 8:
            raise UsageError(f"--tile-px {self.tile_px}", "Give a multiple of 8, 32 or more")
        if min(self.shares) < 0 or not 0.99 < sum(self.shares) < 1.01:
            raise UsageError(f"shares {self.shares} do not add up to 1", "As in 0.7 0.15 0.15")
        if self.width_um is not None and not (self.width_um > 0 and math.isfinite(self.width_um)):
            raise UsageError(f"--image-um {self.width_um:g} is no width", "Give um, as in 100")
        if self.image_mpp is not None and self.width_um is not None:
            raise UsageError("both --slide-mpp and --image-um are given", "Give one of them")
