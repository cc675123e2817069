"""The Groovy scripts: complete in the package, understood by QuPath, in words all versions know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.qupath.scripts import BULK_OBJECTS, IMPORT_NUCLEI, groovy_source

SCRIPTS = sorted(path.name for path in (Path(__file__).parents[1] / "groovy").glob("*.groovy"))


def test_the_scripts_of_the_package_are_found():
    assert {IMPORT_NUCLEI, BULK_OBJECTS} <= set(SCRIPTS)
    assert "NucliSeg QP" in groovy_source(IMPORT_NUCLEI)
    with pytest.raises(QuPathError, match=r"other\.groovy"):
        groovy_source("other.groovy")


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_uses_what_some_version_lacks(name):
    # Only 0.6 and later have the first two; the others are deprecated there.
    text = groovy_source(name)
    for word in ("getAllDetectionsForROI", r"entry\.getMetadata\(", r"clear\w*Objects\("):
        assert not re.search(word, text), word
    assert not re.search(r"^package\b", text, re.MULTILINE), "QuPath runs scripts without one"


@pytest.mark.qupath
@pytest.mark.parametrize("name", SCRIPTS)
def test_qupath_compiles_every_script(qupath_probe, name):
    assert qupath_probe.ask("compile_script", script=groovy_source(name))["problem"] == ""


@pytest.mark.qupath
@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("getProjectEntry()", "getProjectEntri()", "getProjectEntri"),
        ("PathIO.readObjects(", "PathIO.readObject(", "readObject"),
        ("import qupath.lib.io.PathIO", "import qupath.lib.io.PathIOX", "PathIOX"),
    ],
)
def test_the_compiler_would_find_a_misspelled_name(qupath_probe, right, wrong, named):
    script = groovy_source(IMPORT_NUCLEI)
    assert right in script
    answer = qupath_probe.ask("compile_script", script=script.replace(right, wrong))
    assert named in answer["problem"]
