"""The command line: one thin file a verb, all drawing in `nucliseg_qp.cli.show`."""

from __future__ import annotations

import io
import signal
import sys

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with the documented code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no "²" must not end a run with its results.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Schedulers and containers end a program so: it may tidy up as after Ctrl+C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line on ``arguments`` and give the exit code.

    0 all done, 1 any image failed, 2 usage, 3 input or calibration, 4 model or device, 5 QuPath
    or Java, 6 output, 130 interrupted.
    """
    try:
        return _run(arguments)
    except KeyboardInterrupt as interruption:
        from nucliseg_qp.cli import show

        again = "Files that are there are whole; run the same command again."
        show.error(f"interrupted. {str(interruption) or again}")
        return INTERRUPTED
    except MemoryError:
        from nucliseg_qp.cli import show

        show.error("out of memory. Give fewer --workers or a smaller --tile-size.")
        return 1


def _run(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    from nucliseg_qp.cli import show
    from nucliseg_qp.cli.answer import answer_error, wants_json
    from nucliseg_qp.cli.app import app
    from nucliseg_qp.errors import NucliSegError

    try:
        code = app(arguments, console=show.help_console(), exit_on_error=False, print_error=False)
    except NucliSegError as problem:
        error = problem
    except CycloptsError as problem:
        error = show.usage_error(problem)
    else:
        return code if isinstance(code, int) else 0
    show.error(str(error))
    if wants_json(arguments):
        answer_error(error)
    return error.exit_code
