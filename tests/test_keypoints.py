"""The keypoint network finds the same nuclei however an image is cut, and only runs safe files."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nucliseg_qp.errors import DeviceError, InputError, ModelError
from nucliseg_qp.keypoints import model as model_module
from nucliseg_qp.keypoints.heatmap import find_peaks, gaussian_heatmap
from nucliseg_qp.keypoints.model import (
    KeypointModel,
    ModelInfo,
    available_models,
    load_model,
    save_model,
)
from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device
from nucliseg_qp.keypoints.unet import GRID_PX, STRIDE_PX, KeypointUNet

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_net(width: int = 8, seed: int = 0, depth: int = 1) -> KeypointUNet:
    """A network whose batch norms have seen something, so that folding them matters."""
    torch.manual_seed(seed)
    net = KeypointUNet(width, depth).train()
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(2, 3, 64, 64))
        net.head.weight.mul_(20.0)
    return net.eval().requires_grad_(False)


def info(net: KeypointUNet, **changes: object) -> ModelInfo:
    facts: dict[str, object] = {
        "name": "tiny",
        "mpp": 0.6,
        "halo_px": net.halo_px,
        "mean": (1.0, 1.0, 1.0),
        "std": (0.25, 0.25, 0.25),
        "threshold": 0.02,
        "sigma_px": 2.5,
        "nms_radius_px": 4.0,
        "width": net.width,
        "sha256": "0" * 64,
        "metrics": {"endonuke_f1": 0.5},
    }
    return ModelInfo.model_validate(facts | changes)


def tiny_runner(**options: object) -> KeypointRunner:
    net = random_net()
    return KeypointRunner(KeypointModel(info(net), net), pick_device("cpu"), **options)  # type: ignore[arg-type]


def noise_image(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def logit(heatmap: torch.Tensor) -> torch.Tensor:
    return torch.logit(heatmap.clamp(1e-6, 1 - 1e-6))


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("depth", [1, 3])
def test_a_cell_depends_on_nothing_beyond_the_stated_receptive_field(depth: int) -> None:
    net = random_net(depth=depth)
    reached = 0
    for cell in range(56, 60):
        x = torch.randn(1, 3, 232, 232, requires_grad=True)
        net(x)[0, 0, cell, cell].backward()
        assert x.grad is not None
        touched = x.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        first, last = int(touched.min()), int(touched.max())
        centre = cell * STRIDE_PX
        reached = max(reached, centre - first, last - centre - STRIDE_PX + 1)
    assert reached == net.receptive_field_px <= net.halo_px <= 48 + 32 * (depth - 1)
    assert net.halo_px % GRID_PX == 0


def test_a_tile_with_its_halo_gives_the_same_logits_as_the_whole_image() -> None:
    net = random_net()
    x = torch.randn(1, 3, 256, 320)
    whole = net(x)
    halo = net.halo_px
    for top, left in [(48, 40), (64, 136), (96, 88)]:
        crop = x[:, :, top : top + 64 + 2 * halo, left : left + 64 + 2 * halo]
        core = slice(halo // STRIDE_PX, (halo + 64) // STRIDE_PX)
        row, column = (top + halo) // STRIDE_PX, (left + halo) // STRIDE_PX
        wanted = whole[:, :, row : row + 32, column : column + 32]
        torch.testing.assert_close(net(crop)[:, :, core, core], wanted, atol=1e-5, rtol=1e-5)


def test_the_halo_is_needed_a_narrower_one_changes_the_core() -> None:
    net = random_net()
    x = torch.randn(1, 3, 256, 256)
    crop = net(x[:, :, 88:168, 88:168])[0, 0, 4:36, 4:36]
    assert (crop - net(x)[0, 0, 48:80, 48:80]).abs().max() > 1e-3


def test_folding_the_batch_norms_keeps_the_answer() -> None:
    net = random_net()
    x = torch.randn(2, 3, 64, 72)
    torch.testing.assert_close(net.folded()(x), net(x), atol=1e-4, rtol=1e-4)


def test_one_heatmap_at_half_resolution() -> None:
    assert KeypointUNet(4)(torch.zeros(3, 3, 256, 256)).shape == (3, 1, 128, 128)


# ---------------------------------------------------------------- peaks


@st.composite
def spaced_points(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Points on a jittered lattice: at least 12 px apart, anywhere within their cells."""
    cells = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), unique=True))
    jitter = st.floats(-4.0, 4.0, width=32)
    return [(20 * i + 16 + draw(jitter), 20 * j + 16 + draw(jitter)) for i, j in cells]


@settings(max_examples=60, deadline=None)
@given(points=spaced_points())
def test_planted_gaussians_come_back_where_they_were(points: list[tuple[float, float]]) -> None:
    planted = torch.tensor([[0.0, x, y] for x, y in points]).reshape(-1, 3)
    heatmap = gaussian_heatmap(planted, (1, 68, 64), STRIDE_PX, sigma_px=2.5)
    peaks = find_peaks(logit(heatmap), 0.3, 4.0, STRIDE_PX)
    found = torch.stack([peaks.x, peaks.y], dim=1)
    assert len(found) == len(points)
    if points:
        gaps = torch.cdist(planted[:, 1:], found)
        assert gaps.min(dim=1).values.max() < 0.1


@settings(max_examples=60, deadline=None)
@given(
    apart=st.floats(5.6, 9.0),
    turn=st.floats(0.0, np.pi),
    x=st.floats(20.0, 22.0),
    y=st.floats(20.0, 22.0),
)
def test_two_small_nuclei_side_by_side_are_two_in_any_direction(
    apart: float, turn: float, x: float, y: float
) -> None:
    pair = [[0.0, x, y], [0.0, x + apart * np.cos(turn), y + apart * np.sin(turn)]]
    heatmap = gaussian_heatmap(torch.tensor(pair), (1, 32, 32), STRIDE_PX, sigma_px=1.5)
    peaks = find_peaks(logit(heatmap), 0.3, 5.0, STRIDE_PX)
    assert len(peaks.x) == 2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(1.0, 12.0))
def test_no_two_peaks_are_nearer_than_the_radius_and_none_goes_without_a_higher_one(
    seed: int, radius: float
) -> None:
    logits = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(seed))
    every, kept = (find_peaks(logits, 0.5, r, STRIDE_PX) for r in (1e-3, radius))
    gaps = torch.cdist(*2 * [torch.stack([kept.x, kept.y], dim=1)]).fill_diagonal_(np.inf)
    assert gaps.min() >= radius
    places = set(zip(kept.x.tolist(), kept.y.tolist(), strict=True))
    gone = [
        i
        for i, at in enumerate(zip(every.x.tolist(), every.y.tolist(), strict=True))
        if at not in places
    ]
    for i in gone:
        near = torch.hypot(every.x - every.x[i], every.y - every.y[i]) < radius
        assert (near & (every.score >= every.score[i])).sum() > 1


def test_gaussians_meet_by_their_maximum_and_know_their_image() -> None:
    points = torch.tensor([[0.0, 21.0, 21.0], [0.0, 25.0, 21.0], [1.0, 5.0, 33.0]])
    both = gaussian_heatmap(points, (2, 32, 32), 2, 3.0)
    alone = gaussian_heatmap(points[:1], (2, 32, 32), 2, 3.0)
    assert both.max() <= 1.0
    assert both[0, 0, 10, 10] == alone[0, 0, 10, 10] == 1.0
    assert both[1, 0, 16, 2] == 1.0
    assert alone[1].max() == 0.0


def test_there_is_no_cap_on_the_number_of_nuclei() -> None:
    xs, ys = np.meshgrid(np.arange(6, 506, 10), np.arange(6, 506, 10))
    points = torch.tensor(np.stack([0 * xs, xs, ys], -1).reshape(-1, 3), dtype=torch.float32)
    peaks = find_peaks(logit(gaussian_heatmap(points, (1, 256, 256), 2, 2.0)), 0.3, 4.0, 2)
    assert len(peaks.x) == len(points) == 2500


def test_of_a_plateau_one_peak_stays_the_first_in_reading_order() -> None:
    logits = torch.full((1, 1, 20, 20), -6.0)
    logits[0, 0, 5:7, 8:10] = 3.0
    peaks = find_peaks(logits, 0.3, 4.0, 2)
    assert len(peaks.x) == 1
    shifted = find_peaks(logits.roll((4, 3), dims=(2, 3)), 0.3, 4.0, 2)
    assert float(shifted.x[0] - peaks.x[0]) == 6.0
    assert float(shifted.y[0] - peaks.y[0]) == 8.0


def test_nothing_below_the_threshold_and_nothing_on_empty_glass() -> None:
    assert len(find_peaks(torch.full((2, 1, 16, 16), -4.0), 0.3, 4.0, 2).x) == 0


def test_peaks_of_a_batch_are_those_of_its_images() -> None:
    logits = torch.randn(3, 1, 40, 48, generator=torch.Generator().manual_seed(1))
    together = find_peaks(logits, 0.5, 4.0, 2)
    for index in range(3):
        alone = find_peaks(logits[index : index + 1], 0.5, 4.0, 2)
        chosen = together.batch == index
        torch.testing.assert_close(alone.x, together.x[chosen])
        torch.testing.assert_close(alone.y, together.y[chosen])
        torch.testing.assert_close(alone.score, together.score[chosen])


# ---------------------------------------------------------------- running


def test_results_do_not_depend_on_the_batch_in_one_bit() -> None:
    runner = tiny_runner()
    images = np.stack([noise_image(seed, 64, 88) for seed in range(5)])
    together = runner.detect(images)
    assert sum(map(len, together)) > 5
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(runner.detect(image[None])[0], found)


def test_float32_and_bfloat16_see_the_same_nuclei_in_general() -> None:
    image = noise_image(3, 128, 128)[None]
    exact = tiny_runner(precision="float32").logits(image)
    rough = tiny_runner(precision="bfloat16").logits(image)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.1 * exact.std() + 0.3


def test_any_number_and_size_of_images() -> None:
    runner = tiny_runner()
    assert runner.detect(np.zeros((0, 64, 64, 3), np.uint8)) == []
    assert [f.shape[1] for f in runner.detect(np.zeros((2, 8, 264, 3), np.uint8))] == [3, 3]


def test_a_threshold_of_ones_own_replaces_the_models() -> None:
    image = noise_image(1, 64, 64)[None]
    many, few = (len(tiny_runner(threshold=t).detect(image)[0]) for t in (0.001, 0.9999))
    assert many > few


@pytest.mark.parametrize("shape", [(1, 60, 64, 3), (64, 64, 3), (1, 64, 64, 4), (1, 0, 8, 3)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        tiny_runner().detect(np.zeros(shape, np.uint8))


def test_a_device_that_is_missing_is_an_error_that_says_what_is_there() -> None:
    for wanted in ("cuda:97", "npu", "cuda:x"):
        with pytest.raises(DeviceError, match="cpu"):
            pick_device(wanted)
    assert pick_device("cpu").label.startswith("CPU (")
    assert pick_device("auto").name in {"cpu", "cuda:0", "mps"}


# ---------------------------------------------------------------- files


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    again = load_model(path)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again.net(x), net(x))
    assert again.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert again.info.metrics == {"endonuke_f1": 0.5}


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.safetensors"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    net = random_net()
    trace = tmp_path / "executed"
    path = tmp_path / name
    payload = pickle.dumps(Bomb(trace))
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    else:
        path.write_bytes(payload)
    saved = save_model(tmp_path / "good", info(net), net).with_suffix(".toml")
    path.with_suffix(".toml").write_text(saved.read_text())
    with pytest.raises(ModelError, match="pickle"):
        load_model(path)
    assert not trace.exists()


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="sha256"):
        load_model(path)


def swap(path: Path, old: str, new: str) -> None:
    toml = path.with_suffix(".toml")
    text = toml.read_text()
    assert old in text
    toml.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 8", "width = 10", "width"),
        ("halo_px = 48", "halo_px = 40", "less than the network sees"),
        ("threshold = 0.02", "threshold = 2.0", "threshold"),
        ("mpp = 0.6", "mpp = ", "TOML"),
        ("std = [0.25", "std = [0.0", "std"),
        ('licence = "unspecified"', 'license = "CC0"', "license"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    swap(path, old, new)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert caught.value.hint


def test_weights_of_another_network_are_told_as_such(tmp_path: Path) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    swap(path, "depth = 1", "depth = 2")
    with pytest.raises(ModelError, match="of another network") as caught:
        load_model(path)
    assert "train it again" in caught.value.hint


def test_missing_files_and_unknown_names_say_what_to_do(tmp_path: Path) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    path.with_suffix(".toml").unlink()
    with pytest.raises(ModelError, match=r"tiny\.toml"):
        load_model(path)
    with pytest.raises(ModelError, match="no-such-model"):
        load_model("no-such-model")
    with pytest.raises(ModelError, match="elsewhere"):
        load_model(tmp_path / "elsewhere.safetensors")


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    net = random_net()
    path = save_model(tmp_path, info(net), net)
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ModelError, match="bytes"):
        load_model(path)


def test_the_shipped_model_is_small_and_finds_a_dark_disc_but_nothing_on_glass() -> None:
    model = load_model()
    assert model.info.name in available_models()
    weights = Path(model_module.__file__).parent / "weights" / f"{model.info.name}.safetensors"
    assert weights.stat().st_size < 4 * 10**6
    image = np.full((128, 128, 3), 240, np.uint8)
    rows, columns = np.indices((128, 128))
    image[(rows - 63.5) ** 2 + (columns - 47.5) ** 2 < 7**2] = (105, 70, 50)
    runner = KeypointRunner(model, pick_device("cpu"))
    assert len(runner.detect(np.full((1, 128, 128, 3), 240, np.uint8))[0]) == 0
    found = runner.detect(image[None])[0]
    assert len(found) == 1
    np.testing.assert_allclose(found[0, :2], (48.0, 64.0), atol=2.0)
