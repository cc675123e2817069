"""``nucliseg-qp run-request``: what scripts inside QuPath start."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nucliseg_qp.cli.json_lines import JsonLines
    from nucliseg_qp.request import EngineRequest

__all__ = ["run_request"]


def run_request(
    request: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    end_with_stdin: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Analyse one image for a program, such as the scripts inside QuPath.

    Example: `nucliseg-qp run-request request.json`

    Tells its progress as JSON lines on standard output. The result is whole when its last file,
    `result.json`, is there.

    Parameters
    ----------
    request
        JSON file with image, regions, settings and output folder; `-` reads one line from standard
        input, and without an output folder the files travel as events.
    end_with_stdin
        End when standard input closes.
    """
    from nucliseg_qp.cli.json_lines import JsonLines
    from nucliseg_qp.errors import NucliSegError

    lines = JsonLines()
    lines.hello()
    try:
        _serve(request, end_with_stdin, lines)
    except NucliSegError as error:
        lines.error(error)
        return error.exit_code
    return 0


def _serve(place: str, with_stdin: bool, lines: JsonLines) -> None:
    from nucliseg_qp.cli import json_lines
    from nucliseg_qp.outputs import result_manifest
    from nucliseg_qp.request import parse_request
    from nucliseg_qp.serve import run_request as serve

    request = parse_request(_read(place))
    if with_stdin:
        json_lines.end_with_stdin()
    with _folder(request) as folder:
        content = serve(request, folder, lines, lines.engine)
        manifest = result_manifest(folder)
        if request.output is None:
            lines.files(folder, [*(one["name"] for one in content["files"]), manifest.name])
        lines.result(manifest, content["nuclei"])


def _read(place: str) -> bytes:
    from nucliseg_qp.errors import UsageError
    from nucliseg_qp.request import LARGEST_REQUEST_BYTES

    if place == "-":
        # Unbuffered, so that what follows the line is left to end_with_stdin.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
            return stdin.readline(LARGEST_REQUEST_BYTES + 1)
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise UsageError(f"request {place} cannot be read ({error.strerror})", "") from None


@contextmanager
def _folder(request: EngineRequest) -> Iterator[Path]:
    if request.output is not None:
        yield request.output
        return
    with tempfile.TemporaryDirectory(prefix="nucliseg-qp-") as folder:
        yield Path(folder)
