"""What the program says: results on stdout, messages on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from nucliseg_qp.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import CycloptsError
    from rich.console import RenderableType

    from nucliseg_qp.pipeline import Engine

__all__ = [
    "engine_line",
    "error",
    "help_console",
    "messages",
    "note",
    "plain",
    "printable",
    "project_line",
    "result",
    "usage_error",
    "warn",
]

UNKNOWN = "–"
WIDE_COLUMNS = 1000
"""Width of a table in a file or a pipe, where nothing has to be folded."""

THEME = Theme(
    {
        "cyclopts.name": "bold",
        "cyclopts.required": "bold",
        "cyclopts.required_marker": "bold red",
        "progress.remaining": "none",
        "progress.elapsed": "none",
        "progress.download": "none",
        "progress.percentage": "none",
        "progress.spinner": "magenta",
        "markdown.code": "bold",
    }
)
"""Red and magenta are the colours that can be read on black and on white; NO_COLOR ends both."""

messages = Console(stderr=True, highlight=False, emoji=False, theme=THEME)
_results = Console(
    highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDE_COLUMNS, theme=THEME
)


def help_console() -> Console:
    """Give the console on which help is drawn."""
    return Console(theme=THEME)


def error(text: str) -> None:
    """Print one line on stderr that says what went wrong and what to do."""
    messages.print(Text.assemble(("error:", "bold red"), " ", printable(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print one line on stderr that deserves a second look."""
    messages.print(Text.assemble(("warning:", "magenta"), " ", printable(text)), soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    messages.print(Text(printable(text)), soft_wrap=True)


def printable(text: str) -> str:
    """Give text, such as a file's name, that no terminal takes for commands."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def result(text: RenderableType) -> None:
    """Print a line or a table on stdout."""
    _results.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)


def plain(text: str) -> None:
    """Print text on stdout as it is, without colour or wrapping: for machines and files."""
    _results.out(text, highlight=False)


def engine_line(engine: Engine) -> None:
    """Tell on stderr which model runs where."""
    runner = engine.runner
    note(f"model {runner.info.name} on {runner.device.label}, {runner.precision}, {runner.runtime}")


def project_line(project: Path, writer: str) -> str:
    """Give the line that says how to go on with a project."""
    file = project / "project.qpproj"
    if writer == "paquo":
        return f"open {file} in QuPath to review the nuclei"
    return (
        f"open {file} in QuPath, then run Automate > Project scripts > import_nuclei for the "
        f"project; {project / 'README.txt'} says how"
    )


def usage_error(problem: CycloptsError) -> UsageError:
    """Give what the command line parser complains about as one line."""
    text = " ".join(str(problem).split()).partition(" Available commands")[0]
    if isinstance(problem.__cause__, ValidationError):
        first = problem.__cause__.errors()[0]
        given = _given_by(problem, first["loc"])
        text = f"{given} {first['input']!r}: {first['msg']}"
        if first["type"] == "model_type":
            section = ".".join(map(str, first["loc"]))
            text = f"{given} {first['input']!r}: there are several settings, each --{section}.NAME"
    return UsageError(text.rstrip("."), "See nucliseg-qp --help.")


def _given_by(problem: CycloptsError, place: tuple[int | str, ...]) -> str:
    """Name the flag, or the environment variable, by which the value of a setting was given."""
    arguments = problem.argument.children_recursive if problem.argument else ()
    given = (token.keyword for one in arguments if one.keys == place for token in one.tokens)
    return next(filter(None, given), f"--{'.'.join(map(str, place)).replace('_', '-')}")
