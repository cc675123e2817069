"""A palette as JSON, so that scripts inside QuPath classify exactly as the engine does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nucliseg_qp.errors import UsageError
from nucliseg_qp.palette.classes import CLASS_MARGIN
from nucliseg_qp.palette.rules import NearestColour, OpticalDensity

if TYPE_CHECKING:
    from nucliseg_qp.palette.classes import Palette
    from nucliseg_qp.palette.rules import Rule

__all__ = ["palette_json"]


def palette_json(palette: Palette) -> dict[str, Any]:
    """Give classes, colours and rule in types that JSON knows, numbers to the last digit.

    Raises
    ------
    UsageError
        When the rule is of a kind that scripts do not know.
    """
    return {
        "format": 1,
        "name": palette.name,
        "margin": CLASS_MARGIN,
        "measurements": list(palette.rule.measurements),
        "classes": [{"name": one.name, "color": list(one.color_rgb)} for one in palette.classes],
        **_rule_json(palette.rule),
    }


def _rule_json(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, NearestColour):
        points = rule.references.tolist()
        return {"rule": "nearest-color", "references": points, "owners": rule.owners.tolist()}
    if isinstance(rule, OpticalDensity):
        return {"rule": "optical-density", "thresholds": rule.thresholds.tolist()}
    raise UsageError(f"a rule of kind {type(rule).__name__} cannot go to QuPath", "Use another.")
