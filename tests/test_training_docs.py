"""The tutorial on training runs as written, and the model card is of the shipped model."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest
from pages import run_page
from test_docs import DOCS, TRAINING

from nucliseg_qp.keypoints.model import load_model

if TYPE_CHECKING:
    from pathlib import Path


def load_card():
    spec = importlib.util.spec_from_file_location("make_model_card", DOCS / "make_model_card.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tutorial_leads_from_a_project_to_a_model_that_detects(tmp_path: Path):
    pytest.importorskip("lightning", reason="training comes with the extra `train`")
    run_page(TRAINING, tmp_path)
    report = json.loads((tmp_path / "my_data" / "report.json").read_text())
    assert [part["groups"] for part in report["splits"].values()] == [2, 1, 1]
    assert load_model(tmp_path / "my_model" / "my-nuclei.safetensors").info.name == "my-nuclei"
    assert (tmp_path / "after" / "evaluation.json").is_file()
    assert (tmp_path / "results" / "nuclei" / "slide1.geojson.gz").is_file()
    assert (tmp_path / "exported" / "my-nuclei.onnx").is_file()


def test_the_model_card_is_of_the_shipped_model():
    maker = load_card()
    written = maker.CARD.read_text(encoding="utf-8")
    assert written == maker.page(), "run: python docs/make_model_card.py [evaluation.json]"


def test_the_card_shows_figures_of_this_model_only():
    maker = load_card()
    info = load_model().info
    values = {"nuclei": 1234, "f1": 0.8765, "ap_4px": None}
    evaluation = {
        "model": {"sha256": info.sha256, "device": "CPU"},
        "split": "test",
        "threshold": 0.4,
        "matching": {"radius_um": 3.3, "border_um": 0.0},
        "sets": {"mine": values},
        "classes": {"mine": {"Positive": values}},
    }
    text = maker.card(info, 5, evaluation)
    assert "| mine | 1,234 | – |" in text
    assert "| mine, Positive |" in text
    assert "0.876" in text
    evaluation["model"]["sha256"] = "0" * 64
    assert "has not been evaluated" in maker.card(info, 5, evaluation)
