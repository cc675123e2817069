"""The process that runs Java: ``python -m nucliseg_qp.qupath.java_process REQUEST ANSWER``."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from nucliseg_qp.qupath.request import read_request, write_answer

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Put the images of a request into their project and write the answer."""
    question, answer = (Path(argument) for argument in arguments)
    request = read_request(question)
    # Python's collector waits for Java's whenever it runs, which makes the work ten times slower;
    # this process ends soon enough to do without it.
    gc.disable()
    from nucliseg_qp.qupath.java import JavaProject

    project = JavaProject(request.root, request.classes)
    write_answer(answer, [project.put(image) for image in request.images])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
