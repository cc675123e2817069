"""What other packages add, found by the entry points they declare: readers and class rules."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nucliseg_qp.errors import UsageError

__all__ = ["READERS", "RULES", "extension_names", "load_extension"]

READERS = "nucliseg_qp.readers"
"""Functions of a path and its first bytes that give a `Slide`, or None for a file of others."""
RULES = "nucliseg_qp.rules"
"""Functions of a palette's settings and its number of classes that give a `Rule`."""


def extension_names(group: str) -> tuple[str, ...]:
    """Name what the installed packages add to ``READERS`` or ``RULES``, sorted."""
    return tuple(sorted({one.name for one in entry_points(group=group)}))


def load_extension(group: str, name: str) -> Any:  # noqa: ANN401 - the caller knows its group
    """Import what a package adds; ``name`` is one of `extension_names`.

    Raises
    ------
    UsageError
        When two packages add the same name, or it cannot be imported.
    """
    point, *others = entry_points(group=group, name=name)
    if others:
        raise UsageError(f"two packages add {name} to {group}", "Remove one of them.")
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{name}, which a package adds to {group}, cannot be imported ({error})",
            "Install that package again, or remove it.",
        ) from None
