"""The notebook as a page of the documentation, and the picture that running it gives."""

from __future__ import annotations

import json
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOK", "notebook_page", "run_notebook", "save_figure"]

NOTEBOOK = Path(__file__).parent / "notebooks" / "image-to-plot.ipynb"
_HEAD = "This page is a notebook: [download it](image-to-plot.ipynb)."
_PICTURE = "![Left the image with outlines, right a histogram](../pictures/image-to-plot.png)"


def notebook_page() -> str:
    """Give text and code of the cells in their order, and the picture at the end."""
    title, *cells = (_cell(kind, source) for kind, source in _cells())
    return "\n\n".join([title, _HEAD, *cells, _PICTURE]) + "\n"


def run_notebook(folder: Path) -> dict[str, Any]:
    """Run the cells one after the other in a folder, without a screen; give what they defined."""
    import matplotlib

    matplotlib.use("Agg")
    names: dict[str, Any] = {}
    with chdir(folder):
        for kind, source in _cells():
            if kind == "code":
                exec(compile(source, NOTEBOOK.name, "exec"), names)  # noqa: S102 - it is ours
    return names


def save_figure(path: Path) -> None:
    """Run the notebook in a folder that is removed, and write its figure."""
    with tempfile.TemporaryDirectory() as folder:
        run_notebook(Path(folder))["figure"].savefig(path, dpi=100, metadata={"Software": None})


def _cell(kind: str, source: str) -> str:
    return f"```python\n{source}\n```" if kind == "code" else source


def _cells() -> list[tuple[str, str]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [(one["cell_type"], "".join(one["source"])) for one in content["cells"]]
