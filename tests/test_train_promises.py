"""What a training keeps, refuses and says: logs, interruptions, going on, wrong numbers."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from train_samples import Notes, session, tiny, write_data

from nucliseg_qp.cli import run
from nucliseg_qp.errors import CalibrationError, UsageError
from nucliseg_qp.keypoints.model import DEFAULT_MODEL, ModelInfo, load_model
from nucliseg_qp.training import session as sessions
from nucliseg_qp.training import validate
from nucliseg_qp.training.canvases import Canvas
from nucliseg_qp.training.checkpoint import read_checkpoint
from nucliseg_qp.training.fit import fit
from nucliseg_qp.training.own import fit_settings, train_own
from nucliseg_qp.training.own_settings import NAME, OwnTraining
from nucliseg_qp.training.pseudo import pseudo_folder
from nucliseg_qp.training.validate import Scored

SMALL = ["--start", "scratch", "--width", "8", "--batch-size", "2", "--workers", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "mine")


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last(out: Path) -> dict:
    return read_checkpoint(out / "checkpoints" / "last.ckpt")


# ---------------------------------------------------------------- logs


def test_figures_can_be_read_while_it_trains_and_stay_when_it_goes_on(data: Path, tmp_path: Path):
    """They came at the end only, and those of the first part were deleted by --resume."""
    seen = []

    class Reader(Notes):
        def step(self, *values: float) -> None:
            super().step(*values)
            if values[0] in (11, 13):
                seen.append([int(row["step"]) for row in rows_of(tmp_path)])

    fit(tiny(data, tmp_path, steps=20), session(tmp_path, Reader(), check_steps=12))
    assert seen == [[10], [10, 12]]
    first = rows_of(tmp_path)
    fit(tiny(data, tmp_path, steps=30), session(tmp_path, check_steps=12, resume=True))
    both = rows_of(tmp_path)
    assert [row["loss"] for row in both[: len(first)]] == [row["loss"] for row in first]
    assert [int(row["step"]) for row in both] == [10, 12, 20, 24, 30]


def test_rows_after_the_checkpoint_are_not_there_twice(data: Path, tmp_path: Path):
    """A killed training goes on from its last look: later rows are of steps made again."""
    fit(tiny(data, tmp_path, steps=10), session(tmp_path, check_steps=5))
    with (tmp_path / "logs" / "metrics.csv").open("a") as file:
        file.write("12,0.5\n14,0.")
    fit(tiny(data, tmp_path, steps=20), session(tmp_path, check_steps=5, resume=True))
    steps = [int(row["step"]) for row in rows_of(tmp_path)]
    assert steps == sorted(steps)
    assert not {12, 14} & set(steps)


# ---------------------------------------------------------------- going on


def test_a_learning_rate_and_a_batch_that_were_found_are_kept(data: Path, tmp_path, monkeypatch):
    """The schedule went on under the rate nobody had chosen."""

    def found(_, module, crops):
        module.learning_rate, crops.batch_size = 4e-3, 3

    monkeypatch.setattr(sessions, "find_learning_rate", found)
    fit(tiny(data, tmp_path, steps=4), session(tmp_path, find_learning_rate=True))
    monkeypatch.undo()
    fit(tiny(data, tmp_path, steps=40, learning_rate=1e-2), session(tmp_path, resume=True))
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path) if row["learning_rate"]]
    assert len(rates) == 4
    assert max(rates) == pytest.approx(4e-3, rel=0.05)
    assert last(tmp_path)["session"]["batch_size"] == 3


def judged_as(monkeypatch: pytest.MonkeyPatch, *f1: float) -> list[dict[str, torch.Tensor]]:
    """Make looks find these F1, and give the list their weights go into."""
    scores, states = iter([*f1, f1[-1], f1[-1]]), []

    def judged(model, _):
        states.append({k: v.clone() for k, v in model.net.state_dict().items()})
        return 0.4, {"own_f1": next(scores)}

    monkeypatch.setattr(sessions, "choose_threshold", judged)
    return states


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_best_look_is_kept_also_when_the_steps_end_it(data: Path, tmp_path, monkeypatch):
    """With --patience 3 the looks .453 .712 .921 .912 saved the last."""
    states = judged_as(monkeypatch, 0.453, 0.712, 0.921, 0.912)
    path = fit(tiny(data, tmp_path, steps=8), session(tmp_path, check_steps=2, patience=3))
    assert same(load_model(path).net.state_dict(), states[2])


def test_the_last_weights_get_a_look_before_they_are_left(data: Path, tmp_path, monkeypatch):
    states = judged_as(monkeypatch, 0.5, 0.6)
    path = fit(tiny(data, tmp_path, steps=7), session(tmp_path, check_steps=5, patience=3))
    assert len(states) == 2
    assert same(load_model(path).net.state_dict(), states[1])


def test_patience_goes_on_counting_and_remembers_the_best(data: Path, tmp_path, monkeypatch):
    states = judged_as(monkeypatch, 0.5, 0.9, 0.6)
    fit(tiny(data, tmp_path, steps=6), session(tmp_path, check_steps=2, patience=3))
    judged_as(monkeypatch, 0.7, 0.8)
    notes, on = Notes(), {"check_steps": 2, "patience": 3, "resume": True}
    path = fit(tiny(data, tmp_path, steps=40), session(tmp_path, notes, **on))
    assert notes.checks == [8, 10], "one look was there since the best"
    assert same(load_model(path).net.state_dict(), states[1])
    again = Notes()
    fit(tiny(data, tmp_path, steps=40), session(tmp_path, again, **on))
    assert again.steps == [], "it had ended"


def own(data: Path, out: Path, **changes) -> OwnTraining:
    given = OwnTraining(
        out=out, data=(data,), start="scratch", width=8, steps=2, batch_size=2, workers=0
    )
    return replace(given, **changes)


@pytest.fixture
def short(monkeypatch):
    """Leave out the minutes of shapes that come after a training from scratch."""
    monkeypatch.setattr("nucliseg_qp.training.own.RADII_STEPS", 1, raising=False)
    monkeypatch.setattr("nucliseg_qp.training.own.SCRATCH_RADII_STEPS", 1, raising=False)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 3}, "--batch-size 2, not 3"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"mpp": 0.6}, "--mpp 0.55, not 0.6"),
        ({"width": 16}, "--width 8, not 16"),
        ({"start": "default", "width": None}, f"--start scratch, not {DEFAULT_MODEL}"),
        ({"data": ()}, "data of sha256"),
    ],
)
def test_going_on_with_something_else_is_refused_in_one_line(
    data: Path, tmp_path: Path, change, words
):
    """Its description said the pixel size of the new option for a net trained at another."""
    path = train_own(own(data, tmp_path / "o"))
    described = path.with_suffix(".toml").read_bytes()
    if "data" in change:
        other = tmp_path / "other"
        other.mkdir()
        for name in ("train.json", "images"):
            (other / name).symlink_to(data / name)
        change = {"data": (other,)}
    with pytest.raises(UsageError, match=re.escape(words)) as told:
        train_own(replace(own(data, tmp_path / "o", steps=4, resume=True), **change))
    assert "\n" not in str(told.value)
    assert path.with_suffix(".toml").read_bytes() == described
    assert not (tmp_path / "o" / "start").exists()
    train_own(own(data, tmp_path / "o", steps=4, patience=2, resume=True))
    assert last(tmp_path / "o")["global_step"] == 4


@pytest.mark.usefixtures("short")
def test_a_folder_with_a_training_is_not_trained_over(data: Path, tmp_path, capsys):
    out = tmp_path / "r1"
    command = ["train", str(data), "-o", str(out), *SMALL, "--steps", "2"]
    assert run(command) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(command) == 6
    said = capsys.readouterr().err
    assert "--resume" in said
    assert "another folder" in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert run([*command, "--resume"]) == 0


def test_nothing_is_left_of_a_training_that_cannot_go_on(data: Path, tmp_path, capsys):
    assert run(["train", str(data), "-o", str(tmp_path / "o"), "--resume"]) == 3
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("check_steps", [2, 100_000])
def test_an_interrupted_training_says_how_it_goes_on(data: Path, tmp_path, sent, check_steps):
    """Ctrl+C was exit code 1 and no word; SIGTERM advised what began anew and overwrote."""
    out = tmp_path / "o"
    command = ["train", str(data), "-o", str(out), *SMALL, "--check-steps", str(check_steps)]
    program = "from nucliseg_qp.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        until = time.monotonic() + 120
        waited_for = "checkpoints/last.ckpt" if check_steps == 2 else "logs/metrics.csv"
        while not (out / waited_for).exists() or not (out / waited_for).stat().st_size:
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(sent)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    last_line = " ".join(said.split()).rpartition("interrupted.")[2]
    assert ("--resume" in last_line) == (check_steps == 2)
    assert "Traceback" not in said


# ---------------------------------------------------------------- what steers


@pytest.mark.parametrize(("own_nuclei", "threshold"), [(60, 0.2), (10, 0.8)])
def test_own_tiles_alone_choose_the_threshold_where_they_are_enough(
    monkeypatch, own_nuclei, threshold
):
    """Half of what patience and threshold looked at was painted."""
    blank = np.full((128, 128, 4), 255, np.uint8)
    some = np.random.default_rng(0).uniform(20, 108, (own_nuclei, 2)).astype(np.float32)

    def found(_, canvases):
        """Find own nuclei with 0.3 only, and on painted fields nothing but what is not there."""
        scored = Scored()
        for canvas in canvases:
            points = canvas.points.astype(float)
            scores = np.column_stack([points, np.full(len(points), 0.3)])
            scored.truths.append(points if len(points) else np.full((1, 2), 60.0))
            scored.founds.append(scores if len(points) else PAINTED)
            scored.sizes_px.append((128, 128))
        return scored

    monkeypatch.setattr(validate, "_run", found)
    monkeypatch.setattr(validate, "_THRESHOLDS", np.array([0.2, 0.8]))
    fields = {
        "own": [Canvas(blank, some)],
        "synthetic": [Canvas(blank, some[:0])],
        "recoloured": [Canvas(blank, some[:0])],
        "fluorescence": [Canvas(blank, some[:0])],
    }
    assert validate.choose_threshold(load_model(), fields)[0] == threshold


PAINTED = np.array([[60.0, 60.0, 0.9], *([[20.0 + 20 * i, 100.0, 0.35] for i in range(4)])])


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    "wrong",
    [
        "--minutes nan",
        "--minutes 0",
        "--learning-rate -1",
        "--learning-rate nan",
        "--learning-rate 1000",
        "--workers -1",
        "--seed -1",
        "--mpp -1",
        "--mpp 0",
        "--mpp 30",
        "--mpp nan",
        "--width 3",
        "--name a/b",
        "--name mödel x",
        "--unlabelled-um -5",
    ],
)
def test_a_number_that_makes_no_sense_is_named_before_anything_is_done(
    data: Path, tmp_path, capsys, wrong
):
    option, _, value = wrong.partition(" ")
    extra = ["--start", "scratch"] if option == "--width" else []
    out = tmp_path / "o"
    assert run(["train", str(data), "-o", str(out), f"{option}={value}", *extra]) == 2
    said = capsys.readouterr().err
    assert option in said
    assert "Traceback" not in said
    assert not out.exists()


def test_the_name_that_is_allowed_is_that_of_a_description():

    [rule] = [
        one.pattern for one in ModelInfo.model_fields["name"].metadata if hasattr(one, "pattern")
    ]
    assert rule == f"^{NAME.pattern}$"


def test_another_pixel_size_teaches_shapes_anew(data: Path, tmp_path: Path):
    """The network tells radii in its pixels: at another size they were of other nuclei."""
    like = OwnTraining(data=(data,), out=tmp_path)
    same_size, other = fit_settings(like), fit_settings(replace(like, mpp=0.75))
    assert (same_size.radii_steps, same_size.mpp) == (0, 0.55)
    assert other.radii_steps > 1000
    assert other.sigma_px * 0.75 == pytest.approx(same_size.sigma_px * 0.55)
    assert other.nms_radius_px * 0.75 == pytest.approx(same_size.nms_radius_px * 0.55)


def test_compare_with_nothing_to_leave_out_is_refused(data: Path, tmp_path, capsys):
    assert run(["train", str(data), "-o", str(tmp_path / "o"), "--compare"]) == 2
    assert "--copy-paste or --unlabelled" in capsys.readouterr().err


def test_images_without_a_size_are_told_with_an_option_that_there_is(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 100, 3), 240, np.uint8))
    with pytest.raises(CalibrationError, match="--unlabelled-um") as told:
        pseudo_folder(load_model(), tmp_path)
    assert "--slide-mpp" not in str(told.value)
    with pytest.raises(UsageError, match="--unlabelled-um"):
        pseudo_folder(load_model(), tmp_path, width_um=1.0)


def test_a_search_writes_nothing_where_somebody_happens_to_be(data: Path, tmp_path, monkeypatch):
    """A kill left .lr_find_*.ckpt there."""
    from lightning.pytorch import Trainer

    written = []
    save = Trainer.save_checkpoint

    def saved(trainer, path, *rest, **more):
        written.append(Path(path).absolute())
        save(trainer, path, *rest, **more)

    monkeypatch.setattr(Trainer, "save_checkpoint", saved)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out = tmp_path / "o"
    fit(tiny(data, out, steps=2), session(out, find_learning_rate=True))
    assert any("lr_find" in path.name for path in written)
    assert all(out in path.parents for path in written)


def test_nobody_is_given_a_licence_that_nobody_chose(data: Path, tmp_path: Path):
    like = OwnTraining(data=(data,), out=tmp_path)
    assert fit_settings(replace(like, start="scratch")).licence == "unspecified"
    assert f"{DEFAULT_MODEL} (CC-BY-4.0)" in fit_settings(like).licence
