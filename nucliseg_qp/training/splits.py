"""Who trains and who judges: whole slides or patients, never single tiles, fixed in a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.outputs import whole_file
from nucliseg_qp.training.sources import bare_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = [
    "SPLITS",
    "assign_splits",
    "grouping",
    "load_splits",
    "match_splits",
    "save_splits",
]

SPLITS = ("train", "validation", "test")

_MEND = "Use the splits.json of an earlier conversion"


def assign_splits(
    weights: Mapping[str, int],
    shares: tuple[float, float, float],
    seed: int,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give each group its split, in alphabetical order of the groups.

    Parameters
    ----------
    weights : mapping of str to int
        Tiles of each group (slide or patient).
    shares : tuple of float
        Wanted shares of train, validation and test.
    seed : int
        Equal seeds and groups give equal splits.
    known : mapping of str to str, optional
        Groups that were assigned before keep their split.

    Notes
    -----
    Each split with a share gets a group as long as there are enough: the first goes to training,
    the second to validation, the third to the test. Further ones go where most is lacking.
    """
    known = known or {}
    chosen = {name: known[name] for name in weights if name in known}
    names = sorted(name for name in weights if name not in known)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    total = sum(weights.values()) / sum(shares)
    target = {split: share * total for split, share in zip(SPLITS, shares, strict=True)}
    for name in order:
        held = dict.fromkeys(wanted, 0)
        for other, split in chosen.items():
            held[split] = held.get(split, 0) + weights[other]
        empty = [split for split in wanted if not held[split]]
        lacking = max(wanted, key=lambda split: target[split] - held[split])
        chosen[name] = empty[0] if empty else lacking
    return dict(sorted(chosen.items()))


def grouping(rule: str) -> Callable[[Path, str | None], str | None]:
    """Give the function from an image (and the group its source knows) to its slide or patient.

    Parameters
    ----------
    rule : str
        ``auto``: the group the source knows, else None. ``image``: every image on its own.
        The path of a CSV with the columns ``image`` and ``group``. Or a regular expression that
        is searched in the file name; its first group (or all it matches) is the name.

    Raises
    ------
    UsageError
        When it is neither.
    """
    if rule == "auto":
        return lambda _, group: group
    if rule == "image":
        return lambda path, _: path.stem
    if rule.lower().endswith((".csv", ".tsv", ".txt")):
        return _from_table(rule)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(
            f"--group-by {rule!r} is no regular expression ({error})",
            "Give auto, image, a CSV with image and group, or a regular expression",
        ) from None
    return lambda path, _: _matched(pattern, path)


def _matched(pattern: re.Pattern[str], path: Path) -> str:
    found = pattern.search(path.name)
    if not found:
        raise InputError(
            f"{path} does not match --group-by {pattern.pattern!r}",
            "Every image must belong to a slide or patient",
        )
    return found.group(1) if pattern.groups else found.group(0)


def _from_table(file: str) -> Callable[[Path, str | None], str | None]:
    from pathlib import Path

    from nucliseg_qp.training.tables import read_table

    rows = read_table(Path(file), ("image", "group"))
    table = {row["image"]: row["group"] for row in rows}

    def group(path: Path, _: str | None) -> str:
        found = table.get(path.name) or table.get(path.stem)
        if not found:
            raise InputError(f"{file} has no group for the image {path.name}", "Add a row for it")
        return found

    return group


def load_splits(path: Path) -> dict[str, str]:
    """Read the groups of a ``splits.json``.

    Raises
    ------
    InputError
        When it is missing or not one of ours.
    """
    import orjson

    try:
        groups = orjson.loads(path.read_bytes())["groups"]
        unknown = [split for split in groups.values() if split not in SPLITS]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", _MEND) from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a splits file ({error})", _MEND) from None
    if unknown:
        raise InputError(f"{path} knows a split {unknown[0]!r}", f"Use {', '.join(SPLITS)}")
    return {str(name): str(split) for name, split in groups.items()}


def match_splits(
    groups: Iterable[str], known: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the groups of the data in an earlier file.

    Parameters
    ----------
    groups : iterable of str
        Slides or patients of the data.
    known : mapping of str to str
        Group to split, from `load_splits`. Endings do not matter: ``s1`` and ``s1.ome.tif`` are
        the same slide.

    Returns
    -------
    tuple of dict
        Split of each group that was found, and of those in the file that are not in the data.

    Raises
    ------
    InputError
        When two names in the file fit a group and say different splits.
    """
    kept, found = dict[str, str](), set[str]()
    for group in groups:
        fits = [group] if group in known else [n for n in known if bare_name(n) == bare_name(group)]
        if len({known[name] for name in fits}) > 1:
            raise InputError(f"{group} is in two splits, as {' and '.join(fits)}", _MEND)
        if fits:
            kept[group] = known[fits[0]]
        found.update(fits)
    return kept, {name: split for name, split in known.items() if name not in found}


def save_splits(path: Path, groups: Mapping[str, str], seed: int, rule: str) -> None:
    """Write ``splits.json``: the seed, how groups were told apart, and the split of each."""
    import orjson

    content = {"seed": seed, "group_by": rule, "groups": dict(groups)}
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
