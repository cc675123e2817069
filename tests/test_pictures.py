"""Outlines in pictures: they can be seen whatever lies under them and however small they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nucliseg_qp.nuclei import Nuclei
from nucliseg_qp.pictures.outlines import Outlines, line_px

NEGATIVE, POSITIVE, WEAK = (112, 112, 225), (250, 62, 62), (255, 255, 0)
GROUNDS = {"glass": (244, 244, 244), "pale nucleus": (150, 178, 214), "dark nucleus": (60, 35, 25)}


def square(size_px: float, class_index: int) -> Nuclei:
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * size_px + 20
    return Nuclei(
        x=np.array([20.0]),
        y=np.array([20.0]),
        score=np.ones(1, np.float32),
        ring_xy=corners,
        ring_start=np.array([0, 4]),
        class_index=np.array([class_index], np.int16),
        class_names=("a", "b", "c"),
    )


def drawn(ground: tuple[int, int, int], index: int, scale: float, mpp: float) -> np.ndarray:
    image = np.full((200, 200, 3), ground, np.uint8)
    outlines = Outlines(image, [NEGATIVE, POSITIVE, WEAK], (0, 0), scale)
    outlines.add(square(60, index))
    return outlines.picture(line_px(mpp / scale))


def difference(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Give CIE76: above 20 or so two colours differ at a glance."""
    pixels = np.float32([[one, other]]) / 255
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("scale", [2.0, 0.9, 0.3])
def test_a_line_stands_out_from_what_is_under_it(ground, index, scale):
    below = GROUNDS[ground]
    picture = drawn(below, index, scale, 0.25)
    changed = (picture != below).any(axis=2)
    assert changed.any()
    assert difference(tuple(np.median(picture[changed], axis=0)), below) > 40


@pytest.mark.parametrize(("mpp", "width"), [(0.1, 3), (0.25, 2), (0.8, 1), (8.0, 1)])
def test_lines_are_wide_where_nuclei_are_large(mpp, width):
    assert line_px(mpp) == width
    row = drawn(GROUNDS["glass"], 0, 1.0, mpp)[50]
    assert (row != GROUNDS["glass"]).any(axis=1).sum() == 2 * width


def test_a_nucleus_without_a_class_is_outlined_in_black():
    picture = drawn(GROUNDS["glass"], -1, 1.0, 0.25)
    assert (picture == 0).all(axis=2).any()
