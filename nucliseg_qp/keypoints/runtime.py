"""Run a keypoint model on images: which device, at which precision, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from nucliseg_qp.errors import DeviceError, InputError, UsageError
from nucliseg_qp.keypoints.allocator import keep_freed_memory
from nucliseg_qp.keypoints.unet import GRID_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from nucliseg_qp.keypoints.model import KeypointModel

__all__ = ["Device", "KeypointRunner", "Precision", "Runtime", "pick_device"]

Precision = Literal["auto", "float32", "bfloat16"]
Runtime = Literal["auto", "torch", "onnx"]

_GPU_PIXELS_PER_PASS = 64 * 512 * 512


@dataclass(frozen=True)
class Device:
    """A device that is there.

    Attributes
    ----------
    name : str
        torch's word for it: "cpu", "cuda:0", "mps".
    label : str
        What to print and record, such as "CPU (2 threads)" or the GPU's name.
    """

    name: str
    label: str

    @property
    def is_cpu(self) -> bool:
        """Whether this is the CPU."""
        return self.name == "cpu"


def pick_device(wanted: str = "auto") -> Device:
    """Choose the device to run on.

    Parameters
    ----------
    wanted : str
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "mps".

    Raises
    ------
    DeviceError
        When a device was named and is not there: the CPU never steps in silently.
    """
    found = _devices()
    if wanted == "auto":
        return next(iter(found.values()))
    name = "cuda:0" if wanted == "cuda" else wanted
    if name in found:
        return found[name]
    there = ", ".join(f"{device.name} ({device.label})" for device in found.values())
    raise DeviceError(f"device '{wanted}' is not here", f"Use auto or one of: {there}")


def _devices() -> dict[str, Device]:
    import torch

    found = []
    if torch.cuda.is_available():
        found += [
            Device(f"cuda:{i}", torch.cuda.get_device_name(i))
            for i in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU"))
    found.append(_cpu())
    return {device.name: device for device in found}


def _cpu() -> Device:
    import torch

    threads = torch.get_num_threads()
    return Device("cpu", f"CPU ({threads} thread{'s' if threads > 1 else ''})")


class KeypointRunner:
    """A model made ready for one device.

    Parameters
    ----------
    model : KeypointModel
        From `load_model`.
    device : Device
        From `pick_device`.
    precision : {"auto", "float32", "bfloat16"}
        "auto" takes bfloat16 where the device computes it natively, else float32.
    threads : int, optional
        CPU threads for torch, in the whole process; unchanged when not given.
    threshold : float, optional
        Smallest probability of a nucleus, instead of the model's own.
    runtime : {"auto", "torch", "onnx"}
        What runs the network.  "auto" is torch, which is faster in either precision.

    Raises
    ------
    UsageError
        When the runtime is unknown or not installed, or cannot do what else is asked for.

    Notes
    -----
    On the CPU every image is one pass of its own, so a result never depends, not in one bit,
    on which other images came with it.
    """

    def __init__(
        self,
        model: KeypointModel,
        device: Device,
        precision: Precision = "auto",
        threads: int | None = None,
        threshold: float | None = None,
        runtime: Runtime = "auto",
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        if device.is_cpu:
            keep_freed_memory()
        self.info = model.info
        self.device = _cpu() if device.is_cpu else device
        self.runtime = _pick_runtime(runtime, device, precision)
        self.precision = _pick_precision(precision, device, self.runtime)
        self.threshold = model.info.threshold if threshold is None else threshold
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self._net = _ready(model, self.runtime, dtype, device)
        self._radii = model.net.folded(dtype).radii.to(device.name)

    def detect(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Find the nuclei of each image.

        Parameters
        ----------
        images : NDArray[np.uint8]
            RGB (n, h, w, 3) at the model's um per pixel; h and w multiples of 8.

        Returns
        -------
        list of NDArray[np.float64]
            One (k, 3) array per image: x, y in input pixels (the centre of pixel (0, 0) is
            (0.5, 0.5)) and the score in 0 to 1, ordered by y, then x of the heatmap's cell.

        Raises
        ------
        InputError
            When the shape or type does not fit.
        """
        return [rows[:, :3] for rows in self.find(images)]

    def find(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Find the nuclei of each image and how far they reach.

        Returns
        -------
        list of NDArray[np.float64]
            One (k, 3 + 16) array per image: the columns of `detect`, then the radii in input
            pixels (see `nucliseg_qp.keypoints.radii`).
        """
        _check_images(images)
        pixels = images.shape[1] * images.shape[2]
        per_pass = 1 if self.device.is_cpu else max(1, _GPU_PIXELS_PER_PASS // pixels)
        found: list[NDArray[np.float64]] = []
        for start in range(0, len(images), per_pass):
            found += self._pass(images[start : start + per_pass])
        return found

    def logits(self, images: NDArray[np.uint8]) -> Tensor:
        """Compute float32 logits (n, 1, h / 2, w / 2), on the device, in a single pass."""
        return self._maps(images)[0]

    def _maps(self, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device.name)
            return self._net(pixels.permute(0, 3, 1, 2))

    def _pass(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        import torch

        from nucliseg_qp.keypoints.heatmap import find_peaks

        with torch.inference_mode():
            logits, features = self._maps(images)
            peaks = find_peaks(logits, self.threshold, self.info.nms_radius_px, self.info.stride)
            radii = self._radii(features, peaks.batch, peaks.x, peaks.y)
            table = torch.cat([torch.stack([peaks.x, peaks.y, peaks.score], dim=1), radii], dim=1)
            # Apple's GPUs have no double precision.
            rows = table.cpu().double().numpy()
            counts = torch.bincount(peaks.batch, minlength=len(images)).cpu().numpy()
        return np.split(rows, np.cumsum(counts)[:-1])


def _check_images(images: NDArray[np.uint8]) -> None:
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if not fits:
        raise InputError(
            f"the network got {images.dtype} of shape {images.shape}",
            "It needs 8-bit RGB images (n, h, w, 3)",
        )
    height, width = images.shape[1:3]
    if height % GRID_PX or width % GRID_PX or not height or not width:
        raise InputError(
            f"the network got images of {width} x {height} px",
            f"Pad both sides to a multiple of {GRID_PX}",
        )


def _pick_runtime(wanted: str, device: Device, precision: Precision) -> Literal["torch", "onnx"]:
    if wanted in ("auto", "torch"):
        return "torch"
    if wanted != "onnx":
        raise UsageError(f"there is no runtime '{wanted}'", "Use auto, torch or onnx.")
    if not device.is_cpu or precision == "bfloat16":
        what = f"on {device.name}" if not device.is_cpu else "in bfloat16"
        raise UsageError(
            f"keypoints.runtime = 'onnx' does not run {what}",
            "It computes in float32 on the CPU; leave keypoints.runtime at auto.",
        )
    return "onnx"


def _pick_precision(
    wanted: Precision, device: Device, runtime: Literal["torch", "onnx"]
) -> Literal["float32", "bfloat16"]:
    if runtime == "onnx":
        return "float32"
    return _native_precision(device) if wanted == "auto" else wanted


def _ready(
    model: KeypointModel, runtime: Literal["torch", "onnx"], dtype: torch.dtype, device: Device
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Give what makes logits and features (see `KeypointUNet.maps`) of uint8 (n, 3, h, w)."""
    import torch

    from nucliseg_qp.keypoints.fused import FusedNet, can_fuse

    info = model.info
    if runtime == "torch" and device.is_cpu and can_fuse():
        return FusedNet(model.net.folded(), info.mean, info.std, dtype)
    net: Callable[[Tensor], tuple[Tensor, Tensor]] = model.net.folded(dtype).to(device.name).maps
    if runtime == "onnx":
        from nucliseg_qp.keypoints.onnx import OnnxNet

        net = OnnxNet(model.net.folded(), torch.get_num_threads())
    mean = torch.tensor(info.mean, device=device.name).mul(255).view(1, 3, 1, 1)
    std = torch.tensor(info.std, device=device.name).mul(255).view(1, 3, 1, 1)

    def maps(pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels.float().sub_(mean).div_(std)
        return net(x.to(dtype=dtype, memory_format=torch.channels_last))

    return maps


def _native_precision(device: Device) -> Literal["float32", "bfloat16"]:
    import torch

    if device.is_cpu:
        return "bfloat16" if _cpu_has_bfloat16() else "float32"
    if device.name.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"


def _cpu_has_bfloat16() -> bool:
    """Ask the CPU for AVX512-BF16 or AMX: without them bfloat16 is slower than float32."""
    import torch

    capabilities = torch.backends.cpu.get_cpu_capability()
    if not capabilities.startswith("AVX512"):
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
