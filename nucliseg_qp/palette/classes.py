"""The classes a nucleus can get, the rule that decides, and the TOML files that hold both."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nucliseg_qp.errors import UsageError
from nucliseg_qp.extensions import RULES, extension_names, load_extension
from nucliseg_qp.palette.problems import first_problem
from nucliseg_qp.palette.rules import (
    DAB_OD_MEAN,
    NearestColour,
    OpticalDensity,
    Rule,
    hsv_from_rgb,
    hsv_point,
)
from nucliseg_qp.palette.stains import STAIN_COLUMNS
from nucliseg_qp.palette.user import user_palette, user_palettes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nucliseg_qp.nuclei import Nuclei

__all__ = [
    "CLASS_MARGIN",
    "Palette",
    "PathClass",
    "available_palettes",
    "load_palette",
]

CLASS_MARGIN = "NucliSeg: Class margin"
"""Measurement by which a reviewer sorts nuclei by doubt: 0 is a coin toss."""

_LARGEST_FILE_BYTES = 1_000_000
_MENDING = "Mend the file; the shipped presets show the format."


@dataclass(frozen=True, slots=True)
class PathClass:
    """A class as QuPath knows it.

    Parameters
    ----------
    name : str
        One part of a QuPath classification, without ``:``.
    color_rgb : tuple of int
        Red, green and blue, 0 to 255.
    """

    name: str
    color_rgb: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Palette:
    """Classes and the rule that tells them apart.

    Parameters
    ----------
    name : str
        Name of the preset or stem of the file.
    classes : tuple of PathClass
        In the order of the rule's indices.
    rule : Rule
        ``NearestColour``, ``OpticalDensity``, or one that another package adds.
    sha256 : str
        Of the file it was read from.
    """

    name: str
    classes: tuple[PathClass, ...]
    rule: Rule
    sha256: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(one.name for one in self.classes)

    def classify(self, nuclei: Nuclei) -> Nuclei:
        """Give the table with a class for each nucleus and the measurement ``CLASS_MARGIN``.

        Raises
        ------
        UsageError
            When the table lacks a measurement the rule reads.
        """
        features = nuclei.measurements
        missing = [name for name in self.rule.measurements if name not in features]
        if missing:
            raise UsageError(
                f"palette {self.name} needs the measurement {missing[0]!r}",
                f"There are: {', '.join(features) or 'none'}.",
            )
        index, margin = self.rule.classify(features)
        return nuclei.with_classes(self.names, index).with_measurements({CLASS_MARGIN: margin})


def available_palettes() -> tuple[str, ...]:
    """Name the palettes that ship with the package, sorted."""
    files = resources.files("nucliseg_qp.palette").joinpath("presets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files))


def load_palette(name_or_path: str | Path) -> Palette:
    """Read a shipped palette by name, or one's own by name or path.

    Parameters
    ----------
    name_or_path : str or Path
        One of ``available_palettes()``, the path of a TOML file, or one of ``user_palettes()``;
        the comments in ``presets/*.toml`` describe the format.

    Raises
    ------
    UsageError
        When there is no such palette, or the file is broken; the message names line or field.

    Examples
    --------
    >>> from nucliseg_qp import load_palette
    >>> load_palette("dab-intensity").names
    ('Negative', '1+', '2+', '3+')
    """
    name, path = str(name_or_path), Path(name_or_path)
    presets = available_palettes()
    if name in presets:
        preset = resources.files("nucliseg_qp.palette").joinpath("presets", f"{name}.toml")
        return _parse(preset.read_bytes(), name, f"palette {name}")
    if not path.is_file():
        path = _of_user(name, presets)
    try:
        with path.open("rb") as file:
            return _parse(file.read(_LARGEST_FILE_BYTES + 1), path.stem, f"palette {path}")
    except OSError as error:
        raise UsageError(f"palette {path} cannot be read ({error.strerror})", "") from None


def _of_user(name: str, presets: tuple[str, ...]) -> Path:
    if name in user_palettes():
        return user_palette(name)
    own = f" Your own are: {', '.join(user_palettes())}." if user_palettes() else ""
    raise UsageError(
        f"palette {name!r} is neither a shipped palette nor a file",
        f"Shipped are: {', '.join(presets)}.{own}",
    )


class _ClassEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    color: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
    threshold: Annotated[float | None, Field(alias="from")] = None
    references_rgb: list[
        Annotated[list[Annotated[float, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
    ] = []

    @field_validator("name")
    @classmethod
    def _for_qupath(cls, name: str) -> str:
        # QuPath joins the parts of a name with ": ", strips blanks and reads no class from null.
        if not name.strip() or name != name.strip():
            raise ValueError("must not be empty nor begin or end with a blank")
        if ":" in name or not name.isprintable():
            raise ValueError("must not hold ':' or a line break")
        if name in ("Unclassified", "null"):
            raise ValueError("is how QuPath shows objects without a class; choose another name")
        return name


class _PaletteFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    rule: str
    measurement: str | None = None
    settings: dict[str, Any] = {}
    classes: Annotated[list[_ClassEntry], Field(alias="class", min_length=2, max_length=1000)]


def _parse(content: bytes, name: str, what: str) -> Palette:
    if len(content) > _LARGEST_FILE_BYTES:
        raise UsageError(f"{what} is larger than 1 MB", _MENDING)
    try:
        raw = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{what} is not TOML: {error}", _MENDING) from None
    try:
        file = _PaletteFile.model_validate(raw)
    except ValidationError as error:
        problem = first_problem(error, raw, _PaletteFile, _ClassEntry)
        raise UsageError(f"{what}: {problem}", _MENDING) from None
    _check_unique([entry.name for entry in file.classes], what)
    rule = _rule(file, what)
    classes = tuple(
        PathClass(one.name, (one.color[0], one.color[1], one.color[2])) for one in file.classes
    )
    return Palette(name, classes, rule, hashlib.sha256(content).hexdigest())


def _check_unique(names: Sequence[str], what: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(f"{what}: class {number + 1} repeats the name {name!r}", _MENDING)


def _rule(file: _PaletteFile, what: str) -> Rule:
    own: dict[str, Callable[[_PaletteFile, str], Rule]] = {
        "optical-density": _density_rule,
        "nearest-color": _colour_rule,
    }
    if file.rule not in own:
        return _added_rule(file, what, tuple(own))
    if file.settings:
        raise UsageError(f"{what}: {file.rule} takes no settings", _MENDING)
    return own[file.rule](file, what)


def _added_rule(file: _PaletteFile, what: str, own: tuple[str, ...]) -> Rule:
    added = extension_names(RULES)
    if file.rule not in added:
        known = ", ".join((*own, *added))
        raise UsageError(f"{what}: there is no rule {file.rule!r}", f"There are: {known}.")
    try:
        rule: Rule = load_extension(RULES, file.rule)(file.settings, len(file.classes))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{what}: {file.rule} cannot use its settings ({error!r})", "") from None
    return rule


def _density_rule(file: _PaletteFile, what: str) -> OpticalDensity:
    measurement = file.measurement or DAB_OD_MEAN
    if measurement not in STAIN_COLUMNS:
        raise UsageError(
            f"{what}: measurement = {measurement!r} is not an optical density",
            f"Choose one of: {', '.join(STAIN_COLUMNS)}.",
        )
    lower = -np.inf
    for number, entry in enumerate(file.classes, start=1):
        label = f"{what}: class {number} ({entry.name!r})"
        if entry.references_rgb:
            raise UsageError(f"{label} has references_rgb, which optical-density ignores", _MENDING)
        if (entry.threshold is None) != (number == 1):
            raise UsageError(f"{label}: the first class has no `from`, all others do", _MENDING)
        if entry.threshold is not None and entry.threshold <= lower:
            raise UsageError(f"{label} from = {entry.threshold}: not above {lower}", _MENDING)
        lower = lower if entry.threshold is None else entry.threshold
    return OpticalDensity(np.array([one.threshold for one in file.classes[1:]]), measurement)


def _colour_rule(file: _PaletteFile, what: str) -> NearestColour:
    if file.measurement is not None:
        raise UsageError(f"{what}: nearest-color takes no measurement", _MENDING)
    for number, entry in enumerate(file.classes, start=1):
        label = f"{what}: class {number} ({entry.name!r})"
        if entry.threshold is not None:
            raise UsageError(f"{label} has `from`, which nearest-color ignores", _MENDING)
        if not entry.references_rgb:
            raise UsageError(f"{label} has no references_rgb", _MENDING)
    hsv = hsv_from_rgb(np.array([ref for one in file.classes for ref in one.references_rgb]))
    owners = np.repeat(np.arange(len(file.classes)), [len(c.references_rgb) for c in file.classes])
    return NearestColour(hsv_point(*hsv.T), owners.astype(np.int16))
