"""QuPath projects with synthetic slides, made without Java, and what to ask of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import orjson

from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.training.slides import write_slide

ODD_NAME = "it's a, slide №{} – ü.ome.tif"
PASSING = ("time", "run", "device")


def make_project(home: Path, count: int, px: int = 256, *, density: float = 400.0) -> Path:
    """Make a project of ``count`` slides; every path holds blanks, commas, quotes and non-ASCII."""
    images, root = home / "bilder, ü", home / "it's, a pröject"
    images.mkdir(parents=True)
    root.mkdir()
    project = ProjectFile(ProjectFolder(root))
    for number in range(count):
        path = images / ODD_NAME.format(number)
        write_slide(path, px, px, 0.25, number, density)
        project.add(path)
    project.save()
    return root


def add_view(root: Path, name: str, **builder: object) -> int:
    """Add an image to a project that is a view of its first one."""
    path = root / "project.qpproj"
    content = json.loads(path.read_text())
    inner = content["images"][0]["serverBuilder"]
    content["lastID"] += 1
    item = {
        "serverBuilder": {**builder, "builder": inner},
        "entryID": content["lastID"],
        "imageName": name,
        "metadata": {},
    }
    content["images"].append(item)
    path.write_text(json.dumps(content))
    return content["lastID"]


def state(probe, root: Path) -> dict:
    """Give all of a project that must be the same after two runs."""
    project = probe.project(root)
    for image in project["images"]:
        image["metadata"] = {
            key: value for key, value in image["metadata"].items() if not key.endswith(PASSING)
        }
        image["detections"].sort(key=lambda item: item["id"])
        known = {item["id"] for item in image["annotations"]}
        for item in image["annotations"] + image["detections"]:
            # The root of all has another id every time.
            item["parent"] = item["parent"] if item["parent"] in known else "root"
        image["uri"] = [Path(uri).name for uri in image["uri"]]
    return project


def files(root: Path) -> list[str]:
    """Name the files of a project, runs by any other name."""
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return sorted(re.sub(r"runs/.*\.json", "runs/x.json", name) for name in found)


def numbers(root: Path, entry_id: int) -> dict:
    """Give the numbers of an image."""
    return orjson.loads(ProjectFolder(root).result(entry_id).read_bytes())


def statuses(root: Path) -> list[str]:
    """Give the status of each image as QuPath shows it."""
    content = json.loads((root / "project.qpproj").read_text())
    return [one["metadata"].get("NucliSeg status", "") for one in content["images"]]
