"""Options several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["Config", "DryRun", "Images", "RegionText", "SlideMpp", "Within"]

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
