"""Write the model card from the shipped model's description and an evaluation.

    nucliseg-qp evaluate default DATA... -o evaluation --split all
    python docs/make_model_card.py evaluation/evaluation.json

The figures are kept in ``explanation/model-card.json``; without an argument the card is written
from those, as long as they are of this very model. A test fails when the card is of another one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nucliseg_qp.keypoints.model import ModelInfo, load_model
from nucliseg_qp.training.judge import SEAM_UM

CARD = Path(__file__).parent / "explanation" / "model-card.md"
FIGURES = CARD.with_suffix(".json")
NOTE = "<!-- Written by docs/make_model_card.py: change the script, not this page. -->"
COLUMNS = {
    "nuclei": "nuclei",
    "ap_4px": "AP 4 px",
    "ap_8px": "AP 8 px",
    "ap_2um": "AP 2 um",
    "ap_4um": "AP 4 um",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "error_um": "error um",
}

HEAD = """\
{note}
# Model card: {name}

{name} (version {version}) finds the centres of nuclei in brightfield images of tissue stained with
haematoxylin and DAB.

| what | value |
| --- | --- |
| network | U-Net, width {width}, and a perceptron for shapes, {parameters:,} parameters |
| input | RGB, 8 bit, at {mpp:g} um per pixel, any size (trained on {input_px} px) |
| output | points with a score, 0 to 1, and 16 radii; default threshold {threshold:g} |
| trained on | {trained_on} |
| licence of the weights | {licence} |
| sha256 | `{sha256}` |

## Meant for

Counting and outlining nuclei in H-DAB immunohistochemistry (Ki-67, ER, PR and the like), in
research, with a person who looks at the result.

## Not meant for

Diagnosis. Fluorescence, H&E, cytology, chromogens other than DAB, stains of membrane or cytoplasm
where the nucleus is hidden. See [Limits](limits.md).

## What it was trained on

See [What the model has seen](what-the-model-has-seen.md). Nuclei cut by the border of an image and
nuclei hidden under others were not trained on.
"""

FIGURES_HEAD = """
## Figures

Measured by `nucliseg-qp evaluate` ({split} tiles, threshold {threshold:g}, {device}). AP is average
precision within 4 and 8 px of a 256 px tile and within 2 and 4 um; F1, precision and recall match
one to one within {radius:g} um, {border};
*error* is the mean distance of matched centres. *Negative* and *Positive* are nuclei below and
above a DAB optical density of 0.2, unless the annotation says so.

"""

NO_FIGURES = """
## Figures

This version has not been evaluated on annotated tiles. `nucliseg-qp evaluate` does it; the figures
of its training are in [The shipped model](../reference/model.md).
"""


def card(info: ModelInfo, parameters: int, evaluation: dict[str, Any] | None) -> str:
    """Give the page; an evaluation of another model is not used."""
    facts = info.model_dump() | {"trained_on": "; ".join(info.trained_on), "parameters": parameters}
    text = HEAD.format(note=NOTE, **facts)
    if evaluation is None or evaluation["model"]["sha256"] != info.sha256:
        return text + NO_FIGURES
    text += FIGURES_HEAD.format(
        split=evaluation["split"],
        threshold=evaluation["threshold"],
        device=evaluation["model"]["device"],
        radius=evaluation["matching"]["radius_um"],
        border=border(evaluation["matching"]["border_um"]),
    )
    return text + table(evaluation)


def border(border_um: float | None) -> str:
    """Say which strip of the tiles was left out."""
    if border_um is None:
        return f"without {SEAM_UM:g} um along the edges of tiles that were cut from larger images"
    return f"without {border_um:g} um along the edges of tiles" if border_um else "on whole tiles"


def table(evaluation: dict[str, Any]) -> str:
    """Give a row a data set and a row a staining class of it."""
    lines = [
        "| data | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for name, values in evaluation["sets"].items():
        lines.append(row(name, values))
        for kind, part in evaluation["classes"][name].items():
            lines.append(row(f"{name}, {kind}", part))
    return "\n".join(lines) + "\n"


def row(title: str, values: dict[str, float | None]) -> str:
    """Give one line of the table; what does not exist is a dash."""
    cells = []
    for key in COLUMNS:
        value = values.get(key)
        if value is None:
            cells.append("–")
        else:
            cells.append(f"{value:,.0f}" if key == "nuclei" else f"{value:.3f}")
    return f"| {title} | " + " | ".join(cells) + " |"


def stored() -> dict[str, Any] | None:
    """Give the figures kept beside the card."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else None


def keep(path: Path) -> None:
    """Keep what the card needs of an evaluation."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: whole[key] for key in ("model", "split", "threshold", "matching")}
    kept |= {key: whole[key] for key in ("sets", "classes")}
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def page() -> str:
    """Give the card of the shipped model with the figures kept beside it."""
    model = load_model()
    parameters = sum(part.numel() for part in model.net.parameters())
    return card(model.info, parameters, stored())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    CARD.write_text(page(), encoding="utf-8")
