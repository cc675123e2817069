"""The stream of training crops as a Lightning data module, so that searches can resize it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from nucliseg_qp.training.canvases import CanvasBank
from nucliseg_qp.training.lightning import Batch, CropStream

if TYPE_CHECKING:
    from nucliseg_qp.training.canvases import CanvasSource
    from nucliseg_qp.training.fit_settings import FitSettings

__all__ = ["CropData"]


class CropData(LightningDataModule):
    """The endless stream of crops, remade when a search changes `batch_size`.

    Parameters
    ----------
    settings
        Of the training.
    sources
        Source of canvases and its share, by name.
    seed
        Of all crops.
    """

    def __init__(
        self, settings: FitSettings, sources: dict[str, tuple[CanvasSource, float]], seed: int
    ) -> None:
        super().__init__()
        self.batch_size = settings.batch_size
        self._settings, self._sources, self._seed = settings, sources, seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Make the stream; it draws its canvases anew."""
        how = self._settings
        bank = CanvasBank(
            self._sources, how.canvas_px, how.mpp, how.bank_size, self._seed, how.smudges
        )
        stream = CropStream(
            bank, self.batch_size, how.crop_px, how.sigma_px, how.augmentation, self._seed
        )
        return DataLoader(stream, batch_size=None, num_workers=how.workers)
