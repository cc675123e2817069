"""What a verb answers: tables for a person, or one JSON object for a program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import orjson

from nucliseg_qp.cli import show
from nucliseg_qp.cli.options import JSON_FLAG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from nucliseg_qp.errors import NucliSegError

__all__ = ["answer", "answer_error", "wants_json"]


def answer(as_json: bool, content: Mapping[str, object], *shown: RenderableType) -> None:
    """Print the result of a verb on stdout.

    Parameters
    ----------
    as_json : bool
        Whether a program asked.
    content : dict
        The result for a program. Data classes become objects, paths become text, numbers that are
        none become null.
    shown : str or table
        The same for a person.
    """
    if as_json:
        _tell(content)
        return
    for one in shown:
        show.result(one)


def answer_error(error: NucliSegError) -> None:
    """Print on stdout what went wrong, for a program; a person reads it on stderr."""
    about = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    _tell({"error": about})


def wants_json(arguments: list[str]) -> bool:
    """Whether a program asked, also where the arguments are too wrong to be understood."""
    return JSON_FLAG in arguments


def _tell(content: Mapping[str, object]) -> None:
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    # Bytes: JSON is UTF-8 whatever the terminal is.
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(content, default=str, option=options) + b"\n")
    sys.stdout.buffer.flush()
