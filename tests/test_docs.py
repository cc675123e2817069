"""The documentation says what the program does: commands run as written, pages match the code."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pages import fences, page_needs, run_block, run_page

import nucliseg_qp.errors
from nucliseg_qp.cli import INTERRUPTED
from nucliseg_qp.cli.app import app
from nucliseg_qp.errors import NucliSegError
from nucliseg_qp.palette.classes import CLASS_MARGIN
from nucliseg_qp.quantify.measure import MEASUREMENT_COLUMNS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("sample_projects/*/*.md")]
GUIDES = sorted([*(DOCS / "tutorials").glob("*.md"), *(DOCS / "how-to").glob("*.md")])
FIRST = DOCS / "tutorials" / "first-slide.md"
# Another test follows this one, and looks at what comes out.
TRAINING = DOCS / "tutorials" / "train-on-your-own-slides.md"


def load_maker():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
VERBS = [name for name, _ in maker.verbs(app)]


@pytest.fixture(scope="module")
def after_tutorial(tmp_path_factory):
    """Give the folder in which somebody followed the first tutorial."""
    folder = tmp_path_factory.mktemp("tutorial")
    run_page(FIRST, folder)
    return folder


def test_the_first_tutorial_runs_as_written(after_tutorial):
    for name in ("nucliseg-qp-demo/results", "results"):
        found = after_tutorial / name
        assert (found / "previews" / "synthetic_ki67.jpg").stat().st_size > 10_000
        assert (found / "nuclei" / "synthetic_ki67.geojson.gz").is_file()
        assert (found / "tables" / "synthetic_ki67.parquet").is_file()
        assert "synthetic_ki67" in (found / "summary.csv").read_text()
        assert (found / "run.json").is_file()
    assert (after_tutorial / "my_project" / "project.qpproj").is_file()


def marked(page: Path):
    """Give a page as a parameter, marked when it wants QuPath for all of it."""
    marks = [pytest.mark.qupath] if page_needs(page) == "QuPath" else []
    return pytest.param(page, id=page.stem, marks=marks)


@pytest.mark.parametrize("page", [marked(one) for one in GUIDES if one not in (FIRST, TRAINING)])
def test_each_guide_runs_as_written(page, after_tutorial, tmp_path):
    shutil.copytree(after_tutorial / "nucliseg-qp-demo", tmp_path / "nucliseg-qp-demo")
    before = set(tmp_path.rglob("*"))
    run_page(page, tmp_path, hide_qupath=True)
    runs = any(one.kind == "bash" for one in fences(page))
    assert not runs or set(tmp_path.rglob("*")) - before, "the page made nothing"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_no_block_of_a_guide_escapes(page):
    """Each is run, or saved, or says why not."""
    text, found = page.read_text(encoding="utf-8"), fences(page)
    assert len(found) * 2 == len(re.findall(r"^\s*(```|~~~)", text, re.MULTILINE)), "an odd fence"
    for one in found:
        assert one.kind == "bash" or one.title or one.not_run, (
            f"neither run nor marked:\n{one.text}"
        )
        if one.title.endswith(".py"):
            compile(one.text, one.title, "exec")
    assert found, "a guide shows how"


def test_the_readme_leads_to_a_project(after_tutorial, tmp_path):
    shutil.copytree(after_tutorial / "nucliseg-qp-demo", tmp_path / "nucliseg-qp-demo")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    _, _, sixty_seconds = [one for one in fences(ROOT / "README.md") if one.kind == "bash"]
    run_block(sixty_seconds.text, tmp_path, "README.md", hide_qupath=True)
    assert (tmp_path / "results" / "summary.csv").is_file()
    assert (tmp_path / "my_project" / "project.qpproj").is_file()


def test_every_file_that_is_written_is_in_the_reference(after_tutorial):
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    patterns = [re.sub(r"<[^>]+>", "*", name).replace("...", "*") for name in names]
    for folder in ("results", "my_project", "nucliseg-qp-demo"):
        root = after_tutorial / folder
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            known = any(fnmatch(name, pattern) for pattern in patterns)
            assert path.is_dir() or known, f"{folder}/{name} is not in reference/files.md"


def test_written_pages_are_those_of_the_code():
    for path, text in maker.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/make_reference.py"


@pytest.mark.parametrize(
    ("hint", "words"),
    [(tuple[Path, ...], "one or more of: path"), (tuple[float, float, float], "3 numbers")],
)
def test_a_value_is_told_as_what_it_is(hint, words):
    assert maker.kind(hint) == words


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_the_help_and_of_the_reference_are_the_same(verb):
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    own = re.search(rf"^## {verb}\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)[1]
    shared = page.partition("## Flags of the settings\n")[2]
    written = own + (shared if "#flags-of-the-settings" in own else "")
    cells = re.findall(r"^\| (`-[^|]*) \|", written, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    shown = subprocess.run(
        [sys.executable, "-m", "nucliseg_qp", *verb.split(), "--help"],
        env={**os.environ, "COLUMNS": "250"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    heads = re.findall(r"^│[ *]*((?:-{1,2}[a-z][\w.-]*,? )+)", shown, re.MULTILINE)
    offered = {name for head in heads for name in head.split()}
    assert offered - {"--help", "-h"} == documented


def test_all_verbs_are_in_the_reference():
    shown = subprocess.run(
        [sys.executable, "-m", "nucliseg_qp", "--help"], capture_output=True, text=True, check=True
    ).stdout
    offered = re.findall(r"^│ ([a-z][a-z-]*) ", shown, re.MULTILINE)
    assert sorted(offered) == sorted({verb.split()[0] for verb in VERBS})
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert {f"\n## {verb}\n" in page for verb in VERBS} == {True}


def test_every_exit_code_is_explained():
    page = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    public = [getattr(nucliseg_qp.errors, name) for name in nucliseg_qp.errors.__all__]
    errors = [one for one in public if isinstance(one, type)]
    assert NucliSegError in errors
    assert documented == {0, INTERRUPTED, *(error.exit_code for error in errors)}


def test_every_measurement_is_explained():
    page = (DOCS / "reference" / "measurements.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert names == [*MEASUREMENT_COLUMNS, CLASS_MARGIN]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as mkdocs and GitHub make them of plain headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if target.startswith(("https://", "mailto:")):
            continue
        place = page.parent / target if target else page
        assert place.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(place), f"{page.name} links to {target}#{anchor}"


def test_the_tasks_that_contributors_are_told_exist():
    tasks = set(
        re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "README.md"):
        for told in re.findall(r"`make ([\w ]+)`", page.read_text(encoding="utf-8")):
            assert set(told.split()) <= tasks, f"{page.name}: make {told}"
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for entry in re.findall(r"entry: ([\w-]+)", hooks):
        assert shutil.which(entry, path=str(Path(sys.executable).parent)), f"no {entry} for a hook"
    *checks, pages = re.findall(r"files: (.+)", hooks)
    for pattern in (*checks, pages):
        assert re.search(pattern, "nucliseg_qp/pipeline.py"), f"{pattern} passes the code by"
    assert re.search(pages, "groovy/detect_nuclei.groovy"), "scripts are described on a page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_pages_load_nothing_from_elsewhere(page):
    assert not re.search(r"!\[[^\]]*\]\(https?:|<script|<img|<iframe", page.read_text())


def test_readme_begins_with_the_two_commands():
    first, second = [one.text for one in fences(ROOT / "README.md")[:2]]
    assert first.count("\n") == second.count("\n") == 1
    assert first.endswith("&& .venv/bin/nucliseg-qp demo\n")
    assert second.endswith("&& .venv/bin/pytest\n")


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material comes with the extra `docs`")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"?https?://(?!www\.w3\.org)")
    for page in tmp_path.rglob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), f"{page.name} needs a network"
