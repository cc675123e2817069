"""The figures that the documentation quotes must mean what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from nucliseg_qp.training.metrics import PointScore, match_points

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def accuracy(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield pytest.importorskip("accuracy")
    for name in ("accuracy", "qupath_cells"):
        sys.modules.pop(name, None)


def test_a_field_with_many_nuclei_weighs_more(accuracy):
    large = accuracy.Figures("a", PointScore(90, 10, 0), 81, 50.0, 0, 100, 100, 40.0, 50.0)
    small = accuracy.Figures("b", PointScore(0, 0, 10), 0, 0.0, 0, 10, 10, 2.0, 0.0)
    figures = accuracy.summary([large, small])
    assert figures["F1"] == pytest.approx(0.9)
    assert figures["precision"] == figures["recall"] == figures["class"] == pytest.approx(0.9)
    assert figures["PQ"] == pytest.approx(0.25)
    assert figures["error"] == pytest.approx(6.0)


@pytest.mark.qupath
def test_nuclei_of_qupath_lie_where_they_are_in_the_image(accuracy, tmp_path):
    from qupath_cells import DEFAULTS, detections, qupath_with_launcher

    install = qupath_with_launcher()
    if install is None:
        pytest.skip("this QuPath has no bin/QuPath")
    field = accuracy.synthetic_field(tmp_path, 100, 1024)
    usual, strict = detections(install, field.path, 0.25, [DEFAULTS, DEFAULTS | {"threshold": 0.8}])
    figures = accuracy.measure(field, usual.nuclei, 12.0, 0.0)
    assert figures.points.f1 > 0.9
    assert figures.panoptic > 0.7
    assert figures.same_class / figures.points.matched > 0.9
    assert len(strict.nuclei) < len(usual.nuclei)
    found = np.stack([usual.nuclei.x, usual.nuclei.y], axis=1)
    pairs = match_points(field.points, found, 12.0)
    shift = found[pairs[:, 1]] - field.points[pairs[:, 0]]
    assert np.abs(np.median(shift, axis=0)).max() < 0.5
