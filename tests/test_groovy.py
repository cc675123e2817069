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
"""Folder with CodeNarc's jars and those of its Groovy, as in the npm package npm-groovy-lint."""
GROOVY = [one for one in os.environ.get("NUCLISEG_QP_GROOVY", "").split(os.pathsep) if one]
"""Jars of Groovy, or folders with its jars; the app folder of QuPath serves."""
needs_codenarc = pytest.mark.skipif(
    not CODENARC, reason="NUCLISEG_QP_CODENARC names no folder with CodeNarc's jars"
)


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


@pytest.mark.parametrize("name", ALL)
def test_no_script_needs_a_part_of_groovy_that_qupath_leaves_out(name):
    # QuPath ships groovy, groovy-jsr223 and groovy-xml; groovy-json and the others are not there.
    used = re.findall(
        r"^import (groovy\.\w+|org\.(?:apache|codehaus)\.\w+)", groovy_source(name), re.M
    )
    assert set(used) <= {"groovy.transform", "groovy.xml"}


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


def compiled(classes, folder):
    """Compile all scripts; gives the good ones and the complaints."""
    scripts = sorted(str(path) for path in folder.glob("*.groovy"))
    checker = str(HERE / "compile_scripts.groovy")
    answer = run_java(classes, "groovy.ui.GroovyMain", checker, *scripts)
    assert answer.returncode == 0, answer.stderr
    version, *lines = answer.stdout.splitlines()
    assert version.startswith("groovy ")
    good = [line for line in lines if line.startswith("ok ")]
    return len(good), version + "\n".join(line for line in lines if line not in good)


@pytest.mark.skipif(not GROOVY, reason="NUCLISEG_QP_GROOVY names no jar of Groovy")
@pytest.mark.parametrize("place", GROOVY)
def test_every_groovy_compiles_every_script_without_qupath(place, assembled):
    good, said = compiled(jars(place), assembled)
    assert good == len(ALL), said


BUGS = [
    "def f( {",
    "import java.nio.file.Pathz\nPathz x = null",
    "class A { int f() { 1 }\n private int f(int x) { x } }",
    "class A { final int x = 1\n void f() { x = 2 } }",
]


@pytest.mark.skipif(not GROOVY, reason="NUCLISEG_QP_GROOVY names no jar of Groovy")
def test_the_compiler_would_find_a_bug_without_qupath(tmp_path):
    for number, bug in enumerate(BUGS):
        (tmp_path / f"bad {number}.groovy").write_text(bug)
    for place in GROOVY:
        good, said = compiled(jars(place), tmp_path)
        assert good == 0
        assert said.count("PROBLEM ") == len(BUGS)


def lint(folder):
    """Let CodeNarc look at all scripts; gives its report."""
    answer = run_java(
        [*jars(CODENARC), Path(CODENARC)],
        "org.codenarc.CodeNarc",
        f"-basedir={folder}",
        "-includes=*.groovy",
        f"-rulesetfiles=file:{HERE / 'codenarc.groovy'}",
        "-report=console",
    )
    assert "TotalFiles=" in answer.stdout, answer.stderr
    return answer.stdout


@needs_codenarc
def test_codenarc_finds_no_bug(assembled):
    report = lint(assembled)
    assert f"TotalFiles={len(ALL)} " in report
    assert "Violation: " not in report, report


@needs_codenarc
def test_codenarc_would_find_a_bug(tmp_path):
    (tmp_path / "bad.groovy").write_text("def f(Integer a) { if (a = 1) { return }\n}\n")
    assert "AssignmentInConditional" in lint(tmp_path)


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
