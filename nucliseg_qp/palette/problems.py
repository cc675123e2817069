"""What is wrong with the file of a palette, in the words of the file."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from nucliseg_qp.errors import nearest_name

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["first_problem"]

_WORDS = {
    "string_type": "is no text",
    "int_type": "is no whole number",
    "float_type": "is no number",
    "finite_number": "is no finite number",
    "list_type": "is no list",
    "dict_type": "is no table",
    "model_type": "is no table",
    "greater_than_equal": "is below {ge:g}",
    "less_than_equal": "is above {le:g}",
    "too_short": "has {actual_length} values, {min_length} are needed",
    "too_long": "has more than {max_length} values",
    "value_error": "{error}",
}
"""What pydantic finds, by the names it has for that."""


def first_problem(
    error: ValidationError,
    raw: dict[str, Any],
    file_model: type[BaseModel],
    class_model: type[BaseModel],
) -> str:
    """Tell the first thing that is wrong, a field that does not exist before all others.

    Parameters
    ----------
    error : ValidationError
        From reading the file.
    raw : dict
        What the file holds.
    file_model, class_model : type
        Which fields a file and a class have.
    """
    # Where a name is misspelt, the right one is also missing.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    parts, kind = first["loc"], first["type"]
    if parts == ("class",) and kind in ("missing", "too_short", "list_type"):
        return "at least two classes are needed, each a [[class]]"
    field = _field(parts, raw)
    if kind == "extra_forbidden":
        return _unknown_field(field, str(parts[-1]), class_model if len(parts) > 1 else file_model)
    if kind == "missing":
        return f"{field} is missing"
    return f"{field} = {textwrap.shorten(repr(first['input']), 80)} {_words(first)}"


def _words(problem: ErrorDetails) -> str:
    words = _WORDS.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else problem["msg"]


def _field(parts: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """Name a field, with number and name of its class."""
    if parts[0] != "class" or len(parts) == 1:
        return _joined(parts)
    number = int(parts[1])
    entry = raw["class"][number]
    name = entry.get("name") if isinstance(entry, dict) else None
    label = f"class {number + 1}" if name is None else f"class {number + 1} ({name!r})"
    return f"{label} {_joined(parts[2:])}".strip()


def _joined(parts: tuple[int | str, ...]) -> str:
    return " ".join(f"value {one + 1}" if isinstance(one, int) else one for one in parts)


def _unknown_field(field: str, last: str, model: type[BaseModel]) -> str:
    known = [about.alias or name for name, about in model.model_fields.items()]
    meant = nearest_name(last, known)
    rest = f"perhaps {meant!r} is meant" if meant else f"there are {', '.join(known)}"
    return f"there is no field {field}, {rest}"
