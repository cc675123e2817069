"""Palettes from reviews: learnt only where it helps, deaf to slips, refused from too little."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from project_samples import make_project
from review_samples import make_review, nucleus

from nucliseg_qp import cli
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.palette.classes import load_palette
from nucliseg_qp.palette.rules import hsv_from_rgb, hsv_point
from nucliseg_qp.palette.user import FOLDER_VARIABLE
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.review.agreement import accuracy, agreement, cohens_kappa
from nucliseg_qp.review.calibrate import calibrate, fit_palette, save_calibration
from nucliseg_qp.review.colours import cone_rgb, without_outliers
from nucliseg_qp.review.folder import Review
from nucliseg_qp.review.judged import LEAST, judged_rows
from nucliseg_qp.review.vectors import stain_vectors
from nucliseg_qp.review.verdicts import CONFIRMED, RECLASSIFIED, ImageReview
from nucliseg_qp.training.slides import write_slide


@pytest.fixture(autouse=True)
def own_palettes(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "palettes"))


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


def test_a_slide_two_people_reviewed_does_not_judge_what_it_taught(tmp_path):
    rng = np.random.default_rng(1)
    rows = slide(rng, 20)
    reviews = [make_review(tmp_path / who, {"a": rows}, who) for who in ("Anna", "Ben")]
    assert calibrate(reviews, load_palette("hsv"), "ours").held_out == "nuclei"
    third = make_review(tmp_path / "c", {"b": slide(rng, 20)})
    found = calibrate([*reviews, third], load_palette("hsv"), "ours")
    assert [(one.slide, len(one.truth)) for one in found.slides] == [("a", 80), ("b", 40)]


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


def test_a_palette_takes_no_name_that_is_taken(tmp_path, capsys):
    """One named as a shipped palette is never read; one named as an earlier one ends that."""
    make_review(tmp_path / "r", {name: slide(np.random.default_rng(1), 20) for name in "ab"})
    command = ["review", "calibrate", str(tmp_path / "r"), "--name"]
    assert cli.run([*command, "dab"]) == UsageError.exit_code
    assert "ships" in capsys.readouterr().err
    assert not (tmp_path / "palettes").exists()
    assert cli.run([*command, "ours"]) == 0
    file = tmp_path / "palettes" / "ours.toml"
    file.write_text(f"# mended by hand\n{file.read_text()}")
    assert cli.run([*command, "ours"]) == UsageError.exit_code
    assert "--replace" in capsys.readouterr().err
    assert "by hand" in file.read_text()
    assert cli.run([*command, "ours", "--replace"]) == 0
    assert "by hand" not in file.read_text()


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


# ---- stains -------------------------------------------------------------------------------------

VECTORS = {
    "qupath": ((0.651, 0.701, 0.290), (0.269, 0.568, 0.778)),
    "cyan": ((0.810, 0.515, 0.280), (0.370, 0.590, 0.720)),
    "violet": ((0.550, 0.750, 0.360), (0.200, 0.450, 0.870)),
}


def stained(haematoxylin, dab, rng, count=120, strange=0.0):
    """Give nuclei of known stains, one in three positive; some are of any colour."""
    is_positive = np.arange(count) % 3 == 0
    blue = rng.uniform(0.25, 0.6, count) * np.where(is_positive, rng.uniform(0.1, 0.5, count), 1)
    brown = np.where(is_positive, rng.uniform(0.3, 1.2, count), rng.uniform(0, 0.04, count))
    density = blue[:, None] * unit(haematoxylin) + brown[:, None] * unit(dab)
    rgb = 255 * 10**-density + rng.normal(0, 2, (count, 3))
    odd = rng.random(count) < strange
    rgb[odd] = rng.uniform(20, 250, (int(odd.sum()), 3))
    rows = zip(is_positive.tolist(), np.clip(rgb, 1, 255).tolist(), strict=True)
    names = ("Negative", "Positive")
    return [
        nucleus(i, "reclassified", "x", names[kind], rgb=one) for i, (kind, one) in enumerate(rows)
    ]


def unit(vector):
    return np.array(vector) / np.linalg.norm(vector)


@pytest.mark.parametrize("strange", [0.0, 0.1])
@pytest.mark.parametrize("name", VECTORS)
def test_stain_vectors_come_back_within_three_degrees(tmp_path, name, strange):
    rng = np.random.default_rng(7)
    review = make_review(tmp_path / "r", {"a": stained(*VECTORS[name], rng, strange=strange)})
    found = calibrate([review], load_palette("hsv"), "ours")
    save_calibration(found, tmp_path / "ours.toml", tmp_path / "out")
    told = tomllib.loads((tmp_path / "out" / "settings.toml").read_text())["stains"]
    for given, true in zip((told["hematoxylin"], told["dab"]), VECTORS[name], strict=True):
        assert np.degrees(np.arccos(unit(given) @ unit(true))) < 3


def test_nuclei_of_one_stain_tell_no_vectors(tmp_path):
    rng = np.random.default_rng(7)
    rows = stained(VECTORS["qupath"][0], VECTORS["qupath"][0], rng)
    [slide_] = (judged_rows(one, load_palette("hsv")) for one in make_review(
        tmp_path / "r", {"a": rows}).images)  # fmt: skip
    assert stain_vectors(slide_) is None


def test_a_threshold_is_found_between_the_classes_whatever_some_nuclei_say(tmp_path):
    rng = np.random.default_rng(8)
    low, high = rng.uniform(0.0, 0.42, 40).tolist(), rng.uniform(0.46, 1.2, 40).tolist()
    # Four of each are slips of the mouse.
    names = ["Positive"] * 4 + ["Negative"] * 36 + ["Positive"] * 36 + ["Negative"] * 4
    rows = [
        nucleus(i, "reclassified", "x", name, dab=dab)
        for i, (name, dab) in enumerate(zip(names, low + high, strict=True))
    ]
    review = make_review(tmp_path / "r", {"a": rows, "b": rows})
    [cut] = calibrate([review], load_palette("dab"), "ours").palette.rule.thresholds.tolist()
    assert max(low[4:]) < cut < min(high[:-4])


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
