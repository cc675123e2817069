"""Everything that is loaded once and used for every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.palette.stains import StainMatrix

if TYPE_CHECKING:
    from nucliseg_qp.config import Settings
    from nucliseg_qp.keypoints.runtime import KeypointRunner
    from nucliseg_qp.palette.classes import Palette

__all__ = ["Engine"]


@dataclass(frozen=True)
class Engine:
    """Everything that is loaded once and used for every image.

    Parameters
    ----------
    settings : Settings
        All settings.
    runner : KeypointRunner
        The network on its device.
    palette : Palette
        Classes and the rule that tells them apart.
    stains : StainMatrix
        For optical densities.

    Examples
    --------
    >>> from nucliseg_qp import Engine, load_settings
    >>> engine = Engine.start(load_settings(overrides={"keypoints": {"device": "cpu"}}))
    >>> engine.palette.names
    ('Negative', 'Positive')
    >>> engine.runner.device.name
    'cpu'
    """

    settings: Settings
    runner: KeypointRunner
    palette: Palette
    stains: StainMatrix

    @classmethod
    def start(cls, settings: Settings) -> Engine:
        """Load model and palette.

        Raises
        ------
        ModelError, DeviceError, UsageError
            When the model, the device or the palette is not there.
        """
        from nucliseg_qp.keypoints.model import load_model
        from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device

        palette = load_palette(settings.classes.palette)
        wanted = settings.keypoints
        runner = KeypointRunner(
            load_model(wanted.model),
            pick_device(wanted.device),
            wanted.precision,
            threshold=wanted.threshold,
            runtime=wanted.runtime,
        )
        return cls(settings, runner, palette, StainMatrix.from_settings(settings.stains))

    @property
    def mpp(self) -> float:
        """Pixel size in um the network works at."""
        return self.settings.keypoints.mpp or self.runner.info.mpp
