"""A project with our scripts in it, and engines that misbehave."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from nucliseg_qp.demo import _write_real
from nucliseg_qp.qupath.engine_place import local_engine
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.qupath.script_install import install_scripts
from nucliseg_qp.qupath.scripts import groovy_source

if TYPE_CHECKING:
    from pathlib import Path

HELLO = 'print(json.dumps({"event": "hello", "format": 1, "version": "0"}), flush=True)\n'
PROGRESS = (
    'print(json.dumps({"event": "progress", "stage": "keypoints", "step": 1, "steps": 2, '
    '"done": 1, "total": 9, "nuclei": 0, "seconds_left": 5.0}), flush=True)\n'
)


def tissue_image(path: Path) -> Path:
    """Write the sample image of skimage, 512 x 512 px at 0.5 um."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_real(path)
    return path


def project_with(folder: Path, *images: Path) -> Path:
    """Make a project of images with our scripts installed."""
    folder.mkdir(parents=True, exist_ok=True)
    project = ProjectFile(ProjectFolder(folder))
    for image in images:
        project.add(image)
    project.save()
    install_scripts(folder, *local_engine(None, None))
    return folder


def use_engine(folder: Path, *command: str, **about: object) -> None:
    """Let the project's scripts start another engine."""
    path = folder / "nucliseg" / "engine.json"
    content = json.loads(path.read_text())
    content["engines"] = {"any": {"command": list(command), **about}}
    path.write_text(json.dumps(content))


def use_fake(folder: Path, body: str) -> None:
    """Let the project's scripts start a Python script that stands in for the engine."""
    path = folder / "fake engine.py"
    head = "import json, os, pathlib, signal, subprocess, sys, time\n"
    path.write_text(head + body, encoding="utf-8")
    use_engine(folder, sys.executable, str(path))


def step(name: str, *args: str) -> dict:
    """Give a step of `QuPathProbe.run_steps`: one of our scripts."""
    return {"script": groovy_source(name), "args": list(args)}


def code(text: str) -> dict:
    """Give a step that does what a person would do by hand."""
    return {"script": text}


DRAW = """
def roi = ROIs.createRectangleROI({}, {}, {}, {}, ImagePlane.getDefaultPlane())
def area = PathObjects.createAnnotationObject(roi)
area.setName('{}')
addObject(area)
"""


def draw(x: int, y: int, width: int, height: int, name: str) -> dict:
    """Draw a rectangle."""
    return code(DRAW.format(x, y, width, height, name))
