"""Reviews: read without guessing, learnt from only when it helps, never misapplied."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from project_samples import make_project
from review_samples import area, make_review, nucleus, write_sent

from nucliseg_qp import cli
from nucliseg_qp.errors import InputError, ModelError, UsageError
from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.palette.rules import hsv_from_rgb, hsv_point
from nucliseg_qp.palette.user import FOLDER_VARIABLE
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.review.agreement import accuracy, agreement, cohens_kappa
from nucliseg_qp.review.calibrate import calibrate, fit_palette, save_calibration
from nucliseg_qp.review.collect import collect, sent_files
from nucliseg_qp.review.colours import cone_rgb, without_outliers
from nucliseg_qp.review.compare import compare, merge
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.finetune import FineTuned, refuse_worse
from nucliseg_qp.review.folder import Review, read_review
from nucliseg_qp.review.judged import LEAST, judged_rows
from nucliseg_qp.review.lessons import annotated_images, check_enough
from nucliseg_qp.review.report import report
from nucliseg_qp.review.verdicts import CONFIRMED, RECLASSIFIED, ImageReview

MIXED = [
    nucleus(1, "reclassified", "Positive", "Negative"),
    nucleus(2, "confirmed", "Positive", "Positive"),
    nucleus(3, "confirmed", "Negative", "Negative", by="area"),
    nucleus(4, "deleted", "Negative", ""),
    nucleus(5, "added", "", "Positive"),
    nucleus(6, "redrawn", "Positive", "Positive"),
]


@pytest.fixture(autouse=True)
def own_palettes(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "palettes"))


# ---- the file -----------------------------------------------------------------------------------


def test_every_decision_is_read_and_nothing_else_counts_as_looked_at(tmp_path):
    read = read_corrections(write_sent(tmp_path / "1.geojson", [area(0, 0, 100), *MIXED]))
    assert len(read) == 6
    assert read.counts == {
        "reclassified": 1, "redrawn": 1, "confirmed": 2, "added": 1, "deleted": 1
    }  # fmt: skip
    assert read.confirmed_by.tolist() == ["", "lock", "area", "", "", ""]
    assert read.class_before.tolist()[0] == "Positive"
    assert read.class_now.tolist()[:2] == ["Negative", "Positive"]
    assert np.allclose(read.xy[1], (60, 20))
    assert len(read.areas) == 1


def test_the_first_version_is_still_read_and_knows_no_areas(tmp_path):
    old = [nucleus(1, "confirmed", "Positive", "Positive")]
    del old[0]["properties"]["confirmed_by"]
    read = read_corrections(write_sent(tmp_path / "1.geojson", old, format=1, mpp=None))
    assert (read.confirmed_by.tolist(), read.areas, read.mpp) == (["lock"], (), None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 99}, "version 99"),
        ({"format": "two"}, "version 'two'"),
        ({"counts": {"reclassified": 7}}, "was edited"),
        ({"nuclei_of_run": 2}, "was edited"),
        ({"entry": None, "width_px": "wide"}, "not a file of corrections"),
    ],
)
def test_a_file_of_another_version_or_edited_is_refused_by_name(tmp_path, change, named):
    path = write_sent(tmp_path / "odd one.geojson", MIXED, **change)
    with pytest.raises(InputError, match=named) as found:
        read_corrections(path)
    assert "odd one.geojson" in str(found.value)


@pytest.mark.parametrize("content", ["", "{}", "[]\n]}", '{"type":1}\n]}', "\x00\n\x00\n]}"])
def test_what_is_no_file_of_corrections_is_refused(tmp_path, content):
    path = tmp_path / "x.geojson"
    path.write_text(content)
    with pytest.raises(InputError, match=r"x\.geojson"):
        read_corrections(path)


def test_a_nucleus_twice_or_cut_off_is_refused(tmp_path):
    with pytest.raises(InputError, match="twice"):
        read_corrections(write_sent(tmp_path / "1.geojson", [MIXED[0], MIXED[0]]))
    whole = write_sent(tmp_path / "2.geojson", MIXED).read_bytes()
    (tmp_path / "2.geojson").write_bytes(whole[:-200])
    with pytest.raises(InputError, match=r"2\.geojson"):
        read_corrections(tmp_path / "2.geojson")


def test_a_review_travels_and_an_edited_image_of_it_is_refused_by_name(tmp_path):
    made = make_review(tmp_path / "review", {"a": MIXED, "b": MIXED[:2]})
    folder = (tmp_path / "review").rename(tmp_path / "else where")
    back = read_review(folder)
    assert [len(one) for one in back.images] == [6, 2]
    assert (back.reviewer, back.looked_at) == (made.reviewer, 8)
    listed = json.loads((folder / "review.json").read_text())["images"][0]
    assert (listed["looked_at"], listed["not_looked_at"]) == (6, 400 - 5)
    path = folder / "images" / "2.geojson"
    path.write_text(path.read_text().replace("Negative", "Positive"))
    with pytest.raises(InputError, match=r"2\.geojson was edited"):
        read_review(folder)


def test_a_review_of_a_later_version_is_refused(tmp_path):
    make_review(tmp_path / "review", {"a": MIXED})
    path = tmp_path / "review" / "review.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match=r"review\.json is of version 2"):
        read_review(tmp_path / "review")


def test_a_cleared_image_is_no_review(tmp_path):
    gone = [nucleus(n, "deleted", "Negative", "") for n in range(300)]
    read = read_corrections(write_sent(tmp_path / "1.geojson", gone))
    assert read.mass_deletion
    review = Review("a", "", "p", (replace(read, uris=(), areas=()),))
    with pytest.raises(InputError, match="more reviewed images"):
        check_enough([review])


# ---- corrections that were sent belong to the project they are read in --------------------------


@pytest.fixture
def sent_project(tmp_path):
    """Give a project with one image, a ledger and a file that was sent, all without QuPath."""
    root = make_project(tmp_path, 1)
    [entry] = ProjectFile(ProjectFolder(root)).entries
    path = sent_files(root) / f"{entry.id}.geojson"
    facts = {"image": entry.name, "entry": str(entry.id), "width_px": 256, "height_px": 256}
    write_sent(path, MIXED, **facts)
    size = {"width_px": 256, "height_px": 256}
    ProjectFolder(root).manifest(entry.id).parent.mkdir(exist_ok=True)
    ProjectFolder(root).manifest(entry.id).write_text(json.dumps(size))
    lines = [
        f"{one['id']}\t{one['properties']['class_before']}\t1.0\t1.0"
        for one in MIXED
        if "class_before" in one["properties"]
    ]
    run = sent_files(root).parent / f"{entry.id}.0123456789abcdef.ledger.gz"
    run.write_bytes(gzip.compress("\n".join([*lines, "area-id\t#area"]).encode()))
    return root, path, facts


def test_what_was_sent_is_collected_without_qupath(sent_project, tmp_path, capsys):
    root, _, _ = sent_project
    out = tmp_path / "review"
    assert cli.run(["review", "collect", str(root), "-o", str(out), "--sent"]) == 0
    assert read_review(out).images[0].counts["confirmed"] == 2
    assert "review.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ledger": "ffffffffffffffff"}, "run 'ffffffffffffffff'"),
        ({"ledger": "../../etc/passwd"}, "run"),
        ({"image": "other.png"}, r"other\.png"),
        ({"width_px": 999}, "999"),
    ],
)
def test_corrections_of_another_run_or_image_are_refused(sent_project, tmp_path, change, named):
    root, path, facts = sent_project
    write_sent(path, MIXED, **{**facts, **change})
    with pytest.raises(InputError, match=named) as found:
        collect(root, tmp_path / "out", sent=True)
    assert "1.geojson" in str(found.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("edited", "named"),
    [
        (nucleus(1, "reclassified", "Negative", "Positive"), "was 'Negative'"),
        (nucleus(99, "confirmed", "Negative", "Negative"), "never made"),
    ],
)
def test_nuclei_that_the_run_did_not_make_so_are_refused(sent_project, tmp_path, edited, named):
    root, path, facts = sent_project
    write_sent(path, [edited, *MIXED[1:]], **facts)
    with pytest.raises(InputError, match=named):
        collect(root, tmp_path / "out", sent=True)


# ---- agreement ----------------------------------------------------------------------------------


def test_kappa_is_that_of_the_textbook():
    # Cohen's own example has 0.492 in Fleiss, Statistical Methods for Rates and Proportions.
    assert cohens_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohens_kappa(np.eye(3, dtype=int) * 9) == 1


def test_errors_of_scores_are_those_of_the_slides():
    first = np.array(["Negative"] * 5 + ["2+"] * 5)
    second = np.array(["Negative"] * 5 + ["1+"] * 3 + ["Negative"] * 2)
    found = agreement([(first, second)])
    assert found.accuracy == 0.5
    assert found.positive_error == pytest.approx(20)
    assert found.h_error == pytest.approx(100 - 30)
    plain = np.array(["Negative", "Positive"])
    assert np.isnan(agreement([(plain, plain)]).h_error), "no graded class, no H-score"


# ---- calibration --------------------------------------------------------------------------------


def colours(rgb, count, rng, spread=6.0):
    return np.clip(rng.normal(rgb, spread, (count, 3)), 1, 255)


def slide(rng, count, negative=(150, 120, 125), positive=(140, 70, 30), wrong=0):
    """Give nuclei of a scanner whose colours the shipped palette mistakes."""
    rows = []
    for name, rgb in (("Negative", negative), ("Positive", positive)):
        for one in colours(rgb, count, rng):
            rows.append(nucleus(len(rows), "reclassified", "x", name, rgb=one.tolist()))
    for one in rows[:wrong]:
        one["properties"]["classification"]["name"] = "Positive"
    return rows


def test_a_palette_learnt_is_better_on_slides_it_has_not_seen(tmp_path):
    rng = np.random.default_rng(1)
    review = make_review(tmp_path / "r", {name: slide(rng, 20) for name in "abc"})
    found = calibrate([review], load_palette("hsv"), "ours")
    assert found.held_out == "slide"
    assert found.old.accuracy < 0.8
    assert found.new.accuracy > 0.95
    assert found.new.positive_error < found.old.positive_error
    path = save_calibration(found, None, tmp_path / "out")
    assert path == tmp_path / "palettes" / "ours.toml"
    again = load_palette("ours")
    rows = found.slides[0]
    assert (
        again.rule.classify(rows.features)[0] == found.palette.rule.classify(rows.features)[0]
    ).all()
    assert (tmp_path / "out" / "calibration.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "calibration.json").read_text())["new"]["kappa"] > 0.9


def test_scripts_inside_qupath_take_a_palette_by_its_name(tmp_path):
    rng = np.random.default_rng(1)
    review = make_review(tmp_path / "r", {name: slide(rng, 20) for name in "ab"})
    found = calibrate([review], load_palette("hsv"), "ours")
    save_calibration(found, None, None)
    root = make_project(tmp_path, 1)
    assert cli.run(["scripts", "install", str(root), "--palette", "ours"]) == 0
    there = json.loads(ProjectFolder(root).palette("ours").read_text())
    assert there["references"] == load_palette("ours").rule.references.tolist()
    with pytest.raises(UsageError, match="Your own are: ours"):
        load_palette("theirs")


def test_slips_of_the_reviewer_move_nothing(tmp_path):
    rng = np.random.default_rng(2)
    review = make_review(tmp_path / "r", {name: slide(rng, 30, wrong=3) for name in "abc"})
    clean = make_review(tmp_path / "c", {name: slide(rng, 60) for name in "de"})
    palette = calibrate([review], load_palette("hsv"), "ours").palette
    judged = calibrate([clean], palette, "x").old
    assert judged.accuracy > 0.98


def test_the_old_rule_stays_where_nothing_is_better(tmp_path):
    rng = np.random.default_rng(3)
    rows = slide(rng, 20, negative=(110, 110, 170), positive=(110, 60, 50))
    found = calibrate(
        [make_review(tmp_path / "r", {"a": rows, "b": rows})], load_palette("hsv"), "x"
    )
    assert found.old.accuracy == 1
    assert not found.changed


def test_thresholds_of_density_are_learnt_too(tmp_path):
    rng = np.random.default_rng(4)
    rows = []
    for name, low, high in (
        ("Negative", 0.0, 0.3),
        ("1+", 0.32, 0.5),
        ("2+", 0.52, 0.8),
        ("3+", 0.85, 1.2),
    ):
        for dab in rng.uniform(low, high, 15):
            rows.append(nucleus(len(rows), "confirmed", "x", name, dab=float(dab)))
    review = make_review(tmp_path / "r", {"a": rows, "b": rows})
    found = calibrate([review], load_palette("dab-intensity"), "ours")
    assert found.new.accuracy == 1 > found.old.accuracy
    cuts = found.palette.rule.thresholds
    assert 0.25 < cuts[0] < 0.36 < 0.45 < cuts[1] < 0.58
    save_calibration(found, tmp_path / "mine.toml", None)
    assert load_palette(tmp_path / "mine.toml").rule.thresholds.tolist() == cuts.tolist()


def test_too_little_is_refused_with_what_is_missing(tmp_path, capsys):
    rows = [nucleus(n, "confirmed", "Negative", "Negative") for n in range(20)]
    rows += [nucleus(50 + n, "reclassified", "Negative", "Positive") for n in range(3)]
    make_review(tmp_path / "r", {"a": rows})
    code = cli.run(["review", "calibrate", str(tmp_path / "r"), "--name", "x"])
    assert code == InputError.exit_code
    told = " ".join(capsys.readouterr().err.split())
    assert f"{LEAST - 3} more of Positive (there are 3 of {LEAST})" in told
    assert not (tmp_path / "palettes").exists()


def test_a_class_nobody_reviewed_can_stay_as_it_is(tmp_path):
    rows = [nucleus(n, "confirmed", "Negative", "Negative") for n in range(20)]
    review = make_review(tmp_path / "r", {"a": rows})
    old = load_palette("hsv")
    new = calibrate([review], old, "x", keep=["Positive"]).palette
    kept = [rule.references[rule.owners == 1].tolist() for rule in (old.rule, new.rule)]
    assert kept[0] == kept[1]


def test_hue_is_a_circle_also_for_references():
    # Reds on both sides of 0 degrees have a red median, not a green one.
    rgb = np.array([[200, 80, 95], [200, 95, 80], [200, 80, 90], [200, 90, 80]])
    middle = np.median(hsv_point(*hsv_from_rgb(rgb).T), axis=0)[None]
    red, green, blue = cone_rgb(middle)[0]
    assert red > 190
    assert green < 100 > blue


def test_outliers_are_left_out():
    points = np.concatenate([np.random.default_rng(0).normal(0, 0.01, (50, 3)), [[1, 1, 1]]])
    assert len(without_outliers(points)) < 51
    assert without_outliers(points).max() < 0.1


def test_a_shifted_scanner_is_mended_by_sixty_nuclei(engine, tmp_path):
    found, truth = shifted_nuclei(engine, tmp_path)
    palette = load_palette("hsv")
    told = np.array(palette.names)[palette.classify(found).class_index]
    assert (told == truth).mean() < 0.8
    rows = np.random.default_rng(5).permutation(len(truth))
    corrected, rest = rows[:60], rows[60:]
    review = Review("a", "", "p", (as_review(found, told, truth, corrected),))
    new = calibrate([review], palette, "ours").palette
    after = np.array(new.names)[new.classify(found.take(rest)).class_index]
    assert (after == truth[rest]).mean() > 0.95


def shifted_nuclei(engine, folder):
    """Give the nuclei of a painted slide seen by a scanner that is far too yellow."""
    import cv2
    import tifffile

    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.nuclei import Nuclei
    from nucliseg_qp.pipeline import Analysis
    from nucliseg_qp.training.metrics import match_points
    from nucliseg_qp.training.slides import write_slide

    made = write_slide(folder / "s.ome.tif", 1024, 1024, 0.25, 3, 400.0)
    rgb = tifffile.imread(folder / "s.ome.tif") * np.array([1.0, 0.9, 0.72])
    cv2.imwrite(str(folder / "s.png"), rgb.astype(np.uint8)[..., ::-1])
    with open_slide(folder / "s.png", 0.25) as opened:
        nuclei = Nuclei.concatenate(list(Analysis(opened, engine).nuclei()))
    pairs = match_points(made.points, np.stack([nuclei.x, nuclei.y], axis=1), 12.0)
    truth = np.where(made.classes[pairs[:, 0]] > 0, "Positive", "Negative")
    return nuclei.take(pairs[:, 1]), truth


def as_review(nuclei, told, truth, rows):
    empty = np.array([""] * len(rows))
    chosen = nuclei.take(rows)
    return ImageReview(
        "1", "s", (), 1024, 1024, 0.25, "0" * 16, len(nuclei), tuple(map(str, rows)),
        np.where(told[rows] == truth[rows], CONFIRMED, RECLASSIFIED), told[rows], truth[rows],
        empty, empty, np.stack([chosen.x, chosen.y], axis=1), chosen.measurements,
    )  # fmt: skip


# ---- two people ---------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    anna = make_review(tmp_path / "anna", {"a": [area(0, 0, 480), *MIXED]})
    ben = make_review(
        tmp_path / "ben",
        {"a": [
            nucleus(1, "confirmed", "Positive", "Positive"),
            nucleus(2, "confirmed", "Positive", "Positive"),
            nucleus(4, "confirmed", "Negative", "Negative"),
            {**nucleus(5, "added", "", "Positive"), "id": "other id"},
            nucleus(9, "deleted", "Negative", ""),
        ]},
        "Ben",
    )  # fmt: skip
    return tmp_path, anna, ben


def test_two_reviewers_are_compared_nucleus_by_nucleus(two):
    _, anna, ben = two
    found = compare(anna, ben)
    assert (found.common, found.agreed, found.only_first, found.only_second) == (4, 2, 2, 1)
    said = {one.id: (one.first, one.second) for one in found.conflicts}
    assert said == {"id-1": ("Negative", "Positive"), "id-4": ("deleted", "Negative")}


def test_conflicts_are_listed_and_count_as_not_looked_at(two, capsys):
    folder, _, _ = two
    command = ["review", "compare", str(folder / "anna"), str(folder / "ben")]
    assert cli.run([*command, "--merge", str(folder / "both")]) == 0
    assert "id-1" in capsys.readouterr().out
    both = read_review(folder / "both")
    [image] = both.images
    assert set(image.ids) == {"id-2", "id-3", "id-5", "id-6", "id-9"}
    assert {one["id"] for one in both.conflicts} == {"id-1", "id-4"}
    import shapely
    from shapely.geometry import shape

    # Nobody may learn from the area that there is nothing where they disagree.
    left = shape(image.areas[0])
    assert not shapely.contains_xy(left, 40, 20)
    assert shapely.contains_xy(left, 60, 20)


def test_a_preferred_reviewer_decides_and_it_is_noted(two):
    folder, anna, ben = two
    both = merge(folder / "anna", folder / "ben", (anna, ben), folder / "both", "Ben")
    [image] = both.images
    decided = dict(zip(image.ids, image.class_now.tolist(), strict=True))
    assert decided["id-1"] == "Positive"
    assert {one["settled_by"] for one in both.conflicts} == {"Ben"}
    with pytest.raises(UsageError, match="Carl"):
        merge(folder / "anna", folder / "ben", (anna, ben), folder / "x", "Carl")


def test_reviews_of_different_runs_are_not_compared(tmp_path):
    one = make_review(tmp_path / "a", {"a": MIXED})
    other = make_review(tmp_path / "b", {"a": MIXED}, "Ben", ledger="ffffffffffffffff")
    with pytest.raises(InputError, match="a: Anna reviewed run 0123456789abcdef, Ben run f"):
        compare(one, other)


# ---- the report ---------------------------------------------------------------------------------


def test_the_next_hour_goes_to_doubt_that_moves_a_score(tmp_path):
    rows = [
        nucleus(n, "reclassified" if n < 20 else "confirmed", "Negative",
                "Positive" if n < 20 else "Negative", margin=0.01 + 0.01 * n)
        for n in range(60)
    ]  # fmt: skip
    waiting = [
        ["small", 1.0, 1.0, "Negative", 0.05, "few"],
        ["large", 2.0, 2.0, "Negative", 0.05, "many"],
        ["sure", 3.0, 3.0, "Negative", 0.9, "few"],
        ["id-3", 4.0, 4.0, "Negative", 0.01, "few"],
    ]
    inside = [
        {"id": "few", "name": "", "class": "", "nuclei": 20},
        {"id": "many", "name": "", "class": "", "nuclei": 2000},
    ]
    make_review(tmp_path / "r", {"a": rows}, open=waiting, annotations=inside)
    found = report([read_review(tmp_path / "r")])
    assert [one.id for one in found.next_hour] == ["small", "sure", "large"]
    assert found.next_hour[0].doubt > 0.7 > found.next_hour[1].doubt
    assert found.engine[0].classes.accuracy == pytest.approx(40 / 60)
    code = cli.run(["review", "report", str(tmp_path / "r"), "-o", str(tmp_path / "out")])
    assert code == 0
    assert (tmp_path / "out" / "next_hour.csv").read_text().count("\n") == 4


def test_what_was_missed_is_only_told_where_somebody_looked_for_it(tmp_path):
    without = make_review(tmp_path / "a", {"a": MIXED})
    with_area = make_review(tmp_path / "b", {"a": [area(0, 0, 400), *MIXED]})
    first, second = (report([one]).engine[0] for one in (without, with_area))
    assert np.isnan(first.recall)
    assert second.recall == pytest.approx(4 / 5)
    assert first.precision == second.precision == pytest.approx(4 / 5)


# ---- training -----------------------------------------------------------------------------------


def test_a_deleted_nucleus_teaches_that_nothing_is_there(tmp_path):
    import shapely

    image = tmp_path / "a.png"
    image.write_bytes(b"x")
    features = [area(200, 200, 100), *MIXED]
    review = make_review(tmp_path / "r", {"a": features}, uris=[image.as_uri()])
    [lesson] = annotated_images([review])
    places = {tuple(xy) for xy in lesson.points.tolist()}
    assert (100.0, 20.0) not in places, "deleted: id 4 at x 100"
    assert (120.0, 20.0) in places, "added: id 5 at x 120"
    known = shapely.union_all([shapely.Polygon(one[0], one[1:]) for one in lesson.areas])
    assert shapely.contains_xy(known, 100, 20), "the place of the deleted one counts"
    assert shapely.contains_xy(known, 250, 250)
    assert not shapely.contains_xy(known, 100, 100), "nobody looked there"


def test_too_few_images_are_refused_with_what_is_missing(tmp_path):
    make_review(tmp_path / "r", {"a": MIXED})
    with pytest.raises(InputError, match="2 more reviewed images and 54 more nuclei are missing"):
        check_enough([read_review(tmp_path / "r")])


def test_a_worse_model_is_refused():
    bad = FineTuned(None, 1.0, {"held out": 0.8}, {"held out": 0.7}, ["F1 on held out fell"])
    with pytest.raises(ModelError, match="not kept: F1 on held out fell"):
        refuse_worse(bad)


def test_training_goes_from_a_review_to_a_judged_model(tmp_path):
    from nucliseg_qp.keypoints.model import load_model
    from nucliseg_qp.review.finetune import fine_tune
    from nucliseg_qp.review.finetune_settings import FineTuning
    from nucliseg_qp.training.slides import write_slide

    images = {}
    for number in range(3):
        path = tmp_path / f"s{number}.ome.tif"
        truth = write_slide(path, 256, 256, 0.5, number, 500.0)
        rows = [nucleus(i, "confirmed", "Negative", "Negative") for i in range(len(truth.points))]
        for row, (x, y) in zip(rows, np.clip(truth.points, 3, 250).tolist(), strict=True):
            ring = [[x - 3, y - 3], [x + 3, y - 3], [x + 3, y + 3], [x - 3, y + 3], [x - 3, y - 3]]
            row["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        images[path.name] = [area(0, 0, 256), *rows]
    facts = {"width_px": 256, "height_px": 256, "nuclei_of_run": 5000}
    review = make_review(tmp_path / "r", images, **facts)
    here = tuple(replace(one, uris=((tmp_path / one.name).as_uri(),)) for one in review.images)
    how = FineTuning(out=tmp_path / "out", steps=2, batch_size=2, workers=0)
    found = fine_tune([replace(review, images=here)], how)
    assert found.before.keys() == {"held out", "painted fields"} == found.after.keys()
    told = json.loads((tmp_path / "out" / "review_training.json").read_text())
    assert told["before"]["held out"] == found.before["held out"] > 0.7
    # Two steps teach next to nothing: whichever way it went, it must be the way it is told.
    if found.model is None:
        assert found.reasons
        assert not list((tmp_path / "out").glob("*.safetensors"))
    else:
        assert load_model(found.model).info.metrics["held_out_f1"] > found.before["held out"]


def test_corrections_on_real_fields_do_no_harm_on_one_they_never_saw(monkeypatch):
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    import review as bench
    from accuracy import default_data, glioma_fields

    folder = default_data() / "glioma_ki67"
    if not folder.is_dir():
        pytest.skip("no annotated glioma fields (NUCLISEG_QP_DATA names their folder)")
    rng = np.random.default_rng(0)
    fields = glioma_fields(folder)[:3]
    *learn, held = [bench.glioma_review(field, 1.0, rng) for field in fields]
    base = load_palette("hsv")
    third = [judged_rows(image.take(rng.random(len(image)) < 1 / 3), base) for image in learn]
    new = fit_palette(base, third)
    rows = judged_rows(held, base)
    before, after = (accuracy([rows.told(one)]) for one in (base, new))
    assert 0.95 < before <= after
