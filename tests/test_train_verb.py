"""Training on one's own slides: it learns, reports, stops, resumes, and repeats itself."""

from __future__ import annotations

import csv
import hashlib
import math
import pickle
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from train_samples import Notes, session, tiny, write_data

from nucliseg_qp.cli import run
from nucliseg_qp.errors import InputError, UsageError
from nucliseg_qp.keypoints.model import load_model, save_model
from nucliseg_qp.keypoints.unet import KeypointUNet
from nucliseg_qp.training import own, verdict
from nucliseg_qp.training import session as sessions
from nucliseg_qp.training.augment import augment
from nucliseg_qp.training.canvases import Canvas, CanvasBank, SyntheticSource
from nucliseg_qp.training.checkpoint import read_checkpoint
from nucliseg_qp.training.copypaste import (
    CopyPasteSource,
    empty_places,
    nucleus_density,
    paste_nuclei,
)
from nucliseg_qp.training.crop_data import CropData
from nucliseg_qp.training.data import LabelledImage
from nucliseg_qp.training.fit import fit
from nucliseg_qp.training.lightning import KeypointTraining
from nucliseg_qp.training.looks import plain_look
from nucliseg_qp.training.metrics import score_points
from nucliseg_qp.training.own import fit_settings
from nucliseg_qp.training.own_settings import OwnTraining
from nucliseg_qp.training.pseudo import _turned_back, pseudo_folder, pseudo_labels
from nucliseg_qp.training.search import RATES, find_batch_size, find_learning_rate
from nucliseg_qp.training.session import Session, SessionSettings
from nucliseg_qp.training.synthetic import draw_field
from nucliseg_qp.training.verdict import compare_runs

if TYPE_CHECKING:
    from nucliseg_qp.training.fit_settings import FitSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "mine")


# ---------------------------------------------------------------- around a training


def test_a_session_tells_logs_draws_and_saves(data: Path, tmp_path: Path):
    notes = Notes()
    path = fit(tiny(data, tmp_path, steps=20), session(tmp_path, notes, check_steps=10))
    assert [int(step[0]) for step in notes.steps] == list(range(1, 21))
    shares = [step[2] for step in notes.steps]
    assert shares == sorted(shares)
    assert notes.steps[-1][3] == pytest.approx(0.0, abs=0.1)
    assert notes.checks == [10, 20]
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows if row["loss"]} == {10, 20}
    assert all(0 <= float(row["validation_f1"]) <= 1 for row in rows if row["validation_f1"])
    picture = cv2.imread(str(tmp_path / "pictures" / "step_000020.png"))
    assert picture is not None
    assert len(np.unique(picture)) > 100
    model = load_model(path)
    assert "own annotated slides" in model.info.trained_on
    assert model.info.metrics["train_steps"] == 20


def test_equal_seeds_give_equal_models_and_a_session_changes_nothing(data: Path, tmp_path: Path):
    plain = fit(tiny(data, tmp_path / "a", steps=5))
    watched = fit(tiny(data, tmp_path / "b", steps=5), session(tmp_path / "b", check_steps=2))
    other = fit(tiny(data, tmp_path / "c", steps=5, seed=1))
    first, second, third = (load_model(p).net.state_dict() for p in (plain, watched, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


def test_a_training_goes_on_where_it_was(data: Path, tmp_path: Path):
    fit(tiny(data, tmp_path, steps=6), session(tmp_path))
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert (saved["global_step"], len(saved["losses"])) == (6, 6)
    notes = Notes()
    path = fit(tiny(data, tmp_path, steps=10), session(tmp_path, notes, resume=True))
    assert [int(step[0]) for step in notes.steps] == [7, 8, 9, 10]
    assert load_model(path).info.metrics["train_steps"] == 10
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["losses"][:6] == saved["losses"]


def test_it_stops_early_and_keeps_the_best(data: Path, tmp_path: Path, monkeypatch):
    scores = iter([0.5, 0.7, 0.6, 0.65, 0.9])
    states = []

    def judged(model, _):
        states.append({k: v.clone() for k, v in model.net.state_dict().items()})
        return 0.4, {"own_f1": next(scores)}

    monkeypatch.setattr(sessions, "choose_threshold", judged)
    notes = Notes()
    path = fit(tiny(data, tmp_path, steps=40), session(tmp_path, notes, check_steps=2, patience=2))
    assert notes.checks == [2, 4, 6, 8]
    kept = load_model(path).net.state_dict()
    assert all(torch.equal(kept[key], states[1][key]) for key in kept)


def test_a_loss_that_is_no_number_stops(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        "nucliseg_qp.training.lightning.heatmap_loss",
        lambda logits, *_: logits.sum() * math.nan,
    )
    with pytest.raises(InputError, match="loss became nan at step 1"):
        fit(tiny(data, tmp_path), session(tmp_path))


def test_nothing_to_resume_or_a_hostile_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no checkpoint"):
        session(tmp_path, resume=True)
    file = tmp_path / "checkpoints" / "last.ckpt"
    file.parent.mkdir()
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        session(tmp_path, resume=True)
    file.write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(InputError, match="damaged"):
        session(tmp_path, resume=True)
    torch.save({"anything": 1}, file)
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        session(tmp_path, resume=True)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Would make a folder if somebody unpickled it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("package", "wanted"), [("tensorboard", {"tensorboard": True}), ("wandb", {"wandb": "p"})]
)
def test_a_logger_that_is_not_installed_is_named(tmp_path: Path, package: str, wanted: dict):
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UsageError, match=f"{package} is not installed"):
        session(tmp_path, **wanted).loggers()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_batch_is_learnt_from_twice_whatever_the_workers(data: Path, tmp_path: Path, workers):
    """Three processes with one seed gave each batch three times."""
    settings = tiny(data, tmp_path, workers=workers, seed=5)
    loader = CropData(settings, {"synthetic": (SyntheticSource(), 1.0)}, 5).train_dataloader()
    batches = [batch.images for batch, _ in zip(loader, range(6), strict=False)]
    assert len({batch.numpy().tobytes() for batch in batches}) == 6
    # What one process draws hangs on the seed alone: the shipped weights were trained so.
    if workers < 2:
        digest = hashlib.sha256(b"".join(batch.numpy().tobytes() for batch in batches)).hexdigest()
        assert digest == drawn_before_workers_had_seeds(settings)


def drawn_before_workers_had_seeds(settings: FitSettings) -> str:
    bank = CanvasBank(
        {"synthetic": (SyntheticSource(), 1.0)},
        settings.canvas_px,
        settings.mpp,
        settings.bank_size,
        settings.seed,
        settings.smudges,
    )
    rng, told = torch.Generator().manual_seed(settings.seed), hashlib.sha256()
    bank.fill(4)
    for _ in range(6):
        canvases = bank.sample(settings.batch_size)
        rgbw = torch.from_numpy(np.stack([canvas.rgbw for canvas in canvases]))
        points = [torch.from_numpy(canvas.points) for canvas in canvases]
        scaled = rgbw.permute(0, 3, 1, 2).float() / 255
        images = augment(scaled, points, settings.crop_px, settings.augmentation, rng)[0]
        told.update((images * 255).round().byte().numpy().tobytes())
        bank.renew()
    return told.hexdigest()


# ---------------------------------------------------------------- searches


def pieces(data: Path, out: Path) -> tuple:
    from lightning.pytorch import Trainer

    settings = tiny(data, out)
    net = KeypointUNet(8)
    module = KeypointTraining(net, (1, 1, 1), (0.25,) * 3, steps=8, seconds=60)
    crops = CropData(settings, {"synthetic": (SyntheticSource(), 1.0)}, 0)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=8,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    return trainer, module, crops


def test_the_learning_rate_is_searched_and_the_net_stays(data: Path, tmp_path: Path):
    trainer, module, crops = pieces(data, tmp_path)
    before = {key: value.clone() for key, value in module.net.state_dict().items()}
    module.learning_rate = 1.0
    find_learning_rate(trainer, module, crops, steps=20)
    assert RATES[0] <= module.learning_rate <= RATES[1]
    assert not module.searching
    assert module.losses == []
    after = module.net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_batch_size_is_searched(data: Path, tmp_path: Path):
    trainer, module, crops = pieces(data, tmp_path)
    find_batch_size(trainer, module, crops, largest=16)
    assert crops.batch_size == 16
    assert next(iter(crops.train_dataloader())).images.shape[0] == 16


# ---------------------------------------------------------------- copy-paste


def dotted(points: np.ndarray, side: int = 160) -> LabelledImage:
    """Brown discs of 3 um radius on white at 0.5 um/px."""
    image = np.full((side, side, 3), 245, np.uint8)
    for x, y in points:
        cv2.circle(image, (int(x), int(y)), 6, (120, 70, 40), -1)
    return LabelledImage("d", image, points + 0.5, mpp=0.5)


def blank(points=(), side: int = 160) -> Canvas:
    rgbw = np.full((side, side, 4), 235, np.uint8)
    rgbw[..., 3] = 255
    return Canvas(rgbw, np.array(points, np.float32).reshape(-1, 2))


def test_pasted_nuclei_are_where_their_points_are_and_nowhere_else():
    donor = dotted(np.array([[40, 40], [100, 90]]))
    canvas = paste_nuclei(blank([(80, 80)]), donor, 8, 0.5, np.random.default_rng(0))
    assert 2 < len(canvas.points) <= 9
    for x, y in canvas.points[1:].astype(int):
        assert canvas.rgbw[y, x, 2] < 60
    assert np.hypot(*(canvas.points[1:] - canvas.points[0]).T).min() > 9.0 / 0.5
    far = np.hypot(
        *(np.indices((160, 160))[::-1] - canvas.points[:, :, None, None] + 0.5).swapaxes(0, 1)
    )
    assert (canvas.rgbw[far.min(axis=0) > 6.5 / 0.5, :3] == 235).all()


def test_nuclei_are_only_pasted_where_it_is_pale_and_trusted():
    canvas = blank()
    canvas.rgbw[:, :80, 3] = 0
    canvas.rgbw[:70, 80:, :3] = 90
    places = empty_places(canvas, 50, 0.5, np.random.default_rng(1))
    assert len(places) > 2
    assert (places[:, 0] >= 80).all()
    assert (places[:, 1] >= 70).all()


def test_a_neighbour_is_not_pasted_along():
    donor = dotted(np.array([[60, 60], [75, 60]]))
    added = nucleus_density(donor, 0, 0.5)
    assert added is not None
    reach = added.shape[0] // 2
    assert added[reach, reach].max() > 0.5
    assert added[reach, reach + 11].max() < 0.1
    assert nucleus_density(dotted(np.array([[3, 60]])), 0, 0.5) is None
    assert nucleus_density(replace(donor, image=np.full_like(donor.image, 245)), 0, 0.5) is None


def test_a_share_of_nothing_changes_nothing():
    donor = dotted(np.array([[60, 60]]))
    for share, same in ((0.0, True), (1.0, False)):
        drawn = CopyPasteSource(Fixed(), [donor], share).draw(np.random.default_rng(0), 160, 0.5)
        assert (len(drawn.points) == 0) is same


class Fixed:
    """Draws the same empty canvas."""

    def draw(self, rng, side_px, mpp):  # noqa: ARG002
        return blank(side=side_px)


# ---------------------------------------------------------------- pseudo-labels


@pytest.mark.parametrize("turns", range(4))
def test_points_of_a_turned_image_come_back(turns: int):
    image = np.zeros((30, 50), np.uint8)
    image[7, 40] = 1
    row, column = np.argwhere(np.rot90(image, turns))[0]
    back = _turned_back(np.array([[column + 0.5, row + 0.5]]), turns, (50, 30))
    assert back.tolist() == [[40.5, 7.5]]


def test_sure_nuclei_become_labels_and_doubtful_ones_are_not_trusted():
    model = load_model()
    field = draw_field(3, (256, 256), model.info.mpp, plain_look())
    item = pseudo_labels(model, field.image)
    assert len(item.points) > 20
    assert score_points(field.points, item.points, 3.3 / model.info.mpp).precision > 0.9
    assert item.trusted is not None
    column, row = item.points.astype(int).T
    assert item.trusted[row, column].all()
    assert 0.3 < item.trusted.mean() < 1.0


def test_a_folder_of_images_is_labelled_at_the_models_resolution(tmp_path: Path):
    field = draw_field(3, (160, 120), 0.3, plain_look())
    cv2.imwrite(str(tmp_path / "a.png"), field.image[..., ::-1])
    (item,) = pseudo_folder(load_model(), tmp_path, width_um=48.0)
    mpp = load_model().info.mpp
    assert item.image.shape[:2] == (round(36 / mpp), round(48 / mpp))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no image"):
        pseudo_folder(load_model(), tmp_path / "none")


# ---------------------------------------------------------------- the verb


def test_the_verb_trains_from_the_shipped_model_and_compares(data: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    command = f"train {data} -o {out} --steps 2 --batch-size 2 --workers 0 --check-steps 2"
    assert run([*command.split(), "--copy-paste", "0.5", "--compare"]) == 0
    told = capsys.readouterr()
    for name in ("start", "my-nuclei", "without"):
        assert name in told.out
    assert "step 2: f1" in told.err
    shipped, made = load_model().info, load_model(out / "my-nuclei.safetensors").info
    assert (made.width, made.mpp) == (shipped.width, shipped.mpp)
    # Whoever goes on from a model owes its sources their credit.
    assert set(made.trained_on) == {*shipped.trained_on, "own annotated slides"}
    assert (out / "without" / "my-nuclei.safetensors").is_file()


BETTER = "better than start, use it: nucliseg-qp detect"


@pytest.mark.parametrize(
    ("figures", "advice"),
    [
        ({"start": 0.80, "my-nuclei": 0.70}, "worse than start"),
        ({"start": 0.80, "my-nuclei": 0.81}, "no clear difference from start"),
        ({"start": 0.80, "my-nuclei": 0.79}, "no clear difference from start"),
        ({"start": 0.80, "my-nuclei": 0.82}, BETTER),
        ({"start": 0.80, "my-nuclei": 0.82, "without": 0.83}, "-m two.safetensors"),
        ({"shipped": 0.80, "my-nuclei": 0.00}, "worse than shipped"),
        ({"start": None, "my-nuclei": None}, "no validation tiles"),
    ],
)
def test_a_model_is_recommended_only_where_the_table_says_so(
    tmp_path, monkeypatch, capsys, figures, advice
):
    """The line at the end is what people copy; a gain under 0.02 is noise."""
    models = [Path("one.safetensors"), Path("two.safetensors")]
    rows = [{"model": name} | ({} if f1 is None else {"f1": f1}) for name, f1 in figures.items()]
    monkeypatch.setattr(own, "train_own", lambda how, _: models[how.out.name == "without"])
    monkeypatch.setattr(verdict, "compare_runs", lambda *_: rows)
    extra = ["--compare", "--copy-paste", "0.5"] if "without" in figures else []
    assert run(["train", "data", "-o", str(tmp_path / "out"), *extra]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert advice in said
    assert ("use it" in said) == (figures.get("my-nuclei") == 0.82)


def test_both_models_are_judged_at_thresholds_chosen_the_same_way(data: Path, tmp_path: Path):
    """The new model's own threshold comes from these tiles; the start must not pay for its own."""
    start = load_model()
    made = save_model(tmp_path, start.info.model_copy(update={"name": "cold"}), start.net)
    off = start.info.model_copy(update={"name": "off", "threshold": 0.95})
    how = OwnTraining(out=tmp_path, data=(data,), start=str(save_model(tmp_path, off, start.net)))
    before, after = compare_runs(how, [made])
    assert before["f1"] == after["f1"] > before["f1_at_own"]
    assert (before["own_threshold"], after["own_threshold"]) == (0.95, start.info.threshold)
    assert verdict.verdict([before, after], [made]).word == "no clear difference"


def test_a_model_from_scratch_is_judged_beside_the_shipped_one(data: Path, tmp_path: Path):
    """Beside nothing, one that found nothing was recommended."""
    net = KeypointUNet(8).eval()
    blank = save_model(tmp_path, load_model().info.model_copy(update={"name": "blank"}), net)
    how = OwnTraining(out=tmp_path, data=(data,), start="scratch", width=8)
    figures = compare_runs(how, [blank])
    assert [row["model"] for row in figures] == ["shipped", "blank"]
    assert verdict.verdict(figures, [blank]).word == "worse"


def test_wrong_options_are_named(data: Path, tmp_path: Path, capsys):
    for extra, code, words in (
        (["--synthetic", "1.5"], 2, "--synthetic"),
        (["--width", "8"], 2, "--start scratch"),
        (["--start", "nothing"], 4, "no model is called"),
        (["--check-steps", "0"], 2, "--check-steps 0"),
        (["--resume"], 3, "no checkpoint"),
    ):
        assert run(["train", str(data), "-o", str(tmp_path / "o"), *extra]) == code
        assert words in capsys.readouterr().err
    assert run(["train", str(tmp_path), "-o", str(tmp_path / "o")]) == 3
    assert "data convert" in capsys.readouterr().err


def test_the_shares_follow_the_options(data: Path, tmp_path: Path):
    how = OwnTraining(data=(data,), out=tmp_path, start="scratch", width=8, synthetic=0.4)
    assert fit_settings(how).shares == {"own": 0.6, "synthetic": 0.4}
    more = fit_settings(replace(how, unlabelled=tmp_path)).shares
    assert more is not None
    assert sum(more.values()) == pytest.approx(1.0)
    assert more["pseudo"] == pytest.approx(0.2)


def test_shapes_are_learnt_from_scratch_with_progress_and_else_kept(data: Path, tmp_path: Path):
    how = OwnTraining(data=(data,), out=tmp_path / "a", start="scratch", width=8, synthetic=0.4)
    assert fit_settings(how).radii_steps > 1000
    assert fit_settings(replace(how, start="default", width=None)).radii_steps == 0
    told: list[tuple[int, float, bool]] = []

    class Ear:
        def step(self, step: int, loss: float, share: float, seconds_left: float) -> None:
            told.append((step, share, loss > 0 <= seconds_left))

        def checked(self, step: int, figures: dict[str, float]) -> None:
            pass

    few = replace(fit_settings(how), steps=1, radii_steps=3, batch_size=2)
    path = fit(few, Session(SessionSettings(tmp_path / "a", check_steps=9), Ear()))
    assert told[-3:] == [(1, 1 / 3, True), (2, 2 / 3, True), (3, 1.0, True)]
    assert load_model(path).net.width == 8
