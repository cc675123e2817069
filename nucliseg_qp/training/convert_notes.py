"""What a person should know about splits: who was drawn anew, who waits, what stays empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucliseg_qp.training.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nucliseg_qp.training.convert_settings import ConvertSettings

__all__ = ["kept_notes", "split_notes"]

_SHOWN = 5


def kept_notes(
    settings: ConvertSettings,
    groups: Collection[str],
    kept: Collection[str],
    absent: Collection[str],
) -> list[str]:
    """Tell how the slides of the data and those of an earlier ``splits.json`` differ."""
    if settings.splits is None:
        return []
    fresh = sorted(set(groups) - set(kept))
    notes = []
    if absent:
        notes.append(f"{settings.splits} also has {_listed(absent)}: not in this data, kept there")
    if fresh:
        notes.append(f"{settings.splits} does not have {_listed(fresh)}: drawn anew")
    return notes


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def split_notes(
    tiles: Mapping[str, int], splits: Mapping[str, str], settings: ConvertSettings, fields: int
) -> list[str]:
    """Tell of splits without any slide, and of tiles that may belong together.

    Parameters
    ----------
    tiles, splits : mapping
        Tiles and split of each slide or patient.
    settings : ConvertSettings
        How the data set is made.
    fields : int
        Images without a pixel size of their own of which nobody says what they belong to.
    """
    used = {splits[name] for name in tiles}
    shares = zip(SPLITS, settings.shares, strict=True)
    empty = [split for split, share in shares if share > 0 and split not in used]
    notes = []
    if empty:
        stay = "stays" if len(empty) == 1 else "stay"
        slides = f"{len(tiles)} slide(s) or patient(s)"
        reason = (
            f"only {slides}" if len(tiles) < len(SPLITS) else f"{slides} where --splits has them"
        )
        notes.append(f"{reason}: {' and '.join(empty)} {stay} empty")
    notes += _group_notes(tiles, settings, fields)
    return notes


def _group_notes(tiles: Mapping[str, int], settings: ConvertSettings, fields: int) -> list[str]:
    if settings.group_by != "auto" or len(tiles) < 2:
        return []
    advice = "if some are of the same slide or patient, say --group-by"
    if max(tiles.values()) == 1:
        return [f"every image gave one tile and was taken for a slide of its own; {advice}"]
    if fields > 1:
        # A slide states its pixel size; what does not is most often a field cut from one.
        seen = f"{fields} images have no pixel size of their own, as fields cut from slides"
        return [f"{seen}, and each was taken for a slide of its own; {advice}"]
    return []
