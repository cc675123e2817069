"""Reviews: read without guessing, compared without settling, never misapplied."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from project_samples import make_project
from review_samples import MIXED, area, make_review, nucleus, write_sent

from nucliseg_qp import cli
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.palette.user import FOLDER_VARIABLE
from nucliseg_qp.qupath.project_file import ProjectFile
from nucliseg_qp.qupath.project_folder import ProjectFolder
from nucliseg_qp.review.collect import collect, sent_files
from nucliseg_qp.review.compare import compare, merge
from nucliseg_qp.review.corrections import read_corrections
from nucliseg_qp.review.folder import Review, read_review
from nucliseg_qp.review.lessons import check_enough
from nucliseg_qp.review.report import report, write_review_report


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
    with pytest.raises(InputError, match="more reviewed image"):
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


def test_a_nucleus_added_where_the_other_saw_none_is_a_conflict(tmp_path):
    make_review(tmp_path / "anna", {"a": [area(0, 0, 300), *MIXED]})
    drawn = {**nucleus(12, "added", "", "Positive"), "id": "drawn"}
    outside = {**nucleus(399, "added", "", "Positive"), "id": "elsewhere"}
    make_review(tmp_path / "ben", {"a": [*MIXED, drawn, outside]}, "Ben")
    folders = tmp_path / "anna", tmp_path / "ben"
    reviews = read_review(folders[0]), read_review(folders[1])
    found = compare(*reviews)
    said = {one.id: (one.first, one.second) for one in found.conflicts}
    assert said == {"drawn": ("no nucleus", "Positive")}
    assert (found.common, found.agreed, found.only_second) == (7, 6, 1)
    for prefer, kept in ((None, False), ("Anna", False), ("Ben", True)):
        out = tmp_path / f"both {prefer}"
        merged = merge(*folders, reviews, out, prefer)
        assert ("drawn" in merged.images[0].ids) is kept
        assert "drawn" in {one["id"] for one in merged.conflicts}


def test_a_preferred_reviewer_without_anything_to_merge_is_refused(two, capsys):
    folders = [str(two[0] / name) for name in ("anna", "ben")]
    assert cli.run(["review", "compare", *folders, "--prefer", "Ann"]) == UsageError.exit_code
    assert "--merge" in capsys.readouterr().err


def test_a_preferred_reviewer_decides_and_it_is_noted(two):
    folder, anna, ben = two
    both = merge(folder / "anna", folder / "ben", (anna, ben), folder / "both", "Ben")
    [image] = both.images
    decided = dict(zip(image.ids, image.class_now.tolist(), strict=True))
    assert decided["id-1"] == "Positive"
    assert {one["settled_by"] for one in both.conflicts} == {"Ben"}
    with pytest.raises(UsageError, match="Carl is neither"):
        merge(folder / "anna", folder / "ben", (anna, ben), folder / "x", "Carl")
    with pytest.raises(UsageError, match="both reviews are by Anna"):
        merge(folder / "anna", folder / "anna", (anna, anna), folder / "x", "Anna")


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


def texts(svg):
    return [one.text for one in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_report_is_drawn_as_it_is_told(tmp_path):
    """Twelve of sixty were changed, all of small margin; one class and the people are odd."""
    rows = [
        nucleus(n, "reclassified" if n < 12 else "confirmed", "Negative",
                "a < b & c" if n < 12 else "Negative", margin=0.01 + 0.01 * n)
        for n in range(60)
    ]  # fmt: skip
    for number, who in enumerate(("<Anna>", "B\x07en")):
        make_review(tmp_path / str(number), {"a": rows}, who)
    folders = [str(tmp_path / str(number)) for number in (0, 1)]
    assert cli.run(["review", "report", *folders, "-o", str(tmp_path / "out")]) == 0
    svg = tmp_path / "out" / "review_report.svg"
    said = texts(svg)
    assert {"<Anna>", "B?en", "a < b & c", "Negative"} <= set(said)
    assert [text for text in said if text.isdigit()] == ["96", "24", "0", "0"], "both together"
    titles = [one.text for one in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}title")]
    bars = [text for text in titles if "margin" in text]
    changed = [int(text.split()[0]) for text in bars]
    assert sum(changed) == 24
    assert changed == sorted(changed, reverse=True), "smallest margins first"
    dots = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}circle")
    heights = {one[0].text.split(": ")[1]: float(one.get("cy")) for one in dots}
    assert heights["precision"] < heights["class accuracy"], "all were nuclei, 80 % of one class"


def test_a_review_in_which_nobody_decided_anything_is_drawn(tmp_path):
    make_review(tmp_path / "r", {"a": [area(0, 0, 100)]})
    assert cli.run(["review", "report", str(tmp_path / "r"), "-o", str(tmp_path / "out")]) == 0
    said = texts(tmp_path / "out" / "review_report.svg")
    assert {"no class was looked at", "no margins in these reviews"} <= set(said)


def test_a_report_of_no_reviews_is_written_and_says_so(tmp_path):
    write_review_report(report([]), tmp_path)
    assert "no reviews" in texts(tmp_path / "review_report.svg")


def test_what_was_missed_is_only_told_where_somebody_looked_for_it(tmp_path):
    without = make_review(tmp_path / "a", {"a": MIXED})
    with_area = make_review(tmp_path / "b", {"a": [area(0, 0, 400), *MIXED]})
    first, second = (report([one]).engine[0] for one in (without, with_area))
    assert np.isnan(first.recall)
    assert second.recall == pytest.approx(4 / 5)
    assert first.precision == second.precision == pytest.approx(4 / 5)
