"""Weights as `<name>.safetensors` with everything about them in `<name>.toml` beside it.

Nothing here unpickles: a checkpoint that is a pickle or a zip archive is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nucliseg_qp.errors import ModelError, OutputError

if TYPE_CHECKING:
    from torch import Tensor

    from nucliseg_qp.keypoints.unet import KeypointUNet

__all__ = [
    "DEFAULT_MODEL",
    "KeypointModel",
    "ModelInfo",
    "available_models",
    "load_model",
    "save_model",
]

DEFAULT_MODEL = "ihc-nuclei-5"

_WEIGHTS_DIR = Path(__file__).parent / "weights"
_MAX_WEIGHTS_BYTES = 64 * 2**20
_MAX_INFO_BYTES = 2**20
_PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"}
_CONVERT = "Give a .safetensors file with its .toml beside it, as training writes them"


class ModelInfo(BaseModel):
    """What a keypoint model is, what it wants to see and how its answers are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the model")
    version: str = Field(default="1", description="Version of the weights")
    licence: str = Field(default="unspecified", description="Licence of the weights")
    mpp: float = Field(gt=0.05, lt=10.0, description="um per pixel of the images it works on")
    input_px: int = Field(default=256, ge=32, le=4096, multiple_of=8, description="Training side")
    stride: Literal[2] = Field(default=2, description="Input pixels per heatmap cell")
    halo_px: int = Field(ge=8, le=512, multiple_of=8, description="Margin that makes tiles exact")
    mean: tuple[float, float, float] = Field(description="Subtracted from RGB in 0 to 1")
    std: tuple[float, float, float] = Field(description="RGB is divided by this afterwards")
    threshold: float = Field(gt=0.0, lt=1.0, description="Smallest probability of a nucleus")
    sigma_px: float = Field(gt=0.0, lt=64.0, description="Gaussian of the training targets")
    nms_radius_px: float = Field(gt=0.0, le=12.0, description="Nuclei are at least this far apart")
    width: int = Field(ge=2, le=512, multiple_of=2, description="Channels: half as many at first")
    depth: int = Field(default=1, ge=1, le=16, description="Blocks at an eighth of the resolution")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the weights file")
    trained_on: tuple[str, ...] = Field(default=(), description="Data sets and their licences")
    metrics: dict[str, float] = Field(default_factory=dict, description="Measured by fit")

    @model_validator(mode="after")
    def _positive_std(self) -> ModelInfo:
        if min(self.std) <= 0.0 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, std above 0")
        return self


@dataclass(frozen=True)
class KeypointModel:
    """A network with its description, on the CPU, in eval mode."""

    info: ModelInfo
    net: KeypointUNet


def available_models() -> list[str]:
    """Name the models that ship with the package, in alphabetical order."""
    return sorted(path.stem for path in _WEIGHTS_DIR.glob("*.safetensors"))


def load_model(name_or_path: str | Path | None = None) -> KeypointModel:
    """Load a model that ships with the package, or one from a file.

    Parameters
    ----------
    name_or_path : str or Path, optional
        A name from `available_models`, or the path of a `.safetensors` file; the default
        model when not given.

    Raises
    ------
    ModelError
        When it does not exist, is a pickle, was altered (sha256), is too large, or does not
        fit the network.
    """
    weights = _find(DEFAULT_MODEL if name_or_path is None else name_or_path)
    info = _read_info(weights.with_suffix(".toml"))
    data = _read_bounded(weights, _MAX_WEIGHTS_BYTES)
    _refuse_foreign(weights, data)
    digest = hashlib.sha256(data).hexdigest()
    if digest != info.sha256:
        raise ModelError(
            f"{weights.name} has sha256 {digest[:12]}..., its description says "
            f"{info.sha256[:12]}...",
            "The file was altered or damaged: copy both files again from where they came",
        )
    return KeypointModel(info, _build(weights, info, data))


def save_model(folder: Path, info: ModelInfo, net: KeypointUNet) -> Path:
    """Write `<name>.safetensors` and `<name>.toml` and return the path of the weights.

    The digest, width, depth and halo in the description are those of `net`, whatever `info` says.
    """
    from safetensors.torch import save

    state = {k: v.detach().float().cpu().contiguous() for k, v in net.state_dict().items()}
    data = save(state)
    shape = {"width": net.width, "depth": net.depth, "halo_px": net.halo_px}
    info = info.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), **shape})
    path = folder / f"{info.name}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".toml").write_text(_to_toml(info), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write the model {path}: {error.strerror}", "Choose a folder you may write to"
        ) from error
    return path


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text in available_models():
        return _WEIGHTS_DIR / f"{text}.safetensors"
    path = Path(text)
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise ModelError(f"{path.name} is a pickle checkpoint, which can run code", _CONVERT)
    if path.suffix.lower() != ".safetensors":
        raise ModelError(
            f"no model is called '{text}'",
            f"Choose one of {', '.join(available_models()) or 'none'} or give a .safetensors file",
        )
    if not path.is_file():
        raise ModelError(f"there is no model file {path}", "Check the path")
    return path


def _read_bounded(path: Path, limit_bytes: int) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > limit_bytes:
            raise ModelError(
                f"{path.name} has {size_bytes} bytes, more than the {limit_bytes} allowed",
                "This is not a model of this program",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"there is no {path.name} beside the weights in {path.parent}", _CONVERT
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", "Check the file") from error


def _read_info(path: Path) -> ModelInfo:
    data = _read_bounded(path, _MAX_INFO_BYTES)
    try:
        return ModelInfo.model_validate(tomllib.loads(data.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path.name} is not TOML: {error}", _CONVERT) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "model"
        raise ModelError(f"{path.name}: {where}: {first['msg']}", _CONVERT) from error


def _refuse_foreign(path: Path, data: bytes) -> None:
    """Refuse what only pretends to be safetensors, whose ninth byte opens a JSON object."""
    if data[8:9] == b"{":
        return
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise ModelError(f"{path.name} holds a pickle, which can run code", _CONVERT)
    raise ModelError(f"{path.name} is not a safetensors file", _CONVERT)


def _build(path: Path, info: ModelInfo, data: bytes) -> KeypointUNet:
    from safetensors import SafetensorError
    from safetensors.torch import load

    from nucliseg_qp.keypoints.unet import KeypointUNet

    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path.name} is damaged: {error}", _CONVERT) from error
    net = KeypointUNet(info.width, info.depth)
    _check_state(path, net.state_dict(), state)
    if info.halo_px < net.halo_px:
        raise ModelError(
            f"{path.name}: halo_px {info.halo_px} is less than the network sees, {net.halo_px}",
            f"Set it to {net.halo_px} or more",
        )
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def _check_state(path: Path, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for key in sorted(wanted.keys() ^ found.keys()):
        word = "lacks" if key in wanted else "has an unknown"
        raise ModelError(
            f"{path.name} {word} tensor '{key}', so it is of another network than this version's",
            "Use the version of nucliseg-qp that made it, or train it again with this one",
        )
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise ModelError(
                f"{path.name}: '{key}' is {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}",
                "The width in the description does not fit these weights",
            )
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{path.name}: '{key}' is not finite", "Train the model again")


def _to_toml(info: ModelInfo) -> str:
    """Write TOML; JSON's strings, numbers and arrays are TOML's, too."""
    fields = info.model_dump(mode="json")
    metrics = fields.pop("metrics")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    lines += ["", "[metrics]"]
    lines += [f"{json.dumps(key)} = {json.dumps(float(value))}" for key, value in metrics.items()]
    return "\n".join(lines) + "\n"
