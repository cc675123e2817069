"""The process that answers about images of a project: ``-m nucliseg_qp.qupath.java_serve ROOT``.

A question is a line of JSON on standard input, an answer one on standard output; it ends when
there are no more questions, also because who asked is gone.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nucliseg_qp.errors import NucliSegError, OutputError, QuPathError
from nucliseg_qp.qupath.held import EntryResult
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.project_folder import ProjectFolder

if TYPE_CHECKING:
    from nucliseg_qp.qupath.java_review import JavaReview

__all__ = ["main"]

WAIT_SECONDS = 120.0
"""A run that was killed may leave its process finishing an image."""


def main(arguments: list[str]) -> int:
    """Answer questions about the project in the folder given."""
    root = Path(arguments[0])
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Java prints to standard output.
    os.dup2(2, 1)
    with locked(ProjectFolder(root).writer_lock, WAIT_SECONDS):
        # Python's collector waits for Java's whenever it runs, which makes the work ten times
        # slower; this process ends soon enough to do without it.
        gc.disable()
        from nucliseg_qp.qupath.java_review import JavaReview

        entries = JavaReview(root)
        for line in sys.stdin.buffer:
            answers.write(orjson.dumps(_answer(entries, orjson.loads(line))) + b"\n")
    return 0


def _answer(entries: JavaReview, question: dict[str, Any]) -> dict[str, Any]:
    from jpype import JException

    try:
        if question["ask"] == "read":
            return {"held": entries.read(question["entry_id"]).to_json()}
        if question["ask"] == "corrections":
            return {"told": entries.corrections(question["entry_id"], Path(question["target"]))}
        if question["ask"] == "reclassify":
            return entries.reclassify(question["entry_id"], question["palette"])
        written = entries.write(EntryResult.from_json(question["result"]))
        return {"written": written.to_json()}
    except NucliSegError as error:
        return {"problem": error.message, "hint": error.hint, "exit_code": error.exit_code}
    except (JException, OSError, RuntimeError, ValueError) as error:
        return _problem(type(error).__name__, str(error))


def _problem(kind: str, text: str) -> dict[str, Any]:
    """Give what Java or the system complains about as an answer."""
    ours = "NucliSeg QP: "
    if ours not in text:
        return {"problem": " ".join(f"{kind}: {text}".split()), "hint": "", "exit_code": 5}
    # Our scripts say in a whole sentence what cannot be written, and why.
    text = " ".join(text.partition(ours)[2].split())
    code = OutputError.exit_code if "cannot be written" in text else QuPathError.exit_code
    return {"problem": text, "hint": "", "exit_code": code}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
