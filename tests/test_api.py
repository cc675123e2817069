"""The public names are documented, their examples give what they say; so does the notebook."""

from __future__ import annotations

import doctest
import inspect
import json
import re

import pytest
from api_page import api_page
from notebook_page import NOTEBOOK, run_notebook

import nucliseg_qp
from nucliseg_qp.cli import run

NAMES = [name for name in nucliseg_qp.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give the folder in which the page says that its examples run."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["sample", "copy", "ki67_synthetic"]) == 0
        assert run(["detect", "ki67_synthetic/images/low.ome.tif", "--out", "results"]) == 0
        yield folder


def test_every_public_name_can_be_imported_and_is_listed():
    assert set(NAMES) == set(nucliseg_qp._HOMES)
    assert set(NAMES) <= set(dir(nucliseg_qp))
    assert not hasattr(nucliseg_qp, "no_such_name")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_it_says(name):
    text = inspect.getdoc(getattr(nucliseg_qp, name))
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    failed, _ = doctest.DocTestRunner().run(example, out=said.append)
    assert not failed, "".join(said)


def test_every_public_name_is_on_the_page_and_nothing_else():
    assert sorted(re.findall(r"^### (\w+)$", api_page(), re.MULTILINE)) == sorted(NAMES)


def test_the_notebook_counts_and_plots_what_was_found(tmp_path):
    pytest.importorskip("matplotlib", reason="comes with the extra `train`")
    found = run_notebook(tmp_path)
    nuclei, left, right = (found[name] for name in ("nuclei", "left", "right"))
    counts = nuclei.counts()
    assert sum(counts.values()) == len(nuclei) > 100
    percent = 100 * counts["Positive"] / len(nuclei)
    assert left.get_title() == f"{len(nuclei)} nuclei, {percent:.1f} % positive"
    assert len(left.patches) == len(nuclei), "an outline for each nucleus"
    assert sum(bar.get_height() for bar in right.patches) == len(nuclei)
    assert found["figure"].canvas.get_width_height()[0] > 500


def test_the_notebook_is_one_that_jupyter_opens():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        assert not cell.get("outputs"), "outputs would grow old"
