"""Whole projects, the parts that need no QuPath: choice, scope, views, journal, paths, report."""

# ruff: noqa: E501 - Groovy and JavaScript in long lines

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project_samples import make_project

from nucliseg_qp import cli
from nucliseg_qp.batch import SilentWatcher
from nucliseg_qp.errors import InputError, QuPathError, UsageError
from nucliseg_qp.geometry import Region
from nucliseg_qp.images.scope import Scope
from nucliseg_qp.images.slide import Slide
from nucliseg_qp.images.transformed import CroppedSlide, Orientation, TurnedSlide
from nucliseg_qp.nuclei import nucleus_ids
from nucliseg_qp.projects import late
from nucliseg_qp.projects.job import EntryOutcome
from nucliseg_qp.projects.journal import Journal, Record
from nucliseg_qp.projects.numbers import AreaNumbers, ImageNumbers, read_numbers
from nucliseg_qp.projects.record import begin_run, end_run, last_run
from nucliseg_qp.projects.relink import relink_project
from nucliseg_qp.projects.scope import ProjectScope, scope_of
from nucliseg_qp.projects.selection import Selection, choose_entries, open_project
from nucliseg_qp.projects.staging import stage
from nucliseg_qp.qupath.builders import open_entry
from nucliseg_qp.qupath.data_file import DataState, data_since, data_state
from nucliseg_qp.qupath.held import EntryResult, Held, HeldArea, Parent, Written
from nucliseg_qp.qupath.lock import locked
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.report import write_report
from nucliseg_qp.report.outliers import find_outliers

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

UUID = "3c5eaa90-2be6-5d0e-9fb6-0b1a1de4a9f2"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("plain"), 3, 256)


# ---- which images -------------------------------------------------------------------------------


def chosen(root: Path, *images: str, metadata: tuple[str, ...] = ()) -> list[int]:
    return [one.id for one in choose_entries(open_project(root), Selection(images, metadata))]


def test_images_are_chosen_by_name_pattern_number_and_metadata(project, tmp_path):
    root = shutil.copytree(project, tmp_path / "p")
    name = open_project(root).entries[1].name
    assert chosen(root) == [1, 2, 3]
    assert chosen(root, name) == [2]
    assert chosen(root, "*№[02]*") == [1, 3]
    assert chosen(root, "#3", "#1") == [1, 3], "in the order of the project"
    edited = ProjectFile(ProjectFolder(root))
    edited.describe(2, {"Stain": "Ki-67", "Case": "17"})
    edited.save()
    assert chosen(root, metadata=("Stain=Ki*",)) == [2]
    for wrong in ({"images": ("x*",)}, {"metadata": ("Stain=ER",)}, {"metadata": ("Stain",)}):
        with pytest.raises(UsageError):
            choose_entries(open_project(root), Selection(**wrong))


def test_a_folder_without_project_is_an_error(tmp_path):
    with pytest.raises(QuPathError, match="does not exist"):
        open_project(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["a.png"], "--project"),
        (["PROJECT", "--region", "0,0,5,5"], "--scope"),
        (["PROJECT", "--scope", "somewhere"], "somewhere"),
        (["a.png", "--project", "x", "--scope", "tissue"], "project.qpproj"),
        (["PROJECT", "--image", "no such"], "no such"),
        (["PROJECT", "--project", "x"], "is a project: it takes no --project"),
    ],
)
def test_options_that_contradict_each_other_are_told(project, capsys, options, told):
    options = [str(project) if one == "PROJECT" else one for one in options]
    assert cli.run(["annotate", *options]) == 2
    assert told in capsys.readouterr().err


def claims(root: Path, version: object) -> Path:
    content = json.loads((root / "project.qpproj").read_text())
    (root / "project.qpproj").write_text(json.dumps({**content, "version": version}))
    return root


@pytest.mark.parametrize(
    "verb",
    [
        ["report", "PROJECT"],
        ["relink", "PROJECT", "--dry-run"],
        ["scripts", "install", "PROJECT"],
        ["annotate", "IMAGE", "--project", "PROJECT", "--writer", "files"],
        ["annotate", "PROJECT", "--apply-staged"],
        ["review", "collect", "PROJECT", "--sent", "-o", "OUT"],
    ],
    ids=" ".join,
)
def test_a_project_of_a_qupath_that_nobody_tested_is_used_with_one_warning(
    project, tmp_path, capsys, verb
):
    root = claims(shutil.copytree(project, tmp_path / "p"), "0.9.1-rc2")
    image = next((project.parent / "bilder, ü").iterdir())
    places = {"PROJECT": root, "IMAGE": image, "OUT": tmp_path / "out"}
    code = cli.run([str(places.get(word, word)) for word in verb])
    # Nobody sent corrections from this project; all else works.
    assert code == (5 if "collect" in verb else 0)
    [told] = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "'0.9.1-rc2'" in told
    assert "tested are 0.5, 0.6, 0.7" in told
    if verb[0] == "annotate":
        after = json.loads((root / "project.qpproj").read_text())
        assert after["version"] == "0.9.1-rc2", "what it claims is kept"


@pytest.mark.parametrize("version", ["0.5.1", "v0.6.0", "0.7.0-rc1", None])
def test_versions_that_were_tested_are_no_matter_and_no_claim_is_none(project, tmp_path, version):
    assert not open_project(claims(shutil.copytree(project, tmp_path / "p"), version)).doubt


@pytest.mark.parametrize("version", ["0.50.1", "0.8", "1.0.0", "0.4.4", "later", 7, ["0.6"]])
def test_versions_that_nobody_tested_are_doubted(project, tmp_path, version):
    assert open_project(claims(shutil.copytree(project, tmp_path / "p"), version)).doubt


# ---- where --------------------------------------------------------------------------------------


class Picture(Slide):
    """An image in memory with a pyramid."""

    def __init__(self, pixels, factors=(1, 2, 4)):
        self._levels = [pixels[::f, ::f] for f in factors]
        sizes = tuple((level.shape[1], level.shape[0]) for level in self._levels)
        super().__init__(Path("a.png"), "memory", sizes, None)

    def _read_inside(self, level, region):
        rows = slice(region.y_px, region.bottom_px)
        return self._levels[level][rows, region.x_px : region.right_px]

    def close(self):
        pass


def held(*areas: HeldArea) -> Held:
    return Held(1, 200, 100, 1, True, 0.5, 0.5, "UNSET", None, areas, {}, {}, DataState())


def square(name: str, x: float, side: float, class_name: str = "", **about) -> HeldArea:
    ring = [[x, 0], [x + side, 0], [x + side, side], [x, side], [x, 0]]
    return HeldArea(name, name, class_name, {"type": "Polygon", "coordinates": [ring]}, **about)


def test_annotations_are_chosen_by_class_and_name_and_ours_never():
    areas = [square("a", 0, 10, "Tumor"), square("b", 5, 10, "Tumor"), square("c", 50, 10),
             square("d", 80, 5, "Ignore*"), square("e", 0, 99, ours=True)]  # fmt: skip
    slide, tissue = Picture(np.zeros((100, 200, 3), np.uint8)), None

    def ids(text):
        scope = scope_of(ProjectScope.from_text(text), held(*areas), slide, tissue)
        within = scope.scope.within
        return [one.id for one in scope.parents], within and within.area

    assert ids("annotations") == (["a", "b", "c"], 250.0)
    assert ids("class:Tumor") == (["a", "b"], 150.0)
    assert ids("name:c") == (["c"], 100.0)
    assert ids("class:Stroma")[0] == []
    whole = scope_of(ProjectScope(), held(*areas), slide, tissue)
    assert whole.scope.within is None
    assert len(whole.parents) == 1


def test_an_annotation_on_another_plane_is_refused():
    areas = held(square("a", 0, 10, z=3))
    with pytest.raises(InputError, match="z=3"):
        scope_of(
            ProjectScope("annotations"), areas, Picture(np.zeros((100, 200, 3), np.uint8)), None
        )


# ---- views --------------------------------------------------------------------------------------

SIDES = st.sampled_from([64, 96, 101, 120])


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**31), st.data())
def test_a_turned_slide_is_the_turned_picture(width, height, flip_x, flip_y, swap, seed, data):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    turned = pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    turned = turned.swapaxes(0, 1) if swap else turned
    slide = TurnedSlide(Picture(pixels), Orientation(flip_x, flip_y, swap))
    assert slide.dimensions == (turned.shape[1], turned.shape[0])
    x, y = data.draw(st.integers(-9, width)), data.draw(st.integers(-9, height))
    found = slide.read_region((x, y), 0, (40, 30))
    padded = np.full((turned.shape[0] + 200, turned.shape[1] + 200, 3), 255, np.uint8)
    padded[60 : 60 + turned.shape[0], 60 : 60 + turned.shape[1]] = turned
    np.testing.assert_array_equal(found, padded[60 + y : 90 + y, 60 + x : 100 + x])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarters_turn_clockwise(quarters):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    slide = TurnedSlide(Picture(pixels, (1,)), Orientation.clockwise(quarters))
    whole = slide.read_region((0, 0), 0, slide.dimensions)
    np.testing.assert_array_equal(whole, np.rot90(pixels, -quarters))


def test_only_levels_on_the_grid_of_a_view_are_used():
    smooth = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)
    base = Picture(np.repeat(smooth[..., None], 3, axis=2))
    assert CroppedSlide(base, Region(8, 4, 60, 40)).level_downsamples == (1, 2, 4)
    odd = CroppedSlide(base, Region(2, 6, 60, 40))
    assert odd.level_downsamples == (1, 2)
    np.testing.assert_array_equal(
        odd.read_region((10, 4), 1, (5, 5)), base.read_region((12, 10), 1, (5, 5))
    )
    with pytest.raises(InputError, match="outside"):
        CroppedSlide(base, Region(100, 0, 100, 10))


def test_an_icc_profile_is_warned_about_and_another_size_refused(project):
    builder = open_project(project).builder(1)
    opened = open_entry({**builder, "args": ["--icc-profile"]}, (256, 256), None, "a")
    opened.slide.close()
    assert "ICC" in opened.warnings[0]
    with pytest.raises(QuPathError, match="255 x 256"):
        open_entry(builder, (255, 256), None, "a")
    with pytest.raises(QuPathError, match="series"):
        open_entry({**builder, "args": ["--series", "1"]}, (256, 256), None, "a")


# ---- journal and lock ---------------------------------------------------------------------------


def test_a_line_cut_off_by_a_crash_costs_only_itself(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    for number in (1, 2):
        journal.add(Record(number, "r", "done", "x", data=DataState(1, 2, "f00d")))
    whole = (tmp_path / "j.jsonl").read_bytes()
    (tmp_path / "j.jsonl").write_bytes(whole[:-20])
    again = Journal(tmp_path / "j.jsonl")
    assert again.last(1) == Record(1, "r", "done", "x", data=DataState(1, 2, "f00d"))
    assert again.last(2) is None
    again.add(Record(3, "r", "failed", "x", problem="p"))
    assert Journal(tmp_path / "j.jsonl").last(3).problem == "p"


def test_records_that_hold_size_and_time_only_are_still_read(tmp_path):
    old = {"entry_id": 1, "run": "r", "status": "done", "analysis": "x", "data": [7, 9]}
    (tmp_path / "j.jsonl").write_bytes(orjson.dumps(old))
    assert Journal(tmp_path / "j.jsonl").last(1).data == DataState(7, 9)
    ImageNumbers(1, "a", "r", "done").save(tmp_path / "1.json")
    written = orjson.loads((tmp_path / "1.json").read_bytes())
    old = {**written, "data": [7, 9], "seconds": 0.0}
    (tmp_path / "1.json").write_bytes(orjson.dumps(old))
    assert read_numbers(tmp_path / "1.json").data == DataState(7, 9)
    (tmp_path / "1.json").write_bytes(orjson.dumps({**written, "data": []}))
    assert read_numbers(tmp_path / "1.json").data == DataState(), "there was no file"


def ended(number: int, status: str = "done", *, earlier: bool = False) -> EntryOutcome:
    return EntryOutcome(Path("a"), status, entry_id=number, earlier=earlier)


def test_a_run_that_was_cut_off_keeps_its_record_when_a_part_of_it_is_asked_for(engine, tmp_path):
    folder = ProjectFolder(tmp_path)
    killed = begin_run(folder, engine, "x", "image")
    again = begin_run(folder, engine, "x", "image")
    assert again.name == killed.name
    end_run(folder, again, [ended(1, earlier=True)])
    assert not last_run(folder)["finished"], "its other images are still to be done"
    whole = begin_run(folder, engine, "x", "image")
    end_run(folder, whole, [ended(1, earlier=True), ended(2)])
    assert last_run(folder)["run"] == killed.name
    assert last_run(folder)["finished"]
    end_run(folder, begin_run(folder, engine, "x", "image"), [ended(1, earlier=True)])
    assert last_run(folder)["run"] == killed.name, "a run with nothing to do leaves no record"


def test_a_part_that_is_done_later_stands_in_the_record_beside_the_rest(engine, tmp_path):
    folder = ProjectFolder(tmp_path)
    end_run(folder, begin_run(folder, engine, "x", "image"),
            [ended(1), ended(2), ended(3, "failed"), ended(4, "failed")])  # fmt: skip
    end_run(folder, begin_run(folder, engine, "x", "image"), [ended(1, earlier=True), ended(3)])
    rows = {row["entry_id"]: row for row in last_run(folder)["images"]}
    assert [rows[n]["status"] for n in (1, 2, 3, 4)] == ["done", "done", "done", "failed"]
    assert not rows[1]["earlier"], "this very run had done it"
    assert not last_run(folder)["finished"]
    end_run(folder, begin_run(folder, engine, "x", "image"), [ended(4)])
    assert last_run(folder)["finished"]


def polygon(path: Path) -> str:
    ring = [[100, 100], [700, 150], [400, 600], [100, 100]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return str(path)


@pytest.mark.parametrize("part", ["region", "within", "both"])
def test_a_part_of_an_image_is_reproduced_as_that_part(
    small_slide, tmp_path, monkeypatch, capsys, part
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out, outline = tmp_path / "out", polygon(tmp_path / "spot.geojson")
    options = {"region": ["--region", "100,80,400,300"], "within": ["--within", outline]}
    chosen = options.get(part, [*options["region"], *options["within"]])
    assert cli.run(["detect", str(small_slide), "-o", str(out), *chosen]) == 0
    capsys.readouterr()
    assert cli.run(["reproduce", str(out / "run.json")]) == 0
    assert "same counts" in capsys.readouterr().out


HOLD = """
import sys, time
from pathlib import Path
from nucliseg_qp.qupath.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(QuPathError, match="another nucliseg-qp"), locked(path):
            pass
        os.kill(other.pid, signal.SIGKILL)
    with locked(path, 5):
        pass


# ---- what is kept of an image that is not done ---------------------------------------------------


def found_with(cache: Path, engine, slide: Path) -> tuple[list[str], int]:
    """Give the ids of an image's nuclei, and how many tiles were not computed again."""
    from nucliseg_qp.config import TileSettings
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.pipeline import Analysis
    from nucliseg_qp.projects.cache import CachedWorkers, TileCache
    from nucliseg_qp.work import Inline

    settings = engine.settings.model_copy(update={"tiles": TileSettings(size_px=128)})
    engine = replace(engine, settings=settings)
    with open_slide(slide) as opened:
        workers = CachedWorkers(Inline(engine), TileCache(cache, "x"), "a")
        parts = list(Analysis(opened, engine, Scope(), workers=workers).nuclei())
    return [one for part in parts for one in nucleus_ids("a", part)], workers.reused


@pytest.mark.parametrize("left", [b"", None, b"\0" * 4000], ids=["empty", "cut off", "zeros"])
def test_a_file_that_a_power_cut_left_half_written_is_made_again(
    engine, small_slide, tmp_path, left
):
    cache = tmp_path / "work" / "1"
    whole, _ = found_with(cache, engine, small_slide)
    assert found_with(cache, engine, small_slide) == (whole, 16), "all is kept"
    tile = next(path for path in cache.glob("tile.*") if path.stat().st_size > 20_000)
    for path in (cache / "keypoints.npz", cache / "statistics.json", tile):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if left is None else left)
        assert found_with(cache, engine, small_slide)[0] == whole, path.name
        assert found_with(cache, engine, small_slide) == (whole, 16), "it is whole again"


# ---- projects that move -------------------------------------------------------------------------


def test_images_are_found_by_relative_path_then_by_name_and_size(project, tmp_path):
    home = shutil.copytree(project.parent, tmp_path / "moved, é")
    shutil.rmtree(home / "bilder, ü")
    images = project.parent / "bilder, ü"
    hidden = images.with_name("elsewhere")
    images.rename(hidden)
    try:
        root = home / project.name
        assert [one.new for one in relink_project(root, dry_run=True)] == [None] * 3
        (home / "deep" / "er").mkdir(parents=True)
        names = sorted(path.name for path in hidden.iterdir())
        shutil.copy(hidden / names[0], home / "deep" / "er")
        for place in ("deep", "deep/er"):
            shutil.copy(hidden / names[1], home / place)
        moves = relink_project(root, [home / "deep"])
        assert [one.new is not None for one in moves] == [True, False, False]
        assert moves[1].how.startswith("2 files")
        assert moves[2].how == "not found"
        assert cli.run(["relink", str(root)]) == 5
    finally:
        hidden.rename(images)
    assert cli.run(["relink", str(project)]) == 0


# ---- results that wait --------------------------------------------------------------------------


def test_what_somebody_saves_while_a_staged_result_goes_in_keeps_it_waiting(
    project, tmp_path, monkeypatch
):
    root = shutil.copytree(project, tmp_path / "p")
    folder = ProjectFolder(root)
    area = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    size = (9, 9, 0.25, "QuPath", "x")
    stage(
        folder.staged(1), EntryResult(1, None, (Parent(UUID, "x", area),), (), "replace", (), *size)
    )
    Journal(folder.journal).add(Record(1, "r", "staged", "x"))

    class Worker:
        def __init__(self, _root):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def write(self, _result):
            return Written({}, changed=True)

    monkeypatch.setattr(late, "QuPathWorker", Worker)
    [outcome] = late.apply_staged(root, Selection(), SilentWatcher())
    assert (outcome.status, outcome.exit_code) == ("staged", QuPathError.exit_code)
    assert "somebody saved the image" in outcome.problem
    assert (folder.staged(1) / "result.json").is_file(), "it goes in the next time"
    assert Journal(folder.journal).last(1).status == "staged"


# ---- the report ---------------------------------------------------------------------------------


@pytest.fixture
def reported(project, tmp_path):
    """Give a project with numbers of three images, one of them odd in every way."""
    root = shutil.copytree(project, tmp_path / "p")
    folder = ProjectFolder(root)
    (folder.classes.parent).mkdir(exist_ok=True)
    listed = [{"name": "Positive", "color": -377282}, {"name": "Negative", "color": -9408287}]
    folder.classes.write_bytes(orjson.dumps({"pathClasses": listed}))
    import cv2

    for number, positive in ((1, 10), (2, 300), (3, 20)):
        area = AreaNumbers("x", "<b>spot</b>", "Tumor", 0.5, {"Positive": 3, "Negative": 9}, True)
        ImageNumbers(
            number, f"<script>alert({number})</script> & co", "r",
            "incomplete" if number == 3 else "done", counts={"Positive": positive, "Negative": 90},
            tissue_mm2=2.0, areas=[area], dab={"Positive": [0] * 39 + [4]}, found={"Positive": 1},
            problem="tile 3 could not be read" if number == 3 else "",
        ).save(folder.result(number))  # fmt: skip
        picture = np.full((400, 600, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder.thumbnail(number)), picture)
    return root


def test_tables_hold_scores_of_what_is_done_only(reported):
    import pyarrow.parquet as pq

    write_report(reported)
    rows = pq.read_table(ProjectFolder(reported).report("images.parquet")).to_pylist()
    assert [row["Positive %"] for row in rows] == [10.0, pytest.approx(76.923, abs=1e-3), None]
    assert [row["nuclei_per_mm2"] for row in rows] == [50, 195, None]
    text = ProjectFolder(reported).report("annotations.csv").read_text()
    assert text.count("Tumor") == 3
    assert "25" in text


def test_outliers_lie_far_from_the_median():
    rows = [{"image": str(n), "Positive %": 10.0 + n % 5} for n in range(12)]
    assert find_outliers(rows) == []
    found = find_outliers([*rows, {"image": "odd", "Positive %": 80.0}])
    assert len(found) == 1
    assert found[0].startswith("odd")


def test_the_page_is_one_file_that_runs_nothing_it_was_given(reported):
    page = write_report(reported).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "tile 3 could not be read" in page


def test_data_that_was_copied_is_the_same_and_data_that_was_saved_is_not(tmp_path):
    assert data_since(DataState(), tmp_path) == "same", "there was none and is none"
    path = tmp_path / "data.qpdata"
    path.write_bytes(b"as the run left it")
    state = data_state(tmp_path)
    assert data_since(state, tmp_path) == "same"
    assert data_since(DataState(), tmp_path) == "changed", "there was none"
    os.utime(path, ns=(1, 1))
    assert data_since(state, tmp_path) == "same", "copied: another time, the same content"
    old = DataState(state.size_bytes, state.mtime_ns)
    assert data_since(old, tmp_path) == "unknown", "the content was not noted: look"
    path.write_bytes(b"as somebody saved.")
    assert data_since(state, tmp_path) == "changed", "another content of the same size"
    path.write_bytes(b"longer than it was left")
    assert data_since(old, tmp_path) == "changed"
    path.unlink()
    assert data_since(state, tmp_path) == "changed", "it is gone"


def test_the_page_warns_of_images_saved_since_and_not_of_copied_ones(reported, tmp_path):
    folder = ProjectFolder(reported)
    for number in (1, 2):
        path = folder.data(number) / "data.qpdata"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"nuclei")
        now = read_numbers(folder.result(number))
        replace(now, data=data_state(folder.data(number))).save(folder.result(number))
    copy = tmp_path / "copy"
    # copyfile: a copy through an archive or a mail does not keep the times either.
    shutil.copytree(reported, copy, copy_function=shutil.copyfile)
    warning = "was saved after its nuclei were counted"
    assert warning not in write_report(copy).read_text(encoding="utf-8")
    (ProjectFolder(copy).data(2) / "data.qpdata").write_bytes(b"NUCLEI")
    page = write_report(copy).read_text(encoding="utf-8")
    assert page.count(warning) == 1
    assert "alert(2)&lt;/script&gt; &amp; co " + warning in page


SORT = """<script>
const heads = [...document.querySelectorAll("#images th")];
const column = heads.findIndex(one => one.textContent === "Num Positive");
const read = () => [...document.querySelectorAll("#images tbody tr")].map(r => r.cells[column].textContent);
heads[column].click(); const up = read(); heads[column].click(); const down = read();
Promise.all([...document.images].map(i => i.decode())).then(() => {
  const seen = [...document.images].filter(i => i.naturalWidth > 100).length;
  document.body.innerHTML = "<p id=found>" + JSON.stringify([up, down, seen]) + "</p>";
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_pictures_sorts_tables_and_complains_of_nothing(reported, tmp_path):
    page = write_report(reported)
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", SORT + "</body>"), "utf-8")
    # A browser may print the page before its pictures are decoded: then it is asked again.
    for attempt in range(6):
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                   f"--user-data-dir={tmp_path / f'profile{attempt}'}", "--enable-logging=stderr",
                   "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = done.stdout.partition('<p id="found">')[2].partition("</p>")[0]
        if found:
            break
    assert json.loads(found) == [["10", "20", "300"], ["300", "20", "10"], 3]
    assert "CONSOLE" not in done.stderr
