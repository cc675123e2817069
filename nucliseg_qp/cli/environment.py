"""Environment variables: each option has one, and none is passed over that nobody reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nucliseg_qp.config import Settings
from nucliseg_qp.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App

__all__ = ["ENVIRONMENT", "check_environment"]

ENVIRONMENT = "NUCLISEG_QP_"
"""How the variables begin that stand for an option."""
_NO_OPTIONS = {"PALETTE_FOLDER", "DATA", "CODENARC", "GROOVY"}
"""Read elsewhere; all but the first only by the tests and benchmarks of this package."""


def check_environment() -> None:
    """Refuse a variable that begins like one of ours and is none.

    Raises
    ------
    UsageError
        With the variable that was likely meant.
    """
    settings = {f"{head}_{name}".upper() for head, model in Settings() for name in _names(model)}
    there = {name.removeprefix(ENVIRONMENT) for name in os.environ if name.startswith(ENVIRONMENT)}
    if there <= settings | _NO_OPTIONS:
        return
    known = {*settings, *_NO_OPTIONS, *_options()}
    for name in sorted(there - known):
        meant = nearest_name(name, sorted(settings)) or nearest_name(name, sorted(known))
        raise UsageError(
            f"there is no environment variable {ENVIRONMENT}{name}",
            f"Did you mean {ENVIRONMENT}{meant}?" if meant else "`nucliseg-qp settings` has all.",
        )


def _names(section: object) -> list[str]:
    return list(type(section).model_fields)  # type: ignore[attr-defined]


def _options() -> Iterator[str]:
    """Give the options of all verbs, as they are called in the environment."""
    # Whoever asks is part of it.
    from nucliseg_qp.cli.app import app

    for verb in _verbs(app):
        for argument in verb.assemble_argument_collection():
            for name in argument.names:
                yield name.lstrip("-").replace("-", "_").replace(".", "_").upper()


def _verbs(group: App) -> Iterator[App]:
    for name in group:
        # The flags of a group, --help and --version, are commands, too.
        if not name.startswith("-"):
            verb = group[name]
            yield from [verb] if verb.default_command is not None else _verbs(verb)
