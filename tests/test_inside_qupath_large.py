"""A result of 200,000 nuclei inside a real QuPath."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from qupath_samples import CLASSES, some_nuclei
from script_samples import HELLO, project_with, use_fake

from nucliseg_qp.nuclei import Nuclei, nucleus_ids
from nucliseg_qp.qupath.geojson import write_geojson
from nucliseg_qp.qupath.results import Area

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

COUNT, ACROSS, STEP_PX, SIDE_PX = 200_000, 450, 5, 2304
BOX = [[0, 0], [SIDE_PX, 0], [SIDE_PX, SIDE_PX], [0, SIDE_PX], [0, 0]]
AREA = Area(
    "11111111-1111-4111-8111-111111111111", "all", {"type": "Polygon", "coordinates": [BOX]}
)
SEND = (
    "import shutil\n"
    "out = json.load(open(sys.argv[2]))['output']\n"
    "shutil.copytree({!r}, out, dirs_exist_ok=True)\n"
    "print(json.dumps({{'event': 'result', 'path': 'x', 'nuclei': 200000}}), flush=True)\n"
)
DETECT = """
def data = getCurrentImageData()
def events = []
data.getHierarchy().addListener({{ events << it }} as
    qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener)
def binding = new Binding(args: ['scope=image'] as String[], out: new StringWriter())
new GroovyShell(this.class.classLoader, binding).evaluate(new File('{}'))
def nuclei = data.getHierarchy().getDetectionObjects()
def different = [nuclei*.getID(), nuclei*.getParent()].collect {{ it.toSet().size() }}
return [nuclei.size(), *different, events.size()]
"""


def many_nuclei():
    """Make small nuclei on a grid."""
    place = np.arange(COUNT)
    xy = 10.0 + STEP_PX * np.stack([place % ACROSS, place // ACROSS], axis=1)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    few = some_nuclei(1)
    return Nuclei(
        x=xy[:, 0],
        y=xy[:, 1],
        score=np.full(COUNT, 0.5, np.float32),
        ring_xy=(xy[:, None] + circle).reshape(-1, 2),
        ring_start=np.arange(COUNT + 1) * 24,
        class_names=few.class_names,
        class_index=(place % 3).astype(np.int16),
        measurements={name: np.ones(COUNT, np.float32) for name in few.measurements},
    )


def test_200_000_nuclei_are_put_in_at_once(qupath_probe, tmp_path):
    image, made, nuclei = tmp_path / "large.ome.tif", tmp_path / "made", many_nuclei()
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    pixels = np.full((SIDE_PX, SIDE_PX, 3), 240, np.uint8)
    tifffile.imwrite(image, pixels, photometric="rgb", metadata={"axes": "YXS", **size})
    made.mkdir()
    parts = [(nuclei, nucleus_ids(image.name, nuclei))]
    files = write_geojson(made / "n.geojson.gz", parts, CLASSES, areas=[AREA], shard=50_000)
    assert len(files) > 3
    manifest = {
        "format": 1, "width_px": SIDE_PX, "height_px": SIDE_PX, "mpp": 0.5, "nuclei": COUNT,
        "files": [{"name": one.name, "bytes": one.stat().st_size} for one in files],
    }  # fmt: skip
    (made / "result.json").write_text(json.dumps(manifest))
    folder = project_with(tmp_path / "p", image)
    use_fake(folder, HELLO + SEND.format(str(made)))
    script = folder / "scripts" / "detect_nuclei.groovy"
    answer = qupath_probe.run_script(folder, DETECT.format(script))
    assert answer["problems"] == []
    assert answer["results"] == [f"[{COUNT}, {COUNT}, 1, 1]"]
