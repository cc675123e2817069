"""Write the pages that the code itself dictates: options, settings, Python API, notebook.

    python docs/make_reference.py

A test fails when the pages and the code say different things.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

from api_page import api_page
from drawings import flow_svg, layers_svg
from notebook_page import NOTEBOOK, notebook_page
from scripts_page import scripts_page

from nucliseg_qp.cli.app import app
from nucliseg_qp.config import Settings
from nucliseg_qp.keypoints.model import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cyclopts import App
    from cyclopts.argument import Argument
    from pydantic.fields import FieldInfo

Hint: TypeAlias = Any
"""A type, as annotations give it."""
REFERENCE = Path(__file__).parent / "reference"
PICTURES = Path(__file__).parent / "pictures"
SECTIONS = tuple(Settings.model_fields)
KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
NOTE = "<!-- Written by docs/make_reference.py: change the code, not this page. -->"

CLI_HEAD = f"""\
{NOTE}
# Command line

`nucliseg-qp VERB --help` prints the same. A flag wins over an environment variable, that over the
file given with `--config`, that over the default. Results go to standard output; progress and
messages go to standard error. How the process ends is told by its [exit code](exit-codes.md).
"""

SETTINGS_HEAD = f"""\
{NOTE}
# Settings

Each setting can be given in three ways:

- in a TOML file for `--config`, as `reach_um = 8.0` under `[masks]`;
- as a flag, `--masks.reach-um 8`, some also under a short name; a switch is turned off with
  `no-`, as in `--tissue.no-find`;
- as an environment variable, `NUCLISEG_QP_MASKS_REACH_UM=8`.

`nucliseg-qp settings > mine.toml` writes all of them with their defaults and comments, ready to be
changed. An unknown name or a value out of range stops the run before anything is written. Lengths
are in micrometres (um), so that a setting means the same on every scanner.
"""


def cli_page() -> str:
    """Give the page of verbs and options."""
    shared = verb_arguments(app["detect"])
    settings = [one for one in shared if section(one)]
    parts = [CLI_HEAD, *(verb_part(name, verb) for name, verb in verbs(app))]
    parts.append("## Flags of the settings\n\nShared by `detect`, `annotate` and `settings`.\n")
    parts += [settings_part(name, [s for s in settings if section(s) == name]) for name in SECTIONS]
    return "\n".join(parts)


def verbs(group: App, before: str = "") -> Iterator[tuple[str, App]]:
    """Give every verb that the help shows, also those of verbs that have verbs."""
    for name in group:
        one, full = group[name], f"{before} {name}".strip()
        if name.startswith("-") or not one.show:
            continue
        if one.default_command is None:
            yield from verbs(one, full)
        else:
            yield full, one


def verb_arguments(verb: App) -> list[Argument]:
    """Give the arguments that `--help` shows."""
    return [one for one in verb.assemble_argument_collection(parse_docstring=True) if one.show]


def verb_part(name: str, verb: App) -> str:
    """Describe one verb."""
    arguments = verb_arguments(verb)
    own = [one for one in arguments if not section(one)]
    text = (inspect.getdoc(verb.default_command) or "").split("\nParameters\n")[0].strip()
    lines = [f"## {name}\n", f"{text}\n", *table(("option", "value", "what it does"), own, row)]
    if len(own) < len(arguments):
        lines.append("\nFurther: [flags of the settings](#flags-of-the-settings).")
    return "\n".join(lines) + "\n"


def settings_part(name: str, arguments: Sequence[Argument]) -> str:
    """Describe the flags of one section of the settings."""
    title = Settings.model_fields[name].annotation
    head = (title.__doc__ or "").strip() if title else ""
    rows = table(("option", "value", "what it does"), arguments, row)
    return "\n".join([f"### {name}\n", f"{head}\n", *rows]) + "\n"


def section(argument: Argument) -> str:
    """Give the section of the settings an argument belongs to, empty for none."""
    head, dot, _ = argument.names[0].lstrip("-").partition(".")
    return head if dot else ""


def row(argument: Argument) -> tuple[str, ...]:
    """Give option, kind of value, and what it does."""
    help_text = " ".join((argument.parameter.help or "").split())
    default = argument.field_info.default
    if argument.required:
        help_text += " Required."
    elif not any(default is one for one in (None, False, inspect.Parameter.empty)):
        help_text += f" Default: {shown(default)}."
    # A switch that is off by default needs no word to turn it off.
    is_switch = argument.hint is bool and default is False
    hidden = () if argument.hint is bool and default is True else argument.negatives
    names = ", ".join(f"`{name}`" for name in argument.names if name not in hidden)
    return names, "" if is_switch else kind(argument.hint), help_text


def settings_page() -> str:
    """Give the page of the TOML file."""
    parts = [SETTINGS_HEAD]
    for name, model in Settings():
        fields = list(type(model).model_fields.items())
        rows = table(("setting", "value", "default", "what it means"), fields, field_row)
        parts.append("\n".join([f"## [{name}]\n", f"{(model.__doc__ or '').strip()}\n", *rows]))
    return "\n\n".join(parts) + "\n"


def field_row(item: tuple[str, FieldInfo]) -> tuple[str, ...]:
    """Give name, kind of value, default and meaning of one setting."""
    name, field = item
    constraints = [*flat(field.metadata), *nested(field.annotation)]
    limits = " ".join(limit for limit in map(limit_text, constraints) if limit)
    value = f"{kind(field.annotation)} {limits}".strip()
    default = "not set" if field.default is None else shown(field.default)
    return f"`{name}`", value, default, " ".join((field.description or "").split())


def flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Give the constraints of a field, also those inside of others."""
    for one in metadata:
        yield from flat(one.metadata) if hasattr(one, "metadata") else (one,)


def nested(hint: Hint) -> Iterator[Any]:
    """Give the constraints inside of a type such as ``Annotated[float, ...] | None``."""
    for one in get_args(hint):
        yield from flat(getattr(one, "__metadata__", ()))


def limit_text(constraint: object) -> str:
    """Give a constraint as text, such as `> 0`."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "multiple of"}
    for attribute, sign in signs.items():
        if hasattr(constraint, attribute):
            return f"{sign} {getattr(constraint, attribute):g}"
    return ""


def kind(hint: Hint) -> str:
    """Give a type in plain words."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if get_origin(hint) is list or inner[1:] == (...,):
        return f"one or more of: {kind(inner[0])}"
    if get_origin(hint) is tuple:
        return f"{len(inner)} numbers"
    if NoneType in inner:
        return kind(next(one for one in inner if one is not NoneType))
    # Annotated types carry their plain type first.
    return KINDS[hint] if hint in KINDS else kind(inner[0])


def shown(default: object) -> str:
    """Give a default as it would be typed."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


MODEL_HEAD = f"""\
{NOTE}
# The shipped model

What the network that comes with the program is. How the figures came about and what they are worth
is told in [What the model has seen](../explanation/what-the-model-has-seen.md).
"""

MEASURED = """
Figures of the training run, on images held out from training (`F1`, `precision` and `recall` of
centres matched one to one, `ap` average precision, `error_um` mean distance of matched centres):
"""


def model_page() -> str:
    """Give the page of the shipped model."""
    info = load_model().info
    facts = {
        "name": f"{info.name}, version {info.version}",
        "sha256 of the weights": f"`{info.sha256}`",
        "licence of the weights": info.licence,
        "pixel size it works at": f"{info.mpp} um",
        "default threshold": f"{info.threshold}",
        "trained on": "; ".join(info.trained_on),
    }
    rows = table(("what", "value"), facts.items(), tuple)
    figures = table(("figure", "value"), sorted(info.metrics.items()), metric_row)
    return "\n".join([MODEL_HEAD, *rows, MEASURED, *figures]) + "\n"


def metric_row(item: tuple[str, float]) -> tuple[str, ...]:
    """Give name and value of one figure of the training."""
    return item[0].replace("_", " "), f"{item[1]:g}"


def table(
    head: Sequence[str], items: Iterable[Any], cells: Callable[[Any], Sequence[str]]
) -> list[str]:
    """Give the lines of a Markdown table."""
    rows = [cells(item) for item in items]
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def pages() -> dict[Path, str]:
    """Give the text of every page written by this script."""
    return {
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "model.md": model_page(),
        REFERENCE / "scripts.md": scripts_page(NOTE),
        PICTURES / "layers.svg": layers_svg(),
        PICTURES / "data-flow.svg": flow_svg(),
        REFERENCE / "python-api.md": f"{NOTE}\n{api_page()}",
        NOTEBOOK.with_suffix(".md"): notebook_page(),
    }


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
