"""Options several verbs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from cyclopts import Group, Parameter
from pydantic import Field, model_validator

from nucliseg_qp.config import MaskSettings, Settings

__all__ = [
    "JSON_FLAG",
    "AsJson",
    "Config",
    "DryRun",
    "Images",
    "ProfileFile",
    "RegionText",
    "SaidSettings",
    "SlideMpp",
    "WholeProject",
    "Within",
]

JSON_FLAG = "--json"
AsJson = Annotated[
    bool,
    Parameter(
        name=JSON_FLAG, negative=(), help="Print the result as one JSON object, for a program."
    ),
]
Images = Annotated[list[Path], Parameter(negative=())]
SlideMpp = Annotated[
    float | None, Parameter(help="Pixel size in um to assume whatever the file says.")
]
RegionText = Annotated[
    str | None,
    Parameter(
        allow_leading_hyphen=True,
        help="Only this rectangle: x,y,width,height in full-resolution pixels.",
    ),
]
Within = Annotated[Path | None, Parameter(help="Only inside the polygons of this GeoJSON file.")]
Config = Annotated[
    Path | None,
    Parameter(name=("--config", "-c"), help="TOML with settings; flags win over it."),
]
DryRun = Annotated[
    bool, Parameter(negative=(), help="Print the merged settings and the plan, and stop.")
]
ProfileFile = Annotated[
    Path | None,
    Parameter(
        name="--profile",
        help="Write to this JSON file where time and memory went; it names no file or image.",
    ),
]

_MASKS: Any = Settings.model_fields["masks"].metadata[0]


class _SaidMasks(MaskSettings):
    @model_validator(mode="after")
    def _leaves_nuclei(self) -> Self:
        # Of two settings that fit, one may come from a file: looked at when they are merged.
        return self


class SaidSettings(Settings):
    """All settings of a run."""

    masks: Annotated[_SaidMasks, _MASKS] = Field(default_factory=_SaidMasks)


_PROJECT = Group("Whole project: when the image given is a QuPath project", sort_key=0)
_Many = Parameter(group=_PROJECT, negative=(), consume_multiple=False)
_Flag = Parameter(group=_PROJECT, negative=())


@Parameter(name="*")
@dataclass(frozen=True)
class WholeProject:
    """What is done to a whole project.

    Parameters
    ----------
    scope
        image, tissue, annotations, class:NAME or name:NAME (annotations of a class or a name).
    image
        Only these images: a name, a pattern with * or ?, or # and a number; may be repeated.
    metadata
        Only images with this metadata: KEY=VALUE, the value may be a pattern; may be repeated.
    again
        Analyse also images that are done.
    replace_all
        Replace all nuclei in the scope, also those that people changed, drew or deleted.
    yes
        Do not ask before --replace-all.
    apply_staged
        Analyse nothing; write the results that wait because somebody saved meanwhile.
    """

    scope: Annotated[str, Parameter(group=_PROJECT)] = "image"
    image: Annotated[list[str], _Many] = field(default_factory=list)
    metadata: Annotated[list[str], _Many] = field(default_factory=list)
    again: Annotated[bool, _Flag] = False
    replace_all: Annotated[bool, _Flag] = False
    yes: Annotated[bool, _Flag] = False
    apply_staged: Annotated[bool, _Flag] = False
