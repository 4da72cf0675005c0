"""Colour order and value range: what is declared is what the network sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.core.images.pixels import from_rows, to_network


def red_image() -> torch.Tensor:
    """A pure red image as OpenCV holds it: blue, green, red."""
    image_BHW3 = torch.zeros(1, 112, 112, 3, dtype=torch.uint8)
    image_BHW3[..., 2] = 255
    return image_BHW3


@pytest.mark.parametrize(("order", "seen"), [("BGR", [-1.0, -1.0, 1.0]), ("RGB", [1.0, -1.0, -1.0])])
def test_red_reaches_the_network_where_it_is_declared(order: str, seen: list[float]):
    image_B3HW = to_network(from_rows(red_image()), order)
    assert image_B3HW.shape == (1, 3, 112, 112)
    assert image_B3HW[0, :, 5, 7].tolist() == seen


def test_values_are_exactly_the_published_formula():
    level = np.arange(256, dtype=np.uint8)
    image_B3HW = torch.from_numpy(np.broadcast_to(level[None, None, None], (1, 3, 1, 256)).copy())
    wanted = (level.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    assert np.array_equal(to_network(image_B3HW, "BGR")[0, 0, 0].numpy(), wanted)


def test_the_bytes_given_stay_as_they_are_and_strides_are_kept():
    image_BHW3 = red_image()
    image_B3HW = to_network(from_rows(image_BHW3), "BGR")
    assert torch.equal(image_BHW3, red_image())
    assert image_B3HW.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("value_range", "wanted"),
    [((0.0, 1.0), [0.0, 1.0]), ((-1.0, 1.0), [-1.0, 1.0]), ((-127.5 * 0.0078125, 127.5 * 0.0078125), [-0.99609375, 0.99609375])],
)
def test_black_and_white_are_the_ends_of_the_declared_range(value_range: tuple[float, float], wanted: list[float]):
    image_B3HW = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 1, 1)
    made_B3HW = to_network(image_B3HW, "BGR", value_range)
    assert made_B3HW[:, 0, 0, 0].tolist() == pytest.approx(wanted, abs=1e-7)
