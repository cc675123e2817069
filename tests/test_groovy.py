"""The Groovy scripts: complete, understood by every Groovy, in words all QuPath versions know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nucliseg_qp.errors import QuPathError
from nucliseg_qp.qupath.install import find_qupath
from nucliseg_qp.qupath.scripts import (
    BULK_OBJECTS,
    IMPORT_NUCLEI,
    SCRIPT_NAMES,
    groovy_source,
    list_scripts,
)

HERE = Path(__file__).parent
FOLDER = HERE.parent / "groovy"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.groovy"))
ALL = [*SCRIPTS, BULK_OBJECTS]
CODENARC = os.environ.get("NUCLISEG_QP_CODENARC")
"""Folder with CodeNarc's jars and those of Groovy 4, as in the npm package npm-groovy-lint."""
GROOVY5 = os.environ.get("NUCLISEG_QP_GROOVY5")
"""A jar of Groovy 5, or a folder with jars; QuPath 0.7's app folder serves."""


def test_the_scripts_of_the_package_are_found():
    assert set(SCRIPT_NAMES) <= set(SCRIPTS)
    assert "NucliSeg QP" in groovy_source(IMPORT_NUCLEI)
    with pytest.raises(QuPathError, match=r"other\.groovy"):
        groovy_source("other.groovy")


def test_each_script_says_what_it_does():
    found = list_scripts()
    assert [one.name for one in found] == list(SCRIPT_NAMES)
    for one in found:
        assert len(one.title) < 25
        assert 30 < len(one.description) < 250
        assert one.description.endswith(".")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_whole_and_one_file(name):
    text = groovy_source(name)
    assert "// include:" not in text
    assert not re.search(r"^package\b", text, re.MULTILINE), "QuPath runs scripts without one"
    classes = re.findall(r"^class (\w+)", text, re.MULTILINE)
    assert len(classes) == len(set(classes)), "nothing is included twice"
    imports = [match.start() for match in re.finditer(r"^import ", text, re.MULTILINE)]
    firsts = [
        match.start() for match in re.finditer(r"^(class|@CompileStatic)", text, re.MULTILINE)
    ]
    assert not firsts or max(imports) < min(firsts)


@pytest.mark.parametrize("name", ALL)
def test_no_script_uses_what_some_version_lacks(name):
    # Only 0.6 and later have the first two; the others are deprecated there.
    text = groovy_source(name)
    for word in ("getAllDetectionsForROI", r"entry\.getMetadata\(", r"clear\w*Objects\("):
        assert not re.search(word, text), word


@pytest.fixture(scope="session")
def assembled(tmp_path_factory):
    """Give a folder with all scripts as QuPath gets them."""
    folder = tmp_path_factory.mktemp("groovy")
    for name in ALL:
        (folder / Path(name).name).write_text(groovy_source(name), encoding="utf-8")
    return folder


def java():
    """Find a Java: QuPath's, or the machine's."""
    qupath = find_qupath()
    inside = None if qupath is None else qupath.java.parents[2] / "bin" / "java"
    return str(inside) if inside is not None and inside.exists() else shutil.which("java")


def jars(place):
    """Give the class path of a jar or of a folder with jars, Groovy's own first."""
    path = Path(place)
    if path.is_file():
        return [path]
    return sorted(path.rglob("*.jar"), key=lambda one: not one.name.startswith("groovy-"))


def run_java(classes, *arguments):
    if java() is None:
        pytest.skip("no Java on this machine")
    path = os.pathsep.join(str(one) for one in classes)
    command = [java(), "-Xmx1g", "-cp", path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def compiled(classes, mode, folder):
    """Compile all scripts; gives the version of Groovy, the good ones and the complaints."""
    scripts = sorted(str(path) for path in folder.glob("*.groovy"))
    checker = str(HERE / "compile_scripts.groovy")
    answer = run_java(classes, "groovy.ui.GroovyMain", checker, mode, *scripts)
    lines = answer.stdout.splitlines()
    assert answer.returncode == 0, answer.stderr
    good = [line for line in lines if line.startswith("ok ")]
    return lines[0], len(good), "\n".join(line for line in lines[1:] if line not in good)


@pytest.mark.skipif(
    not CODENARC, reason="NUCLISEG_QP_CODENARC names no folder with CodeNarc's jars"
)
def test_groovy_4_compiles_every_script_without_qupath(assembled):
    version, good, problems = compiled(jars(CODENARC), "syntax", assembled)
    assert version.startswith("groovy 4.0.")
    assert (good, problems) == (len(ALL), "")


@pytest.mark.skipif(not GROOVY5, reason="NUCLISEG_QP_GROOVY5 names no jar of Groovy 5")
def test_groovy_5_compiles_every_script_without_qupath(assembled):
    version, good, problems = compiled(jars(GROOVY5), "syntax", assembled)
    assert version.startswith("groovy 5.")
    assert (good, problems) == (len(ALL), "")


@pytest.mark.skipif(
    not CODENARC, reason="NUCLISEG_QP_CODENARC names no folder with CodeNarc's jars"
)
def test_codenarc_finds_no_bug(assembled):
    answer = run_java(
        [*jars(CODENARC), Path(CODENARC)],
        "org.codenarc.CodeNarc",
        f"-basedir={assembled}",
        "-includes=*.groovy",
        f"-rulesetfiles=file:{HERE / 'codenarc.groovy'}",
        "-report=console",
    )
    assert f"TotalFiles={len(ALL)} " in answer.stdout, answer.stderr
    found = [line for line in answer.stdout.splitlines() if "Violation" in line or "File:" in line]
    assert not [line for line in found if "Violation: " in line], "\n".join(found)


@pytest.mark.skipif(
    not CODENARC, reason="NUCLISEG_QP_CODENARC names no folder with CodeNarc's jars"
)
def test_codenarc_would_find_a_bug(tmp_path):
    (tmp_path / "bad.groovy").write_text("def f(Integer a) { if (a = 1) { return }\n}\n")
    answer = run_java(
        [*jars(CODENARC), Path(CODENARC)],
        "org.codenarc.CodeNarc",
        f"-basedir={tmp_path}",
        f"-rulesetfiles=file:{HERE / 'codenarc.groovy'}",
        "-report=console",
    )
    assert "AssignmentInConditional" in answer.stdout


@pytest.mark.qupath
@pytest.mark.parametrize("name", ALL)
def test_qupath_compiles_every_script(qupath_probe, name):
    assert qupath_probe.ask("compile_script", script=groovy_source(name))["problem"] == ""


@pytest.mark.qupath
@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("entry.putMetadataValue(", "entry.putMetadataValu(", "putMetadataValu"),
        ("PathIO.readObjects(", "PathIO.readObject(", "readObject"),
        ("import qupath.lib.io.PathIO", "import qupath.lib.io.PathIOX", "PathIOX"),
    ],
)
def test_the_compiler_would_find_a_misspelled_name(qupath_probe, right, wrong, named):
    script = groovy_source(IMPORT_NUCLEI)
    assert right in script
    answer = qupath_probe.ask("compile_script", script=script.replace(right, wrong))
    assert named in answer["problem"]
