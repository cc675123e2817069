"""Scores: the numbers a pathologist signs are QuPath's numbers, to the digit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nucliseg_qp.quantify.scores import score_counts

QUPATH = Path(__file__).with_name("qupath_measures.py")


def test_the_example_of_qupath_itself():
    scores = score_counts({"Negative": 12, "1+": 9, "2+": 6, "3+": 3})
    assert scores.positive_percent == 60.0
    assert scores.h_score == 100.0
    assert (scores.allred_proportion, scores.allred_intensity, scores.allred_score) == (4, 1, 5)


def test_nothing_to_score_is_not_a_number_and_allred_zero():
    for counts in ({}, {"Negative": 0, "Positive": 0}, {"Stroma": 5, "Ignore*": 3}):
        scores = score_counts(counts)
        assert math.isnan(scores.positive_percent)
        assert math.isnan(scores.h_score)
        assert scores.allred_score == 0


def test_the_last_part_of_a_name_decides_and_other_classes_do_not_count():
    whole = score_counts({"Tumor: Positive": 3, "Stroma: Negative": 1, "Tumor": 50, "Necrosis": 9})
    assert whole.positive_percent == 75.0


def test_ungraded_positives_weigh_nothing_in_the_h_score_as_in_qupath():
    assert score_counts({"Negative": 5, "Positive": 5}).h_score == 0.0
    assert math.isnan(score_counts({"Positive": 5}).h_score)


@pytest.mark.parametrize(
    ("positive", "negative", "proportion"),
    [(0, 5, 0), (1, 999, 1), (1, 99, 2), (1, 9, 3), (34, 66, 4), (67, 33, 5), (7, 0, 5), (0, 0, 0)],
)
def test_allred_proportion_changes_at_its_limits(positive, negative, proportion):
    scores = score_counts({"1+": positive, "Negative": negative})
    assert scores.allred_proportion == proportion
    assert scores.allred_intensity == (1 if proportion else 0)


def test_allred_at_exactly_a_third_rounds_down_with_qupath():
    # QuPath divides its percentage by 100, which leaves a hair less than a third.
    assert score_counts({"1+": 1, "Negative": 2}).allred_proportion == 3
    assert score_counts({"1+": 2, "Negative": 1}).allred_proportion == 4


@pytest.mark.parametrize(
    ("graded", "intensity"), [((1, 0, 0), 1), ((1, 2, 0), 1), ((0, 2, 1), 2), ((0, 1, 2), 3)]
)
def test_allred_intensity_is_that_of_the_mean_positive_nucleus(graded, intensity):
    counts = dict(zip(("1+", "2+", "3+"), graded, strict=True))
    assert score_counts(counts).allred_intensity == intensity


def test_density_is_per_mm2_and_unknown_without_an_area():
    scores = score_counts({"Positive": 10, "Negative": 30}, area_mm2=0.5)
    assert (scores.positive_per_mm2, scores.scored_per_mm2) == (20.0, 80.0)
    assert math.isnan(score_counts({"Positive": 10}).positive_per_mm2)
    assert math.isnan(score_counts({"Positive": 10}, area_mm2=0.0).scored_per_mm2)


NUMBERS = st.integers(0, 10_000)


@given(st.fixed_dictionaries(dict.fromkeys(("Negative", "Positive", "1+", "2+", "3+"), NUMBERS)))
def test_scores_stay_in_their_range(counts):
    scores = score_counts(counts)
    assert math.isnan(scores.positive_percent) or 0 <= scores.positive_percent <= 100
    assert math.isnan(scores.h_score) or 0 <= scores.h_score <= 300
    assert 0 <= scores.allred_score <= 8


@pytest.mark.qupath
def test_qupath_itself_gives_the_same_scores():
    rng = np.random.default_rng(3)
    names = ("Negative", "Positive", "1+", "2+", "3+", "Tumor", "Ignore*")
    cases = [dict(zip(names, row, strict=True)) for row in rng.integers(0, 40, (20, 7)).tolist()]
    cases += [{}, {"Negative": 99, "1+": 1}, {"Negative": 9, "1+": 1}, {"Tumor": 4}]
    cases += [{"Negative": 2, "1+": 1}, {"2+": 2, "Negative": 1}, {"1+": 1, "2+": 2}]
    side_px = 400
    asked = [("scores", {"cases": cases, "side_px": side_px})]
    told = subprocess.run(
        [sys.executable, str(QUPATH)], input=json.dumps(asked), capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr[-2000:]
    for counts, expected in zip(cases, json.loads(told.stdout)[0], strict=True):
        scores = score_counts(counts, area_mm2=side_px**2 / 1e6)
        for name, value in expected.items():
            assert getattr(scores, name) == pytest.approx(value, rel=1e-12, nan_ok=True), name
