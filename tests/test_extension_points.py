"""A reader and a class rule added by following CONTRIBUTING.md to the letter are used by detect."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nucliseg_qp.cli import run
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.palette.exchange import palette_json
from nucliseg_qp.qupath.reading import read_geojson
from nucliseg_qp.review.fitting import fit_palette
from nucliseg_qp.review.judged import JudgedRows

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILE = re.compile(r"^```\w+ title=\"(.+?)\"\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(FILE.findall(PAGE.read_text(encoding="utf-8")))
MOST_LINES = 40
NAMES = ("Small", "Negative", "Positive")


def install(folder: Path, project: str) -> None:
    """Lay down what `pip install` of a package lays down: its modules, and its entry points."""
    about = tomllib.loads(project)
    for module in about["tool"]["setuptools"]["py-modules"]:
        (folder / f"{module}.py").write_text(FILES[f"{module}.py"], encoding="utf-8")
    info = folder / "my_nuclei-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-nuclei\nVersion: 0.1\n")
    groups = about["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
            for group, points in groups
        )
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the package of the page, and give a folder with an image and its palette."""
    folder, site = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("site")
    install(site, FILES["pyproject.toml"])
    (folder / "small_first.toml").write_text(FILES["small_first.toml"], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield folder


@pytest.fixture(scope="module")
def field(installed, small_slide):
    """Give a field of the synthetic slide as numpy saved it."""
    with open_slide(small_slide) as slide:
        np.save(installed / "field.npy", slide.read_region((0, 0), 0, (400, 400)))
    return installed / "field.npy"


def test_each_is_written_in_less_than_forty_lines():
    for name in ("npy_reader.py", "size_rule.py", "small_first.toml", "pyproject.toml"):
        assert 0 < len(FILES[name].splitlines()) < MOST_LINES, name


def test_detect_uses_the_reader_and_the_rule(field, installed, monkeypatch, capsys):
    monkeypatch.chdir(field.parent)
    [line] = re.findall(r"^\$ nucliseg-qp (detect .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert run(line.split()) == 0, capsys.readouterr().err
    nuclei = read_geojson(installed / "results" / "nuclei" / "field.geojson.gz").nuclei
    counts = nuclei.counts()
    assert len(nuclei) > 30
    assert set(counts) == set(NAMES)
    area = nuclei.measurements["Nucleus: Area"]
    small = nuclei.class_index == nuclei.class_names.index("Small")
    assert (small == (area < 20)).all()
    [row] = csv.DictReader((installed / "results" / "summary.csv").open(encoding="utf-8"))
    assert [int(row[f"Num {name}"]) for name in NAMES] == [counts[name] for name in NAMES]


def test_pixels_come_out_of_the_reader_as_they_were_saved(field):
    saved = np.load(field)
    with open_slide(field, slide_mpp=0.25) as slide:
        assert slide.reader == "numpy"
        assert (slide.read_region((30, 50), 0, (70, 20)) == saved[50:70, 30:100]).all()


def test_the_reader_refuses_what_it_cannot_read(installed):
    np.save(installed / "grey.npy", np.zeros((9, 9), np.float32))
    with pytest.raises(InputError, match="holds float32"):
        open_slide(installed / "grey.npy", slide_mpp=0.25)


def test_files_nobody_knows_are_still_refused(installed):
    (installed / "a.xyz").write_bytes(b"nothing known")
    with pytest.raises(InputError, match="no image of a known kind"):
        open_slide(installed / "a.xyz", slide_mpp=0.25)


@pytest.mark.usefixtures("installed")
def test_a_palette_with_wrong_settings_says_so(tmp_path):
    text = FILES["small_first.toml"]
    broken = {
        "settings .*smallest_um2": text.replace("smallest_um2 = 20\n", ""),
        "three classes are wanted": text[: text.rindex("[[class]]")],
        r"no rule 'big-first'.*nearest-color, small-first": text.replace("small-f", "big-f"),
    }
    for words, content in broken.items():
        (tmp_path / "p.toml").write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=words) as caught:
            load_palette(tmp_path / "p.toml")
        assert "p.toml" in str(caught.value)


def test_what_knows_the_rules_of_the_house_only_says_so(installed):
    palette = load_palette(installed / "small_first.toml")
    with pytest.raises(UsageError, match="SmallFirst cannot go to QuPath"):
        palette_json(palette)
    columns = {name: np.zeros(30, np.float32) for name in palette.rule.measurements}
    rows = JudgedRows("a", columns, np.repeat(np.arange(3), 10).astype(np.int16))
    with pytest.raises(InputError, match="SmallFirst cannot be fitted"):
        fit_palette(palette, [rows])


def test_an_extension_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    install(tmp_path, FILES["pyproject.toml"].replace("npy_reader:open_npy", "npy_reader:gone"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a.xyz").write_bytes(b"nothing known")
    with pytest.raises(UsageError, match=r"npy, which a package adds .*cannot be imported"):
        open_slide(tmp_path / "a.xyz", slide_mpp=0.25)
