"""Names of classes as people type them: capitals and blanks do not make another class."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import combinations
from typing import TYPE_CHECKING

from nucliseg_qp.training.staining import STAINED_NAMES, STAININGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nucliseg_qp.training.coco import TileRecord

__all__ = ["look_alikes", "spelled_alike", "spellings"]

_ALIKE = 0.85
_CANONICAL = {name.casefold(): name for name in STAINED_NAMES}


def spelled_alike(records: Sequence[TileRecord]) -> tuple[list[TileRecord], list[str]]:
    """Give tiles with one spelling of each class, and notes on what a person should look at."""
    used = Counter(name for record in records for name in record.classes if name)
    chosen = spellings(used)
    notes = _changes(chosen) + look_alikes(name for name in chosen.values() if name)
    named = [
        replace(record, classes=tuple(chosen.get(name or "") for name in record.classes))
        for record in records
    ]
    return named, notes


def spellings(used: Mapping[str, int]) -> dict[str, str | None]:
    """Give for each name the spelling to use; None for one that is only blanks.

    Parameters
    ----------
    used : mapping of str to int
        How often each name occurs. Of equal names the most frequent is used; *Negative*,
        *Positive* and the grades, also as the last part of a name, are spelled as in QuPath.
    """
    alike = defaultdict[str, list[str]](list)
    for name in sorted(used, key=lambda name: (-used[name], name)):
        alike[_plain(name).casefold()].append(name)
    chosen = {key: _canonical(names[0]) for key, names in alike.items()}
    return {name: chosen[_plain(name).casefold()] or None for name in used}


def _plain(name: str) -> str:
    return ": ".join(" ".join(part.split()) for part in name.split(":"))


def _canonical(name: str) -> str:
    before, colon, last = _plain(name).rpartition(": ")
    return before + colon + _CANONICAL.get(last.casefold(), last)


def _changes(chosen: Mapping[str, str | None]) -> list[str]:
    other = defaultdict[str, list[str]](list)
    for name, spelling in sorted(chosen.items()):
        if spelling not in (None, name):
            other[str(spelling)].append(f"'{name}'")
    return [f"class {', '.join(names)} is written '{to}'" for to, names in sorted(other.items())]


def look_alikes(names: Iterable[str]) -> list[str]:
    """Give a note for each two classes that look like one, misspelt."""
    every = sorted({*names, *STAININGS})
    return [
        f"the classes '{one}' and '{other}' are nearly the same: mend one if they are meant as one"
        for one, other in combinations(every, 2)
        if not {one, other} <= set(STAININGS) and _are_near(one, other)
    ]


def _are_near(one: str, other: str) -> bool:
    first, second = one.casefold(), other.casefold()
    # Grades and numbered classes differ in their digits and are not misspelt.
    if [c for c in first if c.isdigit()] != [c for c in second if c.isdigit()]:
        return False
    parts = first.split(": "), second.split(": ")
    if len(parts[0]) != len(parts[1]):
        return False
    return all(SequenceMatcher(None, a, b).ratio() >= _ALIKE for a, b in zip(*parts, strict=True))
