"""The keypoint network in ONNX Runtime, float32 on the CPU."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, cast

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from nucliseg_qp.keypoints.unet import KeypointUNet

__all__ = ["OnnxNet"]

_OPSET = 17
_SIZES = {0: "n", 2: "h", 3: "w"}


class OnnxNet:
    """A folded float32 network in ONNX Runtime; called with and giving what the network does.

    Parameters
    ----------
    net : KeypointUNet
        From `KeypointUNet.folded`, float32, on the CPU.
    threads : int
        CPU threads.

    Raises
    ------
    UsageError
        When ONNX Runtime is not installed.
    """

    def __init__(self, net: KeypointUNet, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError(
                "keypoints.runtime = 'onnx' needs ONNX Runtime, which is not installed",
                "pip install 'nucliseg-qp[onnx]', or leave keypoints.runtime at auto.",
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(
            _graph(net), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the float32 logits and the last features of float32 (n, 3, h, w)."""
        import torch

        logits, features = self._session.run(None, {"image": x.contiguous().numpy()})
        return torch.from_numpy(logits), torch.from_numpy(features)


def _graph(net: KeypointUNet) -> bytes:
    import torch

    plain = cast("KeypointUNet", net.to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]

    class Maps(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return plain.maps(x)

    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript, takes ten times as long and gives the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Maps(),
            (torch.zeros(1, 3, 64, 64),),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=["logits", "features"],
            dynamic_axes={"image": _SIZES, "logits": _SIZES, "features": _SIZES},
        )
    return stream.getvalue()
