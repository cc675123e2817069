"""Every setting of the engine, once: this model is the TOML, the flags and the provenance.

Lengths are in micrometres, so that a setting means the same on every scanner.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path  # noqa: TC003 - pydantic needs the type at run time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nucliseg_qp.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

__all__ = [
    "ClassSettings",
    "KeypointSettings",
    "MaskSettings",
    "OutputSettings",
    "Settings",
    "StainSettings",
    "TileSettings",
    "TissueSettings",
    "WorkSettings",
    "load_settings",
    "settings_toml",
]

_SEE = "`nucliseg-qp settings` prints all there are."

Vector = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]
PixelSize = Annotated[float, Field(ge=0.05, le=10)]
LengthUm = Annotated[float, Field(gt=0, le=100)]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        # At the first value, not at import: --help needs no validators.
        defer_build=True,
    )


def _flag(*names: str) -> Parameter:
    """Give a setting a short flag besides its full one, such as --keypoints.device."""
    return Parameter(alias=names)


def _group(title: str, order: int) -> Parameter:
    return Parameter(group=Group(title, sort_key=order), negative_iterable=())


class TissueSettings(_Frozen):
    """Where on the slide to look."""

    find: bool = True
    """Skip glass; off analyses every pixel."""
    resolution_um: Annotated[float, Field(ge=0.5, le=200)] = 8.0
    """Pixel size in um at which tissue is told from glass."""
    min_area_um2: Annotated[float, Field(ge=0)] = 2000.0
    """Specks of tissue smaller than this are dust."""
    margin_um: Annotated[float, Field(ge=0, le=2000)] = 24.0
    """Rim kept around tissue, so that no nucleus at its border is lost."""


class TileSettings(_Frozen):
    """How the slide is cut; the nuclei found do not depend on it."""

    size_px: Annotated[Annotated[int, Field(ge=64, le=8192)], _flag("--tile-size")] = 1024
    """Side of a tile's core in pixels of the resolution at which outlines are made."""
    origin_x_px: int = 0
    """Shift of the tile grid to the right, in pixels of the full-resolution image."""
    origin_y_px: int = 0
    """Shift of the tile grid downwards, in the same pixels."""


class KeypointSettings(_Frozen):
    """How nucleus centres are found."""

    model: Annotated[str | None, _flag("--model", "-m")] = None
    """Name of a shipped model or path of a .safetensors file; none takes the default."""
    mpp: Annotated[PixelSize | None, _flag("--mpp")] = None
    """Pixel size in um the network works at; none takes the one it was trained for."""
    threshold: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, _flag("--threshold")] = None
    """Lowest score of a nucleus; none takes the model's own."""
    device: Annotated[str, _flag("--device")] = "auto"
    """auto, cpu, cuda, cuda:N or mps; what is asked for and missing is an error."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network; auto takes the fastest of equal quality."""
    runtime: Literal["auto", "torch", "onnx"] = "auto"
    """What runs the network: torch, or ONNX Runtime on the CPU; auto takes torch."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Windows handed to the device at once."""
    window_px: Annotated[int, Field(ge=128, le=4096, multiple_of=8)] = 1056
    """Side of a window in network pixels; larger ones spend less on their halo."""


class MaskSettings(_Frozen):
    """How far each nucleus reaches: the seeded watershed."""

    mpp: PixelSize = 0.5
    """Pixel size in um of masks and measurements; finer slides are reduced by a whole factor."""
    smooth_um: Annotated[float, Field(ge=0, le=20)] = 0.25
    """Standard deviation of the Gaussian that quiets chromatin texture."""
    otsu_offset: Annotated[float, Field(ge=-255, le=255)] = 6.0
    """Added to the slide's Otsu threshold (grey levels of 255), which says what is dark and, with
    ``local_contrast``, how pale a border may be; higher includes paler rims."""
    seed_share: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """Share of the way from a keypoint to the border it expects that surely is nucleus."""
    reach_share: Annotated[float, Field(ge=1, le=4)] = 1.3
    """A nucleus ends within this multiple of the way to the border it expects, ..."""
    margin_um: Annotated[float, Field(ge=0, le=20)] = 0.5
    """... and this many um."""
    reach_um: LengthUm = 10.0
    """No part of a nucleus is farther than about this from its keypoint."""
    local_contrast: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Where between a nucleus's own darkness (0) and the background (1) its border lies."""
    min_area_um2: Annotated[float, Field(ge=0)] = 4.0
    """Nuclei with a smaller outline are left out."""
    max_area_um2: Positive = 250.0
    """Larger outlines are cut back to a disc of this area around their keypoint."""
    halo_um: Positive = 20.0
    """Rim around a tile that its outlines may use, at least twice the reach."""

    @model_validator(mode="after")
    def _leaves_nuclei(self) -> Self:
        if self.min_area_um2 >= self.max_area_um2:
            raise UsageError(
                f"setting masks.min_area_um2 = {self.min_area_um2:g} leaves no nucleus",
                f"Give less than masks.max_area_um2 = {self.max_area_um2:g}.",
            )
        return self


class StainSettings(_Frozen):
    """Stain vectors and background for optical densities; QuPath's defaults for H-DAB."""

    hematoxylin: Vector = (0.65111, 0.70119, 0.29049)
    """Red, green and blue part of haematoxylin's optical density."""
    dab: Vector = (0.26917, 0.56824, 0.77759)
    """Red, green and blue part of DAB's optical density."""
    background: Vector = (255.0, 255.0, 255.0)
    """Red, green and blue of empty glass, 0 to 255."""

    @field_validator("background")
    @classmethod
    def _bright(cls, value: Vector) -> Vector:
        if not all(1 <= channel <= 255 for channel in value):
            raise ValueError("a background channel lies between 1 and 255")
        return value


class ClassSettings(_Frozen):
    """Which class a nucleus gets."""

    palette: Annotated[str, _flag("--palette", "-p")] = "hsv"
    """Name of a shipped palette or path of a TOML file with one's own classes."""


class OutputSettings(_Frozen):
    """What is written."""

    preview_px: Annotated[int, Field(ge=256, le=8192)] = 2000
    """Longest side of the preview picture."""
    shard: Annotated[int, Field(ge=1)] | None = None
    """Nuclei in one GeoJSON file; none writes one file however many there are."""


class WorkSettings(_Frozen):
    """Who does the work."""

    workers: Annotated[Annotated[int, Field(ge=1, le=256)] | None, _flag("--workers", "-j")] = None
    """Processes on this machine; none takes one per core or GPU where a slide is worth it."""
    scheduler: Annotated[str | None, _flag("--scheduler")] = None
    """Address of a Dask scheduler, such as tcp://host:8786; its workers do the work."""


@Parameter(name="*")
class Settings(_Frozen):
    """All settings of a run."""

    keypoints: Annotated[KeypointSettings, _group("Keypoints: where the nuclei are", 1)] = Field(
        default_factory=KeypointSettings
    )
    masks: Annotated[MaskSettings, _group("Masks: how far each nucleus reaches", 2)] = Field(
        default_factory=MaskSettings
    )
    classes: Annotated[ClassSettings, _group("Classes: which colour class", 3)] = Field(
        default_factory=ClassSettings
    )
    stains: Annotated[StainSettings, _group("Stains: optical densities", 4)] = Field(
        default_factory=StainSettings
    )
    tissue: Annotated[TissueSettings, _group("Tissue: where to look", 5)] = Field(
        default_factory=TissueSettings
    )
    tiles: Annotated[TileSettings, _group("Tiles: how the slide is cut", 6)] = Field(
        default_factory=TileSettings
    )
    output: Annotated[OutputSettings, _group("Output: what is written", 7)] = Field(
        default_factory=OutputSettings
    )
    work: Annotated[WorkSettings, _group("Work: who does it", 8)] = Field(
        default_factory=WorkSettings
    )


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Merge a TOML file and overrides over the defaults.

    Parameters
    ----------
    path : Path, optional
        TOML with the tables ``[tissue]``, ``[tiles]``, ``[keypoints]``, ``[masks]``,
        ``[stains]``, ``[classes]``, ``[output]`` and ``[work]``.
    overrides : dict, optional
        ``{"masks": {"reach_um": 8.0}}`` and the like; wins over the file.

    Raises
    ------
    UsageError
        When the file cannot be read or a setting is unknown or out of range; the message names it.

    Examples
    --------
    >>> from nucliseg_qp import load_settings
    >>> settings = load_settings(overrides={"masks": {"reach_um": 8}})
    >>> settings.masks.reach_um, settings.classes.palette
    (8.0, 'hsv')
    """
    merged = _read_toml(path) if path is not None else {}
    for section, values in (overrides or {}).items():
        merged[section] = {**merged.get(section, {}), **values}
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            place = f"settings file {path}: " if path is not None else ""
            raise _unknown_setting(name, place) from None
        raise UsageError(f"setting {name} = {first.get('input')!r}: {first['msg']}", _SEE) from None


def _unknown_setting(name: str, place: str) -> UsageError:
    """Give the error for a setting that does not exist; it names the one that was likely meant."""
    section, _, last = name.rpartition(".")
    every = [f"{head}.{one}" for head, model in Settings() for one in type(model).model_fields]
    own = [one for one in every if one.startswith(f"{section}.")]
    likely = (_nearest_setting(last, group) for group in (own, Settings.model_fields, every))
    meant = next(filter(None, likely), "")
    hint = f"Did you mean {meant}? {_SEE}" if meant else _SEE
    return UsageError(f"{place}there is no setting {name}", hint)


def _nearest_setting(last: str, names: Iterable[str]) -> str:
    by_last = {one.rpartition(".")[2]: one for one in names}
    return by_last.get(nearest_name(last, by_last), "")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"settings file {path} cannot be read ({error.strerror})", "Check --config."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"settings file {path} is not TOML: {error}", "Mend it.") from None


def settings_toml(settings: Settings) -> str:
    """Give settings as TOML with a comment on each; what is not set is a comment itself."""
    lines = []
    for section, model in settings:
        lines += [f"[{section}]  # {(type(model).__doc__ or '').splitlines()[0]}"]
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            text = f"# {name} =" if value is None else f"{name} = {_toml_value(value)}"
            lines += [f"# {' '.join((field.description or '').split())}", text]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    # Strings, numbers, booleans and arrays of numbers look alike in JSON and TOML.
    return json.dumps(list(value) if isinstance(value, tuple) else value)
