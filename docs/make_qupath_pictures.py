"""Draw what a QuPath project holds after `detect_nuclei`: docs/pictures/inside-qupath.jpg.

Needs an installed QuPath: the script runs inside it, headless, and the project is read back with
paquo. No display is involved, so the picture shows QuPath's data and not its window.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from skimage.data import immunohistochemistry

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

READ = """
import json, sys
from paquo.projects import QuPathProject
with QuPathProject(sys.argv[1], mode="r") as project:
    hierarchy = project.images[0].hierarchy
    found = hierarchy.detections
    shown = [[one.roi.exterior.coords[:], one.path_class.color.to_rgb()] for one in found]
    areas = [one.roi.exterior.coords[:] for one in hierarchy.annotations]
open(sys.argv[2], "w").write(json.dumps([shown, areas]))
"""


def detected(folder: Path) -> list:
    """Draw two annotations, run the script, read the project."""
    from conftest import QuPathProbe
    from script_samples import draw, project_with, step, tissue_image

    project = project_with(folder / "project", tissue_image(folder / "ihc_colon.ome.tif"))
    probe = QuPathProbe(folder / "log")
    said = probe.run_steps(
        project,
        draw(30, 40, 210, 240, "Region 1"),
        draw(270, 200, 215, 280, "Region 2"),
        step("detect_nuclei.groovy", "scope=all"),
    )
    probe.close()
    print(said[-1]["text"] + said[-1]["problem"])
    answer = folder / "answer.json"
    subprocess.run([sys.executable, "-c", READ, project, answer], check=True, stdout=sys.stderr)
    return json.loads(answer.read_text())


def main() -> None:
    """Write the picture."""
    scale = 2
    picture = Image.fromarray(immunohistochemistry()).resize((1024, 1024), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    with tempfile.TemporaryDirectory() as folder:
        nuclei, areas = detected(Path(folder))
    for ring, colour in nuclei:
        pen.line([(scale * x, scale * y) for x, y in ring], fill=tuple(colour), width=2)
    for ring in areas:
        pen.line([(scale * x, scale * y) for x, y in ring], fill=(200, 160, 0), width=4)
    picture.save(DOCS / "pictures" / "inside-qupath.jpg", quality=88)


if __name__ == "__main__":
    main()
