"""What is loaded when, and how large the rooms of the house are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nucliseg_qp"
HEAVY = ("torch", "jpype", "paquo", "cv2", "openslide", "skimage", "scipy", "pyarrow")
HELP = """
import contextlib, io
from nucliseg_qp.cli import run
with contextlib.redirect_stdout(io.StringIO()):
    {}
"""


@pytest.mark.parametrize(
    "code",
    [
        "import nucliseg_qp",
        HELP.format("run(['--help'])"),
        HELP.format("run(['--version'])"),
        HELP.format("run(['detect', '--help'])"),
        HELP.format("run(['annotate', '--help'])"),
        HELP.format("run(['settings'])"),
    ],
    ids=["import", "help", "version", "detect help", "annotate help", "settings"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    ask = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded.intersection(HEAVY)


def test_the_list_of_verbs_waits_for_no_markdown_and_no_validator():
    ask = (
        HELP.format("run(['--help'])")
        + "import sys\nfrom nucliseg_qp.config import Settings\n"
        + "print('rich.markdown' in sys.modules, Settings.__pydantic_complete__)"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"], "it is what people wait for most often"


def test_a_run_without_a_project_loads_no_java(small_slide, tmp_path):
    ask = (
        "import sys\nfrom nucliseg_qp.cli import run\n"
        f"code = run(['detect', {str(small_slide)!r}, '-o', {str(tmp_path)!r}, "
        "'--region', '0,0,200,200'])\n"
        "sys.exit(code or 10 * ('jpype' in sys.modules or 'paquo' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_imports_run_one_way():
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; "
         "raise SystemExit(lint_imports(no_cache=True))"],
        capture_output=True, text=True, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_no_module_is_longer_than_300_lines():
    long = {path.name: len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_no_function_is_longer_than_60_lines():
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (body[-1].end_lineno - body[0].lineno + 1) if body else 0
                if lines > 60:
                    long[f"{path.name}:{node.name}"] = lines
    assert long == {}


def test_nothing_prints_but_the_one_module_that_draws():
    printing = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    assert printing == set()
