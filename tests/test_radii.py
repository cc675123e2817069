"""How far nuclei reach: the truth from masks, the head that learns it, and what it tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nucliseg_qp.geometry import RAYS
from nucliseg_qp.keypoints.model import KeypointModel, load_model
from nucliseg_qp.keypoints.radii import REACH_PX, RadiiHead
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.training.canvases import SyntheticSource
from nucliseg_qp.training.looks import plain_look
from nucliseg_qp.training.radii import RadiiSettings, fit_radii, radial_distances
from nucliseg_qp.training.synthetic import draw_field

TURN = np.arange(RAYS) * 2 * np.pi / RAYS


def ellipse(size_px, x, y, along_px, across_px):
    row, column = np.indices((size_px, size_px)) + 0.5
    inside = ((column - x) / along_px) ** 2 + ((row - y) / across_px) ** 2 <= 1
    return inside.astype(np.int32)


@settings(max_examples=50, deadline=None)
@given(x=st.floats(28, 36), y=st.floats(28, 36), along=st.floats(4, 16), across=st.floats(4, 16))
def test_radial_distances_are_those_of_the_shape(x, y, along, across):
    found = radial_distances(ellipse(64, x, y, along, across), np.array([[x, y]]))[0]
    true = 1 / np.hypot(np.cos(TURN) / along, np.sin(TURN) / across)
    assert np.abs(found - true).max() < 1.5


def test_a_notch_and_a_neighbour_in_front_make_no_border():
    labels = ellipse(64, 32, 32, 12, 12)
    labels[31:34, 36:39] = 0
    labels[36:39, 31:34] = 2
    found = radial_distances(labels, np.array([[32.0, 32.0]]))[0]
    assert found.min() > 10.5


def test_what_the_image_cuts_and_what_has_no_label_is_unknown():
    labels = np.zeros((40, 40), np.int32)
    labels[:12, 10:30] = 1
    labels[25:35, 10:30] = 2
    points = np.array([[20.0, 6.0], [20.0, 30.0], [5.0, 20.0], [-3.0, 5.0]])
    found = radial_distances(labels, points)
    assert np.isfinite(found).all(axis=1).tolist() == [False, True, False, False]


def test_a_nucleus_that_reaches_into_what_is_not_trusted_or_a_mirrored_twin_is_unknown():
    labels = np.maximum(ellipse(64, 20, 20, 8, 8), ellipse(64, 40, 20, 8, 8))
    labels += 2 * ellipse(64, 20, 44, 8, 8)
    trusted = np.ones(labels.shape, bool)
    # A strip between two mirrored halves, and one that cuts the third nucleus.
    trusted[:, 29:31] = trusted[47:] = False
    points = np.array([[20.0, 20.0], [40.0, 20.0], [20.0, 44.0]])
    assert np.isnan(radial_distances(labels, points, trusted)).all()
    trusted[:, 29:31] = True
    labels[:, 30:] *= 5
    known = np.isfinite(radial_distances(labels, points, trusted)).all(axis=1)
    assert known.tolist() == [True, True, False]


def test_a_lesson_changes_what_is_told_of_radii_and_nothing_that_is_found():
    start = load_model()
    head = RadiiHead(start.net.head.in_channels)
    blank = load_model()
    blank.net.radii.load_state_dict(head.state_dict())
    how = RadiiSettings(steps=40, batch_size=3, crop_px=96, canvas_px=160, seed=3)
    taught = fit_radii(blank, {"synthetic": (SyntheticSource(), 1.0)}, how)
    field = draw_field(5, (192, 192), start.info.mpp, plain_look())
    before, after = (off(model, field) for model in (blank, taught))
    assert after < 0.75 * before
    for name, value in start.net.state_dict().items():
        if not name.startswith("radii"):
            assert torch.equal(taught.net.state_dict()[name], value), name
    assert torch.equal(blank.net.radii.layers[0].weight, head.layers[0].weight)


def off(model: KeypointModel, field) -> float:
    """Mean absolute log error of the radii at true centres."""
    x = (torch.from_numpy(field.image).permute(2, 0, 1)[None] / 255 - 1) / 0.25
    inside = ((field.points > 16) & (field.points < 176)).all(axis=1)
    points = field.points[inside]
    true = radial_distances(field.labels, points)
    known = np.isfinite(true).all(axis=1)
    at = torch.from_numpy(points[known]).float()
    net = model.net.folded()
    with torch.inference_mode():
        features = net.maps(x)[1]
        found = net.radii(features, torch.zeros(len(at), dtype=torch.long), *at.T).numpy()
    return float(np.abs(np.log(found / true[known])).mean())


def test_the_shipped_model_knows_how_far_nuclei_reach():
    model = load_model()
    fields = [draw_field(seed, (192, 192), model.info.mpp, plain_look()) for seed in range(4)]
    assert np.mean([off(model, field) for field in fields]) < 0.25


def test_radii_do_not_depend_on_where_a_window_ends():
    model = load_model()
    runner = KeypointRunner(model, pick_device("cpu"), precision="float32")
    image = draw_field(3, (320, 320), model.info.mpp, plain_look()).image
    halo = model.info.halo_px
    whole = runner.find(image[None])[0]
    part = runner.find(image[None, 64:256, 64:256])[0]
    part[:, :2] += 64
    owned = ((part[:, :2] >= 64 + halo) & (part[:, :2] < 256 - halo)).all(axis=1)
    assert owned.sum() > 5
    for row in part[owned]:
        nearest = whole[np.hypot(*(whole[:, :2] - row[:2]).T).argmin()]
        np.testing.assert_allclose(row, nearest, atol=2e-3)


@pytest.mark.parametrize("x", [0.0, 31.9, 63.9])
def test_a_keypoint_at_the_border_of_the_image_has_radii_too(x):
    head = RadiiHead(6)
    at = torch.tensor([x])
    found = head(torch.randn(1, 6, 16, 16), torch.tensor([0]), at, at)
    assert found.shape == (1, RAYS)
    assert bool((found > 0).all())


def test_what_is_looked_at_lies_within_the_reach_that_is_told():
    head = RadiiHead(2)
    features = torch.zeros(1, 2, 16, 16, requires_grad=True)
    x = torch.tensor([33.9])
    head(features, torch.tensor([0]), x, x).sum().backward()
    seen = torch.nonzero(features.grad.abs().sum(dim=(0, 1)))
    assert 4 * int(seen.max()) + 4 - 33 <= REACH_PX
    assert 33 - 4 * int(seen.min()) <= REACH_PX
