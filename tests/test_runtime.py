"""What runs the network: the same nuclei whatever it is, and a clear word when it is not there."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from nucliseg_qp.config import load_settings
from nucliseg_qp.errors import UsageError
from nucliseg_qp.images.slide import open_slide
from nucliseg_qp.keypoints.fused import FusedNet, can_fuse
from nucliseg_qp.keypoints.model import load_model
from nucliseg_qp.keypoints.runtime import Device, KeypointRunner, pick_device
from nucliseg_qp.keypoints.unet import KeypointUNet


@pytest.fixture(scope="module")
def images(small_slide):
    with open_slide(small_slide) as slide:
        return np.stack([slide.read_region((x, 40), 0, (320, 256)) for x in (0, 500)])


def test_onnx_runtime_finds_the_nuclei_torch_finds(images):
    pytest.importorskip("onnxruntime")
    cpu = pick_device("cpu")
    torch_one = KeypointRunner(load_model(), cpu, "float32", threads=1)
    onnx_one = KeypointRunner(load_model(), cpu, threads=1, runtime="onnx")
    assert (onnx_one.runtime, onnx_one.precision) == ("onnx", "float32")
    for wanted, found in zip(torch_one.detect(images), onnx_one.detect(images), strict=True):
        assert len(wanted) > 20
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_auto_is_torch_and_says_so():
    runner = KeypointRunner(load_model(), pick_device("cpu"))
    assert runner.runtime == "torch"


def test_an_unknown_runtime_is_named():
    with pytest.raises(UsageError, match=r"keypoints\.runtime = 'tensorrt'"):
        load_settings(None, {"keypoints": {"runtime": "tensorrt"}})
    with pytest.raises(UsageError, match="tensorrt"):
        KeypointRunner(load_model(), pick_device("cpu"), runtime="tensorrt")


@pytest.mark.parametrize(
    ("device", "precision", "seen"),
    [(pick_device("cpu"), "bfloat16", "bfloat16"), (Device("cuda:0", "a GPU"), "auto", "cuda:0")],
    ids=["bfloat16", "GPU"],
)
def test_onnx_never_quietly_does_something_else(device, precision, seen):
    with pytest.raises(UsageError, match=seen):
        KeypointRunner(load_model(), device, precision, runtime="onnx")


def test_missing_onnx_runtime_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="not installed") as error:
        KeypointRunner(load_model(), pick_device("cpu"), runtime="onnx")
    assert "pip install" in str(error.value)


REUSE = """
import resource, sys
import numpy as np
from nucliseg_qp.keypoints.allocator import keep_freed_memory
if not keep_freed_memory():
    sys.exit(9)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def test_freed_memory_is_used_again_without_page_faults():
    done = subprocess.run([sys.executable, "-c", REUSE], capture_output=True, text=True)
    if done.returncode == 9:
        pytest.skip("not glibc")
    # 80 MB are 19,532 pages of 4 KB each time when they are given back.
    assert int(done.stdout) < 2000, done.stderr


@pytest.mark.parametrize("depth", [1, 3])
def test_the_fused_network_gives_the_maps_of_the_plain_one(depth):
    if not can_fuse():
        pytest.skip("this build of torch has no oneDNN")
    torch.manual_seed(depth)
    net = KeypointUNet(8, depth).eval()
    mean, std = (0.9, 0.5, 1.0), (0.25, 0.5, 0.3)
    pixels = torch.randint(0, 256, (2, 3, 72, 104), dtype=torch.uint8)
    fused = FusedNet(net.folded(), mean, std, torch.float32)
    x = (pixels / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    with torch.inference_mode():
        for found, wanted in zip(fused(pixels), net.maps(x), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_without_fused_convolutions_the_same_nuclei_are_found(images, monkeypatch):
    cpu = pick_device("cpu")
    fast = KeypointRunner(load_model(), cpu, "float32").detect(images)
    monkeypatch.setattr("nucliseg_qp.keypoints.fused.can_fuse", lambda: False)
    plain = KeypointRunner(load_model(), cpu, "float32").detect(images)
    for wanted, found in zip(plain, fast, strict=True):
        assert len(wanted) > 20
        np.testing.assert_allclose(found, wanted, atol=1e-3)
