"""An exported model gives the same heatmaps, or it is not written."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nucliseg_qp.cli import run
from nucliseg_qp.errors import ModelError
from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.training import export
from nucliseg_qp.training.export import OPSET, TOLERANCE, check_tiles, export_model

if TYPE_CHECKING:
    from pathlib import Path


def wanted(image: np.ndarray) -> np.ndarray:
    """Give the heatmap as the program itself computes it in float32."""
    from nucliseg_qp.keypoints.runtime import KeypointRunner, pick_device

    runner = KeypointRunner(load_model(), pick_device("cpu"), "float32")
    return torch.sigmoid(runner.logits(image[None])).numpy()


def scaled(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255


def test_onnx_gives_the_heatmaps_of_the_program_at_any_size(tmp_path: Path):
    import onnx
    import onnxruntime

    done = export_model(load_model(), tmp_path, "onnx")
    assert done.difference <= TOLERANCE
    graph = onnx.load(str(done.path))
    assert [entry.version for entry in graph.opset_import] == [OPSET]
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert float(facts["threshold"]) == load_model().info.threshold
    session = onnxruntime.InferenceSession(str(done.path))
    for image in check_tiles():
        found = session.run(None, {"image": scaled(image)})[0]
        assert found.max() > 0.5
        np.testing.assert_allclose(found, wanted(image), atol=TOLERANCE)


def test_torchscript_gives_the_heatmaps_of_the_program(tmp_path: Path):
    done = export_model(load_model(), tmp_path, "torchscript")
    facts = {"mpp": ""}
    loaded = torch.jit.load(str(done.path), _extra_files=facts)
    assert float(facts["mpp"]) == load_model().info.mpp
    for image in check_tiles():
        found = loaded(torch.from_numpy(scaled(image))).detach().numpy()
        np.testing.assert_allclose(found, wanted(image), atol=TOLERANCE)


@pytest.mark.parametrize("form", ["onnx", "torchscript", "safetensors"])
def test_the_description_lies_beside_every_format(tmp_path: Path, form: str):
    info = load_model().info
    export_model(load_model(), tmp_path, form)
    described = tomllib.loads((tmp_path / f"{info.name}.toml").read_text())
    assert described["threshold"] == info.threshold
    assert len(list(tmp_path.iterdir())) == 2


def test_safetensors_can_be_loaded_again(tmp_path: Path):
    done = export_model(load_model(), tmp_path, "safetensors")
    again = load_model(done.path)
    assert again.info == load_model().info
    for name, tensor in load_model().net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name])


def test_a_file_that_gives_something_else_is_removed(tmp_path: Path, monkeypatch):
    write = export._write_torchscript

    def wrong(model, out):
        path, run = write(model, out)
        return path, lambda image: run(image) + np.float32(0.001)

    monkeypatch.setattr(export, "_write_torchscript", wrong)
    with pytest.raises(ModelError, match=r"differ by 0\.001"):
        export_model(load_model(), tmp_path, "torchscript")
    assert not list(tmp_path.glob("*.pt"))


def test_the_verb_exports_and_says_how_close_it_is(tmp_path: Path, capsys):
    assert run(["export", "default", "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out.strip().endswith(".onnx")
    assert "on 3 tiles" in told.err
    assert run(["export", str(tmp_path / "none.safetensors"), "-o", str(tmp_path)]) == 4
