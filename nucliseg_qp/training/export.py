"""A model in formats other programs read, each checked against the model itself.

An exported network takes RGB in 0 to 1, float32 (n, 3, h, w) with h and w multiples of 8, at the
model's um per pixel, and gives the heatmap of probabilities, float32 (n, 1, h / 2, w / 2): the
normalisation and the sigmoid are inside. What is not, peaks and threshold, stands in the TOML.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nucliseg_qp.errors import ModelError, UsageError
from nucliseg_qp.keypoints.model import load_model, save_model
from nucliseg_qp.keypoints.unet import GRID_PX
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.training.looks import random_look
from nucliseg_qp.training.synthetic import draw_field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nucliseg_qp.keypoints.model import KeypointModel, ModelInfo

    Floats = NDArray[np.float32]

__all__ = ["OPSET", "TOLERANCE", "Exported", "Format", "PlainNet", "check_tiles", "export_model"]

Format = Literal["onnx", "torchscript", "safetensors"]

OPSET = 17
"""ONNX operator set; ONNX Runtime reads it since 1.13."""

TOLERANCE = 1e-4
"""Largest difference of two heatmaps (probabilities, float32) that counts as the same."""

_CHECK_SIDES_PX = ((128, 96), (256, 256), (120, 200))


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes
    ----------
    path : Path
        The file.
    difference : float
        Largest difference between its heatmaps and the model's.
    tiles : int
        On how many tiles.
    """

    path: Path
    difference: float
    tiles: int


class PlainNet(nn.Module):
    """A network that needs nothing around it: RGB in 0 to 1 goes in, probabilities come out.

    Parameters
    ----------
    model : KeypointModel
        Its weights are copied, batch norms folded into convolutions.
    """

    def __init__(self, model: KeypointModel) -> None:
        super().__init__()
        self.net = model.net.folded().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(model.info.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.info.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Compute the heatmap."""
        logits: Tensor = self.net((image - self.mean) / self.std)
        return torch.sigmoid(logits)


def export_model(
    model: KeypointModel, out: Path, form: Format, tiles: Sequence[NDArray[np.uint8]] = ()
) -> Exported:
    """Write a model as ONNX, TorchScript or safetensors, with its TOML, and check it.

    Parameters
    ----------
    model : KeypointModel
        From `load_model`.
    out : Path
        Folder to write to.
    form : str
        ``onnx``, ``torchscript`` or ``safetensors``.
    tiles : sequence of NDArray[np.uint8]
        RGB images to check on besides synthetic ones.

    Raises
    ------
    ModelError
        When the written file gives other heatmaps than the model; it is removed then.
    UsageError
        When a package is missing.
    """
    make_folder(out)
    write: Callable[[KeypointModel, Path], tuple[Path, Callable[[Floats], Floats]]] = {
        "onnx": _write_onnx,
        "torchscript": _write_torchscript,
        "safetensors": _write_safetensors,
    }[form]
    path, run = write(model, out)
    images = [*check_tiles(), *(_on_grid(tile) for tile in tiles)]
    difference = max(_difference(model, run, image) for image in images)
    if not difference <= TOLERANCE:
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{path.name} gives heatmaps that differ by {difference:.2g}, more than {TOLERANCE:g}",
            "It was removed; please report this with the versions of torch and onnxruntime",
        )
    return Exported(path, difference, len(images))


def check_tiles() -> list[NDArray[np.uint8]]:
    """Paint three small fields of different shape to check on."""
    rng = np.random.default_rng(17)
    return [draw_field(rng, size, 0.5, random_look(rng)).image for size in _CHECK_SIDES_PX]


def _on_grid(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (length // GRID_PX * GRID_PX for length in tile.shape[:2])
    return np.ascontiguousarray(tile[:height, :width])


def _difference(
    model: KeypointModel, run: Callable[[Floats], Floats], image: NDArray[np.uint8]
) -> float:
    given = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    mean, std = (
        np.array(part, np.float32).reshape(1, 3, 1, 1) for part in (model.info.mean, model.info.std)
    )
    with torch.inference_mode():
        wanted = torch.sigmoid(model.net(torch.from_numpy((given - mean) / std))).numpy()
    found = run(given)
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max())


def _write_onnx(model: KeypointModel, out: Path) -> tuple[Path, Callable[[Floats], Floats]]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", "pip install onnx onnxruntime") from None
    path = out / f"{model.info.name}.onnx"
    sizes = {0: "n", 2: "h", 3: "w"}
    with whole_file(path) as partial:
        with warnings.catch_warnings():
            # The newer exporter needs onnxscript, takes ten times as long and gives the same graph.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                PlainNet(model).eval(),
                (torch.zeros(1, 3, 64, 64),),
                str(partial),
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["heatmap"],
                dynamic_axes={"image": sizes, "heatmap": sizes},
            )
        graph = onnx.load(str(partial))
        onnx.helper.set_model_props(graph, _facts(model.info))
        onnx.checker.check_model(graph)
        onnx.save(graph, str(partial))
    _save_info(model, out)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(image: Floats) -> Floats:
        return np.asarray(session.run(None, {"image": image})[0], np.float32)

    return path, run


def _facts(info: ModelInfo) -> dict[str, str]:
    keys = ("name", "version", "licence", "mpp", "stride", "halo_px", "threshold", "nms_radius_px")
    return {key: str(getattr(info, key)) for key in keys}


def _write_torchscript(model: KeypointModel, out: Path) -> tuple[Path, Callable[[Floats], Floats]]:
    path = out / f"{model.info.name}.torchscript.pt"
    with warnings.catch_warnings(), whole_file(path) as partial:
        # torch advises against TorchScript; some programs read nothing else.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(PlainNet(model).eval(), torch.zeros(1, 3, 64, 64))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(partial), _extra_files=_facts(model.info))
        loaded = torch.jit.load(str(partial))  # type: ignore[no-untyped-call]
    _save_info(model, out)

    def run(image: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(loaded(torch.from_numpy(image)).numpy(), np.float32)

    return path, run


def _write_safetensors(model: KeypointModel, out: Path) -> tuple[Path, Callable[[Floats], Floats]]:
    path = save_model(out, model.info, model.net)
    net = PlainNet(load_model(path)).eval()

    def run(image: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(net(torch.from_numpy(image)).numpy(), np.float32)

    return path, run


def _save_info(model: KeypointModel, out: Path) -> None:
    """Write the model's own TOML beside; the weights it describes are the same numbers."""
    work = make_folder(out / ".info")
    try:
        written = save_model(work, model.info, model.net).with_suffix(".toml")
        written.replace(out / written.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
