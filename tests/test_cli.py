"""The command line: one line that says what and what to do, the documented exit code."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nucliseg_qp.cli import run

VERBS = ("detect", "annotate", "demo", "doctor", "settings", "train", "evaluate", "export")
PROGRAM = (sys.executable, "-m", "nucliseg_qp")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
CORNER = "--region=0,0,300,300"


class Said:
    """What a run printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        code = run([str(one) for one in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def finals(folder: Path) -> list[Path]:
    """Every file under a folder, temporary ones too."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_features(path: Path) -> list[dict]:
    return json.loads(gzip.decompress(path.read_bytes()))["features"]


# --- wrong inputs --------------------------------------------------------------------------------


def make_wrong(folder: Path, kind: str, slide: Path) -> Path:
    """Make an image nobody can analyse."""
    path = folder / f"{kind.replace(' ', '_')}.tif"
    if kind == "text":
        path = path.with_suffix(".svs")
        path.write_text("this is no slide\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        data = slide.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "16 bit":
        tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint16), photometric="rgb")
    elif kind == "grey":
        tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    elif kind == "no pixel size":
        tifffile.imwrite(path, np.full((64, 64, 3), 200, np.uint8), photometric="rgb")
    elif kind == "huge":
        claim_size(path, 1_000_000, 1_000_000)
    elif kind == "png bomb":
        path = path.with_suffix(".png")
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x0f\x42\x40\0\x0f\x42\x40\x08\2\0\0\0" + b"\0" * 40
        )
    return path


def claim_size(path: Path, width: int, height: int) -> None:
    """Write a small TIFF whose header claims another size."""
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(64, 64))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages[0].tags
        tags["ImageWidth"].overwrite(width, dtype="I")
        tags["ImageLength"].overwrite(height, dtype="I")


WRONG_IMAGES = {
    "missing": "does not exist",
    "folder": "is a folder",
    "text": "no image of a known kind",
    "empty": "is empty",
    "truncated": "truncated",
    "16 bit": "16 bit",
    "grey": "8-bit RGB",
    "no pixel size": "--slide-mpp",
    "huge": "1000000 x 1000000",
    "png bomb": "png_bomb.png",
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_a_wrong_image_gets_one_line_its_own_exit_code_and_no_files(
    cli, tmp_path, small_slide, kind
):
    path = make_wrong(tmp_path, kind, small_slide)
    said = cli("detect", path, "-o", "out")
    assert said.code == 3
    assert len(said.errors) == 1
    assert WRONG_IMAGES[kind] in said.errors[0]
    assert path.name in said.errors[0]
    assert said.errors[0].rstrip().endswith((".", ")", ":", "90"))
    assert "Traceback" not in said.err
    assert [one.name for one in finals(tmp_path / "out")] == ["run.json", "summary.csv"]


WRONG_OPTIONS = {
    "no such option": (["--nix"], 2, "--nix"),
    "a misspelt option": (["--tresholt", "0.3"], 2, "--tresholt"),
    "no such palette": (["--palette", "nix"], 2, "palette 'nix'"),
    "negative threshold": (["--threshold=-1"], 2, "greater than 0"),
    "text for a number": (["--slide-mpp", "abc"], 2, "--slide-mpp"),
    "impossible pixel size": (["--slide-mpp", "300"], 2, "--slide-mpp"),
    "negative reach": (["--masks.reach-um=-3"], 2, "--masks.reach-um"),
    "tile of no size": (["--tile-size", "0"], 2, "--tile-size"),
    "no batch": (["--keypoints.batch-size", "0"], 2, "--keypoints.batch-size"),
    "three numbers": (["--region", "1,2,3"], 2, "--region x,y,width,height"),
    "words": (["--region", "a,b,c,d"], 2, "--region x,y,width,height"),
    "no width": (["--region=5,5,0,10"], 2, "empty"),
    "outside": (["--region", "5000,5000,10,10"], 3, "outside"),
    "left of the image": (["--region", "-500,-500,100,100"], 3, "outside"),
    "no such device": (["--device", "gpu"], 4, "cpu"),
    "no such card": (["--device", "cuda:7"], 4, "cuda:7"),
    "no such model": (["--model", "nix"], 4, "no model is called 'nix'"),
    "a pickle": (["--model", "model.pt"], 4, "pickle"),
    "a pickle in disguise": (["--model", "model.safetensors"], 4, "pickle"),
    "no such settings": (["--config", "nix.toml"], 2, "nix.toml"),
    "settings with a typo": (["--config", "typo.toml"], 2, "masks.reach"),
    "broken settings": (["--config", "broken.toml"], 2, "not TOML"),
    "no such area": (["--within", "nix.geojson"], 3, "nix.geojson"),
    "broken area": (["--within", "broken.json"], 3, "not GeoJSON"),
    "empty area": (["--within", "empty.json"], 3, "no polygon"),
    "area outside": (["--within", "outside.json"], 3, "outside"),
    "deep area": (["--within", "deep.json"], 3, "deep.json"),
    "area of text": (["--within", "text.json"], 3, "text.json"),
    "area without end": (["--within", "infinite.json"], 3, "infinite.json"),
    "a folder that is a file": (["-o", "taken"], 6, "taken"),
    "a folder in a file": (["-o", "taken/inside"], 6, "taken"),
}  # fmt: skip


def make_option_files(folder: Path) -> None:
    square = "[[5000,5000],[6000,5000],[6000,6000],[5000,5000]]"
    texts = {
        "taken": "somebody's file",
        "typo.toml": "[masks]\nreach = 3\n",
        "broken.toml": "[masks\n",
        "broken.json": '{"type": "Feature", ',
        "empty.json": '{"type":"FeatureCollection","features":[]}',
        "outside.json": f'{{"type":"Polygon","coordinates":[{square}]}}',
        "deep.json": "[" * 100_000 + "]" * 100_000,
        "text.json": '{"type":"Polygon","coordinates":[[["a","b"],["c","d"],["e","f"],["a","b"]]]}',
        "infinite.json": '{"type":"Polygon","coordinates":[[[0,0],[1e400,0],[5,5],[0,0]]]}',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    zip_head = b"PK\x03\x04" + bytes(64)
    (folder / "model.pt").write_bytes(zip_head)
    shipped = Path(sys.modules["nucliseg_qp"].__file__).parent / "keypoints" / "weights"
    (folder / "model.safetensors").write_bytes(b"\x80\x04K\x01." + bytes(64))
    shutil.copy(next(shipped.glob("*.toml")), folder / "model.toml")


@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_a_wrong_option_gets_one_line_and_its_exit_code(cli, tmp_path, small_slide, kind):
    make_option_files(tmp_path)
    before = finals(tmp_path)
    options, code, named = WRONG_OPTIONS[kind]
    out = [] if "-o" in options else ["-o", "out"]
    said = cli("detect", small_slide, *out, *options)
    assert said.code == code
    assert len(said.errors) == 1
    assert named in said.errors[0]
    assert "Traceback" not in said.err
    left = {path.name for path in finals(tmp_path) if path not in before}
    assert left <= {"run.json", "summary.csv"}
    assert (tmp_path / "taken").read_text() == "somebody's file"


def test_forgotten_arguments_are_named(cli):
    for arguments, named in (
        (["detect"], "IMAGES"),
        (["detect", "a.tif"], "--out"),
        (["annotate", "a.tif"], "--project"),
        (["nix"], "nix"),
    ):
        said = cli(*arguments)
        assert (said.code, len(said.err.splitlines())) == (2, 1)
        assert named in said.err


def test_two_images_that_would_overwrite_each_other_are_refused_at_once(cli, tmp_path, small_slide):
    for name in ("a/x.ome.tif", "b/X.tif", "x.001.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(small_slide, tmp_path / name)
    for other in ("b/X.tif", "x.001.tif"):
        said = cli("detect", "a/x.ome.tif", other, "-o", "out")
        assert said.code == 2
        assert len(said.errors) == 1
        assert "same files" in said.errors[0]
        assert not (tmp_path / "out").exists()


def test_a_project_that_cannot_be_made_is_an_output_error(cli, tmp_path, small_slide):
    (tmp_path / "taken").touch()
    said = cli("annotate", small_slide, "--project", "taken", "--writer", "files", CORNER)
    assert said.code == 6
    assert len(said.errors) == 1


@pytest.mark.qupath
@pytest.mark.parametrize("spelling", ["relative", "link"])
def test_an_image_qupath_refuses_is_not_announced_as_done(cli, tmp_path, small_slide, spelling):
    """An image may come back from QuPath's process under another spelling of its path."""
    image = tmp_path / "slide.ome.tif"
    image.symlink_to(small_slide) if spelling == "link" else shutil.copy(small_slide, image)
    given = "slide.ome.tif" if spelling == "relative" else image
    assert cli("annotate", given, "--project", "p", "--writer", "paquo", CORNER).code == 0
    data = next((tmp_path / "p" / "data").rglob("data.qpdata"))
    data.write_bytes(data.read_bytes()[:200])
    said = cli("annotate", given, "--project", "p", "--writer", "paquo", CORNER)
    assert said.code == 5
    assert "failed" in said.out
    assert len(said.errors) == 1


def test_a_broken_project_is_refused_before_the_analysis(cli, tmp_path, small_slide):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "project.qpproj").write_text("{")
    said = cli("annotate", small_slide, "--project", "p", "--writer", "files", CORNER)
    assert said.code == 5
    assert "nuclei" not in said.out


@pytest.mark.parametrize(
    "option", [("--masks.reach-um", "inf"), ("--mpp", "1e9"), ("--masks.otsu-offset", "nan")]
)
def test_lengths_no_nucleus_has_are_refused(cli, small_slide, option):
    said = cli("detect", small_slide, "-o", "out", *option, CORNER)
    assert said.code == 2
    assert len(said.errors) == 1


def test_an_image_given_in_two_spellings_is_taken_once(cli, tmp_path, small_slide):
    shutil.copy(small_slide, tmp_path / "a.ome.tif")
    (tmp_path / "b").mkdir()
    said = cli("detect", "a.ome.tif", "b/../a.ome.tif", "-o", "out", CORNER)
    assert said.code == 0
    assert len(list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))) == 1


def test_no_project_is_announced_where_none_was_written(cli):
    said = cli("annotate", "nix.tif", "--project", "new", "--writer", "files")
    assert said.code == 3
    assert "open" not in said.err


# --- right inputs --------------------------------------------------------------------------------


def test_one_bad_image_among_three_does_not_stop_the_others(cli, tmp_path, small_slide):
    for name in ("a.ome.tif", "c.ome.tif"):
        shutil.copy(small_slide, tmp_path / name)
    (tmp_path / "b.tif").write_text("no image")
    said = cli("detect", "a.ome.tif", "b.tif", "c.ome.tif", "-o", "out", CORNER)
    assert said.code == 1
    assert len(said.errors) == 1
    assert "b.tif" in said.errors[0]
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[0]["nuclei"] == rows[2]["nuclei"] != "0"
    assert rows[1]["nuclei"] == rows[1]["Positive %"] == ""
    assert {path.name for path in (tmp_path / "out" / "nuclei").iterdir()} == {
        "a.geojson.gz",
        "c.geojson.gz",
    }


def test_an_image_given_twice_is_analysed_once(cli, small_slide):
    said = cli("detect", small_slide, small_slide, "-o", "out", CORNER)
    assert said.code == 0
    assert said.err.count(": done:") == 1
    assert "[1/1]" in said.err


ODD_NAMES = [
    "with blanks and, comma's.ome.tif",
    "[bold]red[link] :cat: [x.ome.tif",
    "Kern-ß 細胞核 é.ome.tif",
    "tab\tand\x1b[31mcolour.ome.tif",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_through_from_end_to_end(cli, tmp_path, small_slide, name):
    folder = tmp_path / f"in {name[:-8]}"
    folder.mkdir()
    shutil.copy(small_slide, folder / name)
    said = cli("detect", folder / name, folder / f"no {name}", "-o", folder / "out", CORNER)
    assert said.code == 1
    assert len(said.errors) == 1
    assert "\x1b" not in said.err + said.out
    if name.isprintable():
        assert name in said.out
        assert f"no {name} does not exist" in said.errors[0]
    stem = name.removesuffix(".ome.tif")
    assert len(read_features(folder / "out" / "nuclei" / f"{stem}.geojson.gz")) > 10
    record = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))
    assert Path(record["images"][0]["path"]).name == name


@pytest.mark.skipif(sys.platform != "linux", reason="only there may names be any bytes")
def test_a_name_that_is_not_text_is_refused_before_anything_is_written(cli, tmp_path, small_slide):
    name = os.fsdecode(b"slide\xff\xe9.ome.tif")
    shutil.copy(small_slide, tmp_path / name)
    said = cli("detect", name, "-o", "out", CORNER)
    assert said.code == 3
    assert "UTF-8" in said.errors[0]
    assert not (tmp_path / "out").exists()


def test_results_go_to_stdout_and_everything_else_to_stderr(cli, small_slide):
    said = cli("detect", small_slide, "-o", "out", CORNER)
    title, row = said.out.splitlines()
    assert title.split()[:2] == ["image", "nuclei"]
    assert row.split()[0] == small_slide.name
    assert row.split()[-1] == "done"
    assert "model " in said.err
    assert "results are in out" in said.err
    assert "\x1b" not in said.err  # plain lines without a terminal


def test_whoever_gives_a_coarse_image_is_told_what_to_expect(cli, small_slide):
    said = cli("detect", small_slide, "-o", "out", CORNER, "--slide-mpp", "0.7")
    assert said.code == 0
    assert "pixels of 0.7 um are coarse" in said.err
    assert "coarse" not in cli("detect", small_slide, "-o", "fine", CORNER).err


def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    from nucliseg_qp.cli import progress

    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", -1.0)
    with progress.BatchView(3) as view:
        view.image(Path("a [1].svs"))
        view.stage("keypoints", 10)
        view.advance(4)
        view.stage("outlines", 2)
        view.advance(1, 1234)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[1/3] a [1].svs: keypoints: 4/10"
    assert lines[1].startswith("[1/3] a [1].svs: outlines: 1/2 1,234 nuclei, ")


def test_a_live_bar_survives_file_names_that_look_like_markup(monkeypatch):
    import io

    from rich.console import Console

    from nucliseg_qp.cli import progress

    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "messages", screen)
    with progress.BatchView(1) as view:
        view.image(Path("x[bold][nix].svs"))
        view.stage("outlines", 2)
        view.advance(1, 5)
    assert "x[bold][nix].svs" in screen.file.getvalue()


def test_a_dry_run_tells_the_plan_and_writes_nothing(cli, tmp_path, small_slide):
    said = cli("detect", small_slide, "-o", "out", "--dry-run", "--masks.reach-um", "7.5")
    assert said.code == 0
    assert '"reach_um": 7.5' in said.out
    assert "1024 x 1024 px" in said.out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_plans_the_images_beside_one_that_cannot_be_read(cli, tmp_path, small_slide):
    (tmp_path / "bad.png").write_bytes(b"no image")
    said = cli("detect", "bad.png", small_slide, "-o", "out", "--dry-run")
    assert said.code == 1
    assert "1024 x 1024 px" in said.out
    assert "bad.png" in said.errors[0]
    assert cli("detect", "bad.png", "-o", "out", "--dry-run").code == 3


def test_flags_win_over_environment_and_that_over_the_file(cli, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[masks]\nreach_um = 7.0\nmargin_um = 0.7\n")
    monkeypatch.setenv("NUCLISEG_QP_MASKS_REACH_UM", "8.0")
    said = cli("settings", "--config", "mine.toml")
    assert "reach_um = 8.0" in said.out
    assert "margin_um = 0.7" in said.out
    assert "reach_um = 9.0" in cli("settings", "-c", "mine.toml", "--masks.reach-um", "9").out


def test_printed_settings_can_be_given_back(cli, tmp_path):
    (tmp_path / "mine.toml").write_text(cli("settings", "--masks.reach-um", "9").out)
    assert cli("settings", "--config", "mine.toml").out == (tmp_path / "mine.toml").read_text()


def test_stages_shows_each_step_at_one_size(cli, tmp_path, small_slide):
    import cv2

    said = cli("detect", small_slide, "-o", "out", CORNER, "--stages", "steps")
    assert said.code == 0
    pictures = finals(tmp_path / "steps")
    assert [path.name[0] for path in pictures] == list("123456")
    assert len({cv2.imread(str(path)).shape for path in pictures}) == 1


def test_stages_that_cannot_be_written_come_after_the_results(cli, tmp_path, small_slide):
    (tmp_path / "taken").touch()
    said = cli("detect", small_slide, "-o", "out", CORNER, "--stages", "taken/steps")
    assert said.code == 6
    assert "done" in said.out
    assert len(said.errors) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_shows_an_example(cli, verb):
    said = cli(verb, "--help")
    assert said.code == 0
    assert f"nucliseg-qp {verb}" in said.out
    assert "Example" in said.out


def test_doctor_answers_machines(cli):
    said = cli("doctor", "--json")
    checks = json.loads(said.out)["checks"]
    assert {"Python", "torch", "device", "readers", "Java", "QuPath", "paquo", "model", "disk"} <= {
        check["name"] for check in checks
    }
    for check in checks:
        assert set(check) == {"name", "status", "seen", "fix"}
        assert check["status"] in ("ok", "warn", "fail")
        assert check["seen"]
        assert (check["fix"] == "") == (check["status"] == "ok")
    assert said.code == int(any(check["status"] == "fail" for check in checks))


def test_doctor_answers_people(cli):
    said = cli("doctor")
    assert [line.split()[0] for line in said.out.splitlines()][:3] == ["what", "Python", "torch"]


def test_demo_goes_through_to_a_project_and_prints_its_table(tmp_path):
    done = subprocess.run(
        [*PROGRAM, "demo", str(tmp_path / "demo")], capture_output=True, text=True, env=ONE_THREAD
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    title, real, synthetic = done.stdout.splitlines()
    assert title.split() == ["image", "nuclei", "truth", "positive", "%", "truth", "%"]
    assert real.split()[2] == "unknown"
    nuclei, truth, found, true = (float(x.replace(",", "")) for x in synthetic.split()[1:])
    assert nuclei == pytest.approx(truth, rel=0.1)
    assert found == pytest.approx(true, abs=5)
    assert (tmp_path / "demo" / "project" / "project.qpproj").is_file()
    assert len(list((tmp_path / "demo" / "results" / "previews").glob("*.jpg"))) == 2


# --- a process that ends in the middle -----------------------------------------------------------


@pytest.fixture
def started(tmp_path, small_slide):
    """Start a run on many images and give it back when its first image is done."""
    images = [tmp_path / f"slide{number}.ome.tif" for number in range(40)]
    for image in images:
        image.symlink_to(small_slide)
    process = subprocess.Popen(
        [*PROGRAM, "detect", *map(str, images), "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
    )
    told = []
    for line in process.stderr:
        told.append(line)
        if ": done: " in line:
            break
    yield process, told
    process.kill()
    process.communicate()


def check_whole(folder: Path) -> int:
    """Read every file under a final name and give their number."""
    import cv2
    from pyarrow import parquet

    readers = {
        ".gz": read_features,
        ".parquet": parquet.read_table,
        ".jpg": lambda path: cv2.imread(str(path)).shape,
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".csv": lambda path: list(csv.DictReader(path.open(encoding="utf-8"))),
    }
    whole = [one for one in finals(folder) if ".part" not in str(one) and one.suffix != ".lock"]
    for path in whole:
        readers[path.suffix](path)
    return len(whole)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_exits_with_130_and_leaves_no_part_of_a_file(started, tmp_path, how):
    """SIGTERM is what a scheduler or a container sends when the time is over."""
    process, told = started
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "interrupted" in lines[0]
    assert "Traceback" not in "".join(told) + err
    assert check_whole(tmp_path / "out") >= 3
    assert not list((tmp_path / "out").rglob("*.part"))
    states = {row["status"] for row in csv.DictReader((tmp_path / "out" / "summary.csv").open())}
    assert states == {"done", "failed", "skipped"}


def test_killed_it_leaves_nothing_under_a_final_name_that_is_not_whole(started, tmp_path):
    process, _ = started
    process.kill()
    process.wait()
    assert check_whole(tmp_path / "out") >= 3
    assert not (tmp_path / "out" / "run.json").exists()


def run_limited(tmp_path: Path, slide: Path, limit_bytes: int) -> subprocess.CompletedProcess:
    """Run where no file may grow beyond a limit, as on a full disk."""
    return subprocess.run(
        [*PROGRAM, "detect", str(slide), "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=ONE_THREAD,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )


@pytest.mark.parametrize("limit_bytes", [2_000, 60_000])
def test_a_full_disk_is_an_output_error_and_leaves_nothing_half_written(
    tmp_path, small_slide, limit_bytes
):
    done = run_limited(tmp_path, small_slide, limit_bytes)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "File too large" in errors[0]
    check_whole(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_terminal_without_unicode_does_not_end_the_run(tmp_path, small_slide):
    done = subprocess.run(
        [*PROGRAM, "detect", str(small_slide), "-o", str(tmp_path / "out ä"), CORNER],
        capture_output=True,
        env={**ONE_THREAD, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert done.stdout.split()[-1] == b"done"
