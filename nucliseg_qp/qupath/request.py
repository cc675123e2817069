"""What goes into the Java process and what comes out of it, as JSON files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.qupath.results import ImageResult, WrittenImage

if TYPE_CHECKING:
    from nucliseg_qp.qupath.geojson import RGB

__all__ = ["Request", "read_answer", "read_request", "write_answer"]


@dataclass(frozen=True)
class Request:
    """Images to put into a project.

    Parameters
    ----------
    root : Path
        Folder of the project.
    images : tuple of ImageResult
        What to put into it.
    classes : tuple of (str, (int, int, int))
        Names and colours.
    """

    root: Path
    images: tuple[ImageResult, ...]
    classes: tuple[tuple[str, RGB], ...]

    def to_json(self) -> dict[str, Any]:
        """Give it in types that JSON knows."""
        return {
            "root": str(self.root.resolve()),
            "images": [_image_to_json(image) for image in self.images],
            "classes": [[name, list(rgb)] for name, rgb in self.classes],
        }


def read_request(path: Path) -> Request:
    """Read what `Request.to_json` gave."""
    content = orjson.loads(path.read_bytes())
    return Request(
        root=Path(content["root"]),
        images=tuple(_image_from_json(item) for item in content["images"]),
        classes=tuple((name, (rgb[0], rgb[1], rgb[2])) for name, rgb in content["classes"]),
    )


def write_answer(path: Path, written: list[WrittenImage]) -> None:
    """Write what became of the images."""
    items = [{**asdict(item), "image_path": str(item.image_path)} for item in written]
    path.write_bytes(orjson.dumps(items))


def read_answer(path: Path) -> list[WrittenImage]:
    """Read what `write_answer` wrote.

    Raises
    ------
    QuPathError
        When it is not complete.
    """
    try:
        items = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise QuPathError(f"QuPath's process gave no answer ({error})", "Run again.") from None
    return [WrittenImage(**{**item, "image_path": Path(item["image_path"])}) for item in items]


def _image_to_json(image: ImageResult) -> dict[str, Any]:
    return {
        **asdict(image),
        "image_path": str(image.image_path.resolve()),
        "parts": [str(part.resolve()) for part in image.parts],
    }


def _image_from_json(item: dict[str, Any]) -> ImageResult:
    path, parts = Path(item["image_path"]), tuple(Path(part) for part in item["parts"])
    return ImageResult(**{**item, "image_path": path, "parts": parts})
