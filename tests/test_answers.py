"""What the command line tells programs, and that people can read what it tells them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from test_docs import DOCS, VERBS, maker

from nucliseg_qp.cli import run
from nucliseg_qp.cli.app import VERBS as VERBS_BY_GROUP
from nucliseg_qp.cli.app import app
from nucliseg_qp.config import MaskSettings, Settings, load_settings
from nucliseg_qp.errors import UsageError

PAGE = (DOCS / "reference" / "json.md").read_text(encoding="utf-8")
FIELDS = {
    verb: set(re.findall(r"`(\w+)`", cell.split(";")[0]))
    for verb, cell in re.findall(r"^\| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
}
WITHOUT_JSON = {"run-request", "data script"}
CORNER = "--region=0,0,300,300"


@pytest.fixture
def asked(capfd, monkeypatch, tmp_path):
    """Run a verb with --json in a folder of its own; give exit code, answer and messages."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object):
        code = run([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out), err

    return call


def test_every_verb_answers_programs_and_the_page_says_what():
    offered = {
        name
        for name, verb in maker.verbs(app)
        if any("--json" in one.names for one in maker.verb_arguments(verb))
    }
    assert offered == set(VERBS) - WITHOUT_JSON == set(FIELDS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_how_it_is_called(verb):
    text = maker.verb_part(verb, dict(maker.verbs(app))[verb])
    assert f"Example: `nucliseg-qp {verb}" in text


def test_help_is_in_groups_by_use_and_tells_no_default_that_is_nothing(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    titles = [group.name for group in VERBS_BY_GROUP]
    assert titles == sorted(titles, key=text.index)
    assert text.index(" detect ") < text.index(" annotate ") < text.index(" doctor ")
    run(["annotate", "--help"])
    assert not re.search(r"default:\s+(None|False|\[)", capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["doctor", "settings", "scripts list"])
def test_the_answer_has_the_fields_of_the_page(asked, verb):
    _, answer, _ = asked(*verb.split())
    assert set(answer) == FIELDS[verb]


def test_an_analysis_answers_with_a_row_an_image(asked, small_slide):
    code, answer, _ = asked("detect", small_slide, "nix.tif", "-o", "out", CORNER)
    good, bad = answer["images"]
    assert code == 1
    assert set(answer) == FIELDS["detect"]
    assert good["nuclei"] == good["Num Negative"] + good["Num Positive"] > 0
    assert (good["status"], good["problem"]) == ("done", "")
    assert (bad["status"], bad["nuclei"], bad["Positive %"]) == ("failed", None, None)
    assert "does not exist" in bad["problem"]


def test_a_plan_answers_without_doing_anything(asked, tmp_path, small_slide):
    code, answer, _ = asked("detect", small_slide, "-o", "out", "--dry-run")
    assert code == 0
    assert answer["plan"][0]["width_px"] == 1024
    assert answer["settings"]["masks"]["mpp"] == MaskSettings().mpp
    assert not (tmp_path / "out").exists()


def test_a_project_made_and_reported_answers(asked, small_slide):
    words = ("annotate", small_slide, "--project", "p é", "--writer", "files", CORNER)
    code, answer, _ = asked(*words)
    assert (code, answer["project"]) == (0, "p é")
    assert set(answer) == FIELDS["annotate"]
    assert asked("scripts", "install", "p é")[1].keys() == FIELDS["scripts install"]
    assert asked("relink", "p é")[1] == {"moves": []}


@pytest.mark.parametrize(
    ("arguments", "code"), [(["detect"], 2), (["detct"], 2), (["report", "nix.qpproj"], 5)]
)
def test_an_error_is_told_to_programs_as_well(asked, arguments, code):
    ended, answer, err = asked(*arguments)
    assert ended == answer["error"]["exit_code"] == code
    assert answer["error"]["message"] in err
    assert len(err.splitlines()) == 1


def test_json_is_utf_8_on_any_terminal():
    done = subprocess.run(
        [sys.executable, "-m", "nucliseg_qp", "report", "ä.qpproj", "--json"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stdout)["error"]["message"] == "project ä.qpproj does not exist"


# ---- typing errors -------------------------------------------------------------------------------

TYPOS = {
    "[masks]\nreach = 3": ("masks.reach.", "masks.reach_um?"),
    "[mask]\nreach_um = 3": ("setting mask.", "masks?"),
    "reach_um = 3": ("setting reach_um.", "masks.reach_um?"),
    "[masks]\nthreshold = 0.4": ("masks.threshold.", "keypoints.threshold?"),
    "[masks]\nqqq = 0.4": ("masks.qqq.", ""),
}


@pytest.mark.parametrize("text", TYPOS)
def test_a_misspelt_setting_is_named_with_the_nearest(capsys, tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    assert run(["settings", "-c", str(tmp_path / "mine.toml")]) == 2
    said = capsys.readouterr().err
    seen, meant = TYPOS[text]
    assert seen in said
    assert (f"Did you mean {meant}" in said) == bool(meant)
    assert "mine.toml" in said
    assert "inputs" not in said


def test_a_smallest_area_above_the_largest_is_refused_not_a_run_without_nuclei(capsys, tmp_path):
    (tmp_path / "large.toml").write_text("[masks]\nmax_area_um2 = 500\n")
    command = ["settings", "--masks.min-area-um2", "300"]
    assert run([*command, "-c", str(tmp_path / "large.toml")]) == 0
    capsys.readouterr()
    assert run(command) == 2
    assert "less than masks.max_area_um2 = 250" in capsys.readouterr().err


MADE = {
    "masks": lambda: MaskSettings(min_area_um2=250),
    "all": lambda: Settings(masks={"min_area_um2": 300, "max_area_um2": 250}),
    "JSON": lambda: Settings.model_validate_json('{"masks": {"max_area_um2": 4}}'),
    "overrides": lambda: load_settings(overrides={"masks": {"max_area_um2": 4}}),
}


@pytest.mark.parametrize("how", MADE)
def test_a_smallest_area_above_the_largest_is_refused_however_settings_are_made(how):
    with pytest.raises(UsageError) as caught:
        MADE[how]()
    told = r"setting masks.min_area_um2 = \d+ leaves no nucleus. Give less than masks.max_area_um2"
    assert re.match(told, str(caught.value))
    assert "\n" not in str(caught.value)


MISSPELT = {
    "MASKS_REACH": "MASKS_REACH_UM",
    "MASK_REACH_UM": "MASKS_REACH_UM",
    "TILE_SIZE_PX": "TILES_SIZE_PX",
    "XYZ": "",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_variable_is_not_passed_over(capsys, monkeypatch, name):
    monkeypatch.setenv(f"NUCLISEG_QP_{name}", "3")
    assert run(["settings"]) == 2
    said = capsys.readouterr().err
    assert f"there is no environment variable NUCLISEG_QP_{name}" in said
    meant = MISSPELT[name]
    assert (f"Did you mean NUCLISEG_QP_{meant}?" in said) == bool(meant)


@pytest.mark.parametrize("name", ["PALETTE_FOLDER", "OUT", "THRESHOLD", "REVIEWER"])
def test_a_variable_that_somebody_reads_is_none_to_complain_about(capsys, monkeypatch, name):
    """One that is set for all verbs of a session stands for options only some of them have."""
    monkeypatch.setenv(f"NUCLISEG_QP_{name}", "0.4")
    assert run(["settings"]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "flags", "told"),
    [
        ("NUCLISEG_QP_MASKS_REACH_UM", [], "NUCLISEG_QP_MASKS_REACH_UM 'abc'"),
        ("NUCLISEG_QP_THRESHOLD", [], "NUCLISEG_QP_THRESHOLD 'abc'"),
        ("NUCLISEG_QP_THRESHOLD", ["--keypoints.threshold", "9"], "--keypoints.threshold '9'"),
        ("NUCLISEG_QP_MASKS", [], "NUCLISEG_QP_MASKS 'abc'"),
    ],
)
def test_a_wrong_value_is_told_with_the_name_it_was_given_by(
    capsys, monkeypatch, variable, flags, told
):
    monkeypatch.setenv(variable, "abc")
    assert run(["settings", *flags]) == 2
    assert f"error: {told}: " in capsys.readouterr().err


def test_a_misspelt_field_of_a_palette_is_named(capsys, tmp_path):
    entry = '[[class]]\nname = "{}"\ncolor = [1, 2, 3]\n'
    text = 'rule = "optical-density"\n' + entry.format("A") + entry.format("B") + "form = 0.2\n"
    (tmp_path / "mine.toml").write_text(text)
    assert run(["detect", "x.tif", "-o", "out", "-p", str(tmp_path / "mine.toml")]) == 2
    said = capsys.readouterr().err
    assert "class 2 ('B') form" in said
    assert "'from' is meant" in said


@pytest.mark.parametrize("verb", ["annotate", "report", "relink"])
def test_a_project_that_is_not_there_is_called_as_it_was_given(capsys, verb):
    assert run([verb, "nothing.qpproj"]) == 5
    assert "project nothing.qpproj does not exist" in capsys.readouterr().err


# ---- for the eye ---------------------------------------------------------------------------------


def seen_in_colour(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nucliseg_qp", *arguments],
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


COLOUR = re.compile(r"\x1b\[[\d;]*?(?<!\d)([349][0-7])[;m\d]")


@pytest.mark.parametrize("arguments", [["detect"], ["--help"], ["scripts", "list", "--help"]])
def test_no_color_is_heard_and_colours_suit_black_and_white(arguments):
    colourful = seen_in_colour(*arguments, NO_COLOR="")
    assert "\x1b[" in colourful
    # 31 is red, 35 magenta: the others vanish on one of the two.
    assert set(COLOUR.findall(colourful)) <= {"31", "35"}
    assert not COLOUR.search(seen_in_colour(*arguments, NO_COLOR="1"))


def test_numbers_stay_whole_on_a_narrow_terminal():
    import io

    from rich.console import Console

    from nucliseg_qp.cli.tables import grid

    row = {"image": "a rather long name of a slide.svs", **{f"figure {n}": 0.123 for n in range(8)}}
    screen = Console(file=io.StringIO(), width=72)
    screen.print(grid([row]))
    assert screen.file.getvalue().count("0.123") == 8
