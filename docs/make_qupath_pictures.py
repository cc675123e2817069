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

import tifffile
from PIL import Image, ImageDraw

from nucliseg_qp.training.slides import write_slide

SIDE_PX = 1024
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
    from script_samples import draw, project_with, step

    project = project_with(folder / "project", folder / "synthetic_ki67.ome.tif")
    probe = QuPathProbe(folder / "log")
    said = probe.run_steps(
        project,
        draw(60, 80, 420, 480, "Region 1"),
        draw(540, 400, 430, 560, "Region 2"),
        step("detect_nuclei.groovy", "scope=all"),
    )
    probe.close()
    print(said[-1]["text"] + said[-1]["problem"])
    answer = folder / "answer.json"
    subprocess.run([sys.executable, "-c", READ, project, answer], check=True, stdout=sys.stderr)
    return json.loads(answer.read_text())


def main() -> None:
    """Write the picture."""
    scale = 1
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "synthetic_ki67.ome.tif"
        write_slide(slide, SIDE_PX, SIDE_PX, 0.25, seed=7, nuclei_per_tile=300)
        picture = Image.fromarray(tifffile.imread(slide))
        nuclei, areas = detected(Path(folder))
    pen = ImageDraw.Draw(picture)
    for ring, colour in nuclei:
        pen.line([(scale * x, scale * y) for x, y in ring], fill=tuple(colour), width=2)
    for ring in areas:
        pen.line([(scale * x, scale * y) for x, y in ring], fill=(200, 160, 0), width=4)
    picture.save(DOCS / "pictures" / "inside-qupath.jpg", quality=88)


if __name__ == "__main__":
    main()
