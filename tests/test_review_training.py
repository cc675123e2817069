"""Training on reviews: what teaches, what is refused, and that nothing is forgotten."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from review_samples import MIXED, area, make_review, nucleus

from nucliseg_qp.errors import InputError, ModelError, UsageError
from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.review.choosing import Choice, near_enough
from nucliseg_qp.review.finetune import FineTuned, fine_tune, reasons_against, refuse_worse
from nucliseg_qp.review.finetune_settings import FineTuning
from nucliseg_qp.review.folder import read_review
from nucliseg_qp.review.lessons import annotated_images, check_enough
from nucliseg_qp.training.convert import convert
from nucliseg_qp.training.convert_settings import ConvertSettings
from nucliseg_qp.training.slides import write_slide


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


def test_an_image_that_is_gone_or_another_one_is_named(tmp_path):
    import cv2

    image = tmp_path / "a.png"
    review = make_review(tmp_path / "r", {"a": [area(0, 0, 400), *MIXED]}, uris=[image.as_uri()])
    with pytest.raises(InputError, match=r"the file of a is not there: .*a\.png"):
        annotated_images([review])
    cv2.imwrite(str(image), np.full((300, 300, 3), 240, np.uint8))
    how = ConvertSettings(out=tmp_path / "data", mpp=0.5)
    with pytest.raises(InputError, match=r"500 x 500 px, but .*a\.png has 300 x 300"):
        convert(annotated_images([review]), how)


def test_too_few_images_are_refused_with_what_is_missing(tmp_path):
    make_review(tmp_path / "r", {"a": MIXED})
    with pytest.raises(
        InputError, match=r"missing are 2 more reviewed image\(s\) and 54 more nuclei"
    ):
        check_enough([read_review(tmp_path / "r")])


def test_a_worse_model_is_refused():
    bad = FineTuned(None, 1.0, {"held out": 0.8}, {"held out": 0.7}, ["F1 on held out fell"])
    with pytest.raises(ModelError, match="not kept: F1 on held out fell"):
        refuse_worse(bad)


@pytest.fixture
def reviewed_slides(tmp_path):
    """Give a review of three slides in which every nucleus was looked at."""
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
    return replace(review, images=here)


def test_training_goes_from_a_review_to_a_judged_model(reviewed_slides, tmp_path):
    guard = tmp_path / "what matters"
    convert(annotated_images([reviewed_slides]), ConvertSettings(out=guard, mpp=0.5))
    how = FineTuning(out=tmp_path / "out", steps=2, batch_size=2, workers=0, guard=(guard,))
    found = fine_tune([reviewed_slides], how)
    assert found.before.keys() == {"held out", "painted fields", guard.name} == found.after.keys()
    told = json.loads((tmp_path / "out" / "review_training.json").read_text())
    assert told["before"]["held out"] == found.before["held out"] > 0.7
    assert found.before[guard.name] > 0.7
    # Two steps teach next to nothing: whichever way it went, it must be the way it is told.
    if found.model is None:
        assert found.reasons
        assert not list((tmp_path / "out").glob("*.safetensors"))
    else:
        assert load_model(found.model).info.metrics["held_out_f1"] > found.before["held out"]


def test_a_guard_that_is_no_folder_of_tiles_is_named_before_training(reviewed_slides, tmp_path):
    how = FineTuning(out=tmp_path / "out", guard=(tmp_path / "nothing here",))
    with pytest.raises(InputError, match="nothing here"):
        fine_tune([reviewed_slides], how)
    assert not (tmp_path / "out" / "training").exists()


@pytest.mark.parametrize("second", ["site a/tiles", "site b/tiles", "held out", "painted fields"])
def test_guards_of_one_name_are_refused_not_merged(tmp_path, second):
    """The figures are told by name: of two of a name, one would guard nothing."""
    guard = (tmp_path / "site a" / "tiles", tmp_path / second)
    with pytest.raises(UsageError, match=f"the name '{guard[1].name}'"):
        FineTuning(out=tmp_path / "out", guard=guard)


def choice(share, own, *guards):
    return Choice(share, None, own, guards)


@pytest.mark.parametrize(
    ("tried", "taken"),
    [
        # The nearest that gains half of what can be gained; of its thresholds the best.
        ([(0.25, 0.84, 0.9), (0.5, 0.86, 0.9), (0.5, 0.87, 0.9), (1.0, 0.9, 0.9)], (0.5, 0.87)),
        # What costs a guard is no choice, and nothing to measure others by.
        ([(0.25, 0.82, 0.9), (0.5, 0.95, 0.89)], (0.25, 0.82)),
        # What guards gain does not make up for own images.
        ([(0.25, 0.8, 0.99), (0.5, 0.7, 0.99)], (0.0, 0.8)),
    ],
)
def test_weights_go_as_far_as_needed_and_no_guard_pays(tried, taken):
    found = near_enough(choice(0.0, 0.8, 0.9), [choice(*one) for one in tried])
    assert (found.share, found.own_f1) == taken


def test_a_large_gain_is_not_driven_to_its_end_at_the_price_of_other_tissue():
    tried = [choice(0.25, 0.56, 0.9), choice(0.375, 0.59, 0.9), choice(1.0, 0.95, 0.9)]
    assert near_enough(choice(0.0, 0.5, 0.9), tried).share == 0.375


def test_a_model_that_forgot_what_is_guarded_is_refused():
    known = {"held out": 0.80, "painted fields": 0.90, "ours": 0.85}
    forgot = {"held out": 0.95, "painted fields": 0.90, "ours": 0.83}
    assert reasons_against(0.5, known, forgot, 0.01) == ["F1 on ours went from 0.850 to 0.830"]
    assert reasons_against(0.5, known, forgot, 0.03) == []
    assert reasons_against(0.5, known, {**known}, 0.01) == [
        "F1 on held out went from 0.800 to 0.800"
    ]


def test_who_stops_it_is_told_that_the_folder_must_be_another(tmp_path, monkeypatch, capsys):
    from nucliseg_qp.cli import run

    def stop(*_):
        raise KeyboardInterrupt

    make_review(tmp_path / "r", {"a": MIXED})
    monkeypatch.setattr("nucliseg_qp.review.finetune.check_enough", lambda _: None)
    monkeypatch.setattr("nucliseg_qp.review.finetune._tiles", lambda *_: tmp_path)
    monkeypatch.setattr("nucliseg_qp.review.finetune.train_own", stop)
    code = run(["review", "train", str(tmp_path / "r"), "-o", str(tmp_path / "model")])
    told = capsys.readouterr().err
    assert code == 130
    assert "another folder" in told
    assert "same command" not in told
