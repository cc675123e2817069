"""QuPath's own positive cell detection, headless, in a Java process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.qupath.install import QuPathInstall, find_qupath
from nucliseg_qp.qupath.reading import read_geojson

SCRIPT = Path(__file__).with_name("qupath_detection.groovy")

DEFAULTS: dict[str, object] = {
    "detectionImageBrightfield": "Optical density sum",
    "requestedPixelSizeMicrons": 0.5,
    "backgroundRadiusMicrons": 8.0,
    "medianRadiusMicrons": 0.0,
    "sigmaMicrons": 1.5,
    "minAreaMicrons": 10.0,
    "maxAreaMicrons": 400.0,
    "threshold": 0.1,
    "maxBackground": 2.0,
    "watershedPostProcess": True,
    "excludeDAB": False,
    "cellExpansionMicrons": 0.0,
    "includeNuclei": True,
    "smoothBoundaries": True,
    "makeMeasurements": True,
    "thresholdCompartment": "Nucleus: DAB OD mean",
    "thresholdPositive1": 0.2,
    "thresholdPositive2": 0.4,
    "thresholdPositive3": 0.6,
    "singleThreshold": True,
}
"""As QuPath comes, but nuclei are not expanded to cells."""


@dataclass(frozen=True)
class Run:
    """One detection: seconds on the clock, seconds of CPU, and the nuclei."""

    seconds: float
    cpu_s: float
    nuclei: Nuclei


def qupath_with_launcher() -> QuPathInstall | None:
    """Find a QuPath that a command can start."""
    install = find_qupath()
    return install if install and _launcher(install).is_file() else None


def _launcher(install: QuPathInstall) -> Path:
    return install.folder / "bin" / "QuPath"


def detections(
    install: QuPathInstall, image: Path, mpp: float, settings: Sequence[Mapping[str, object]]
) -> list[Run]:
    """Detect in the whole image with one setting after the other, all in one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = folder / "settings.txt"
        lines.write_text("".join(json.dumps(one) + "\n" for one in settings), encoding="utf-8")
        given = [part for value in (mpp, lines, folder) for part in ("-a", str(value))]
        command = [_launcher(install), "script", "-i", image, *given, SCRIPT]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # QuPath exits with 0 whatever happens in a script, so what counts is what it wrote.
        found = [read_geojson(folder / f"{k}.geojson").nuclei for k in range(len(settings))]
    times = re.findall(r"^BENCH (\S+) (\S+)", done.stdout, re.MULTILINE)
    return [Run(float(s), float(cpu), one) for (s, cpu), one in zip(times, found, strict=True)]
