"""What QuPath asks of the engine: a request as JSON, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs the type at run time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nucliseg_qp.errors import UsageError

__all__ = ["FORMAT", "EngineRequest", "RequestedImage", "parse_request"]

FORMAT = 1
"""Version of the request, of the events and of the result; a change that breaks scripts adds 1."""

LARGEST_REQUEST_BYTES = 256 << 20

_MEND = "Install the scripts again: nucliseg-qp scripts install PROJECT."


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RequestedImage(_Strict):
    """The image as QuPath has it open.

    Parameters
    ----------
    builder : dict
        QuPath's own description of how it opens the image (``serverBuilder`` of a project).
    width_px, height_px : int
        Size QuPath sees; the engine must see the same.
    mpp_x, mpp_y : float, optional
        Pixel size QuPath knows, in um; without one the file's own is taken.
    """

    builder: dict[str, Any]
    width_px: Annotated[int, Field(gt=0)]
    height_px: Annotated[int, Field(gt=0)]
    mpp_x: Annotated[float | None, Field(gt=0)] = None
    mpp_y: Annotated[float | None, Field(gt=0)] = None


class EngineRequest(_Strict):
    """One image, what to analyse of it and how.

    Parameters
    ----------
    format : int
        ``FORMAT``.
    image : RequestedImage
        The image.
    regions : dict, optional
        GeoJSON with polygons in full-resolution pixels; without it the whole image is analysed.
    config : Path, optional
        TOML with settings.
    settings : dict
        Settings that win over the file, ``{"keypoints": {"device": "cpu"}}``.
    output : Path, optional
        Folder for the result; without one its files travel as events.
    shard : int
        Most nuclei in one file.
    """

    format: Literal[1]
    image: RequestedImage
    regions: dict[str, Any] | None = None
    config: Path | None = None
    settings: dict[str, dict[str, Any]] = {}
    output: Path | None = None
    shard: Annotated[int, Field(ge=1)] = 50_000


def parse_request(text: bytes) -> EngineRequest:
    """Read a request.

    Raises
    ------
    UsageError
        When it is no request of this version; the message names the field.
    """
    if len(text) > LARGEST_REQUEST_BYTES:
        raise UsageError("the request is larger than 256 MiB", "Simplify the annotations.")
    try:
        return EngineRequest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the request"
        raise UsageError(f"{name} in the request from QuPath: {first['msg']}", _MEND) from None
