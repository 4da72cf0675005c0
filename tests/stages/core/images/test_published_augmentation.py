"""Augmentations against the authors' own code: tests/golden/augmentation.npz, which tests/golden_augmentation.py made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.images import augment, low_view
from tests.golden_augmentation import digest

GOLDEN = np.load(Path(__file__).parents[3] / "golden" / "augmentation.npz")
PIXELS = [name for name in GOLDEN.files if not name.startswith(("picture", "draw_"))]


def made(name: str) -> augment.Image:
    """What we make of the picture with the numbers in the name."""
    image, (author, operation, *numbers) = GOLDEN["picture"], name.split("_")
    if operation == "photometric":
        return augment.jitter(image, [float(number) for number in numbers[1:]], [int(n) for n in numbers[0]])
    values = [float(number) for number in numbers]
    if operation == "crop":
        crop = augment.paste_crop if author == "adaface" else low_view.crop_and_scale
        return crop(image, *map(int, values))
    if operation == "rotate":
        return low_view.rotate(image, values[0])
    if operation == "low":
        down, up = (augment.INTERPOLATIONS[int(i)] for i in values[1:])
        return augment.reduce_resolution(image, values[0], down, up)
    down, up = (low_view.FILTERS[int(i)] for i in values[1:])
    return low_view.rescale(image, values[0], down, up)


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_equal_those_of_the_authors_code_for_the_same_draws(name: str):
    assert np.array_equal(digest(made(name)), GOLDEN[name])


def test_every_operation_of_both_authors_is_held():
    operations = {tuple(name.split("_")[:2]) for name in PIXELS}
    assert operations == {
        ("adaface", "crop"), ("adaface", "low"), ("adaface", "photometric"),
        ("qgface", "rescale"), ("qgface", "crop"), ("qgface", "rotate"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("author", "ranges"),
    [("adaface", ()), ("qgface", (low_view.CROP_AREA, low_view.CROP_ASPECT))],
)
def test_crops_are_distributed_as_those_that_torchvision_drew(author: str, ranges: tuple[tuple[float, float], ...]):
    rng = np.random.default_rng(0)
    box_N4 = np.array([augment.draw_crop(112, 112, rng, *ranges) for _ in range(20_000)])
    top_N, left_N, height_N, width_N = box_N4.T
    for column, value_N in enumerate([height_N, width_N, top_N, left_N, height_N * width_N]):
        for level, theirs in zip(GOLDEN["draw_levels"], GOLDEN[f"draw_{author}"][:, column], strict=True):
            # whole pixels: many draws may equal the quantile. 0.012 is three deviations of 20,000 against 50,000 draws
            assert (value_N < theirs).mean() - 0.012 <= level <= (value_N <= theirs).mean() + 0.012
