"""Make the sample projects: images with known truth, a QuPath project with the nuclei found.

    python sample_projects/make_samples.py ki67_synthetic FOLDER
    python sample_projects/make_samples.py ki67_synthetic FOLDER --renew

The second form also rewrites the sample's expected_counts.json; run it after a change of the model
or of a default.  Everything is made from seeds: the images are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nucliseg_qp.annotate import annotate_images
from nucliseg_qp.batch import Job
from nucliseg_qp.config import Settings
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.outputs import make_folder, whole_file
from nucliseg_qp.pipeline import Engine
from nucliseg_qp.training.looks import plain_look
from nucliseg_qp.training.slides import SlideTruth, write_slide

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SAMPLES", "SampleImage", "expected_path", "make_sample"]

MPP = 0.25
Counts = dict[str, int]


@dataclass(frozen=True)
class SampleImage:
    """One image to draw; density as in `write_slide`, share of positive nuclei from 0 to 1."""

    name: str
    seed: int
    nuclei_per_tile: float
    positive_share: float
    size_px: int = 768


SAMPLES: Mapping[str, tuple[SampleImage, ...]] = {
    "ki67_synthetic": (
        SampleImage("low", seed=101, nuclei_per_tile=200, positive_share=0.08),
        SampleImage("medium", seed=102, nuclei_per_tile=300, positive_share=0.25),
        SampleImage("high", seed=103, nuclei_per_tile=400, positive_share=0.6),
    ),
}
"""Images by name of the sample; a folder of that name holds its README and expected counts."""


def expected_path(sample: str) -> Path:
    """Give where the counts of a sample are kept."""
    return Path(__file__).parent / sample / "expected_counts.json"


def make_sample(sample: str, folder: Path) -> dict[str, dict[str, Counts]]:
    """Write ``images`` and ``project`` into a folder.

    Returns
    -------
    dict
        By image file: ``truth`` and ``found``, each the number of nuclei of every class.
    """
    images = make_folder(folder / "images")
    paths = {images / f"{one.name}.ome.tif": one for one in SAMPLES[sample]}
    truth = {path.name: _true_counts(_draw(path, one)) for path, one in paths.items()}
    job = Job(Engine.start(Settings()), Scope())
    outcomes = annotate_images(list(paths), folder / "project", job, "files")
    return {
        one.path.name: {"truth": truth[one.path.name], "found": dict(one.counts)}
        for one in outcomes
    }


def _draw(path: Path, image: SampleImage) -> SlideTruth:
    look = replace(plain_look(), positive_fraction=image.positive_share)
    size = image.size_px
    return write_slide(path, size, size, MPP, image.seed, image.nuclei_per_tile, look)


def _true_counts(truth: SlideTruth) -> Counts:
    x, y = truth.points.T
    inside = (x >= 0) & (x < truth.width_px) & (y >= 0) & (y < truth.height_px)
    positive = int((truth.classes[inside] > 0).sum())
    return {"Negative": int(inside.sum()) - positive, "Positive": positive}


def main() -> None:
    """Make one sample and print its counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sample", choices=SAMPLES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--renew", action="store_true", help="rewrite expected_counts.json")
    args = parser.parse_args()
    text = json.dumps(make_sample(args.sample, args.folder), indent=2) + "\n"
    print(text, end="")
    if args.renew:
        with whole_file(expected_path(args.sample)) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
