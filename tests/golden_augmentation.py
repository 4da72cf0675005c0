"""Writes tests/golden/augmentation.npz with the authors' code: pixels and draws of the published augmentations.

    PYTHON tests/golden_augmentation.py ADAFACE QGFACE

PYTHON has mxnet, torchvision and what they want (docs/training-data.md says how), ADAFACE and QGFACE are checkouts of
mk-minchul/AdaFace at c60eaa78 and IsidoreSong/QGFace at 778aa5ef. Nothing of them is copied: their functions are
called, with the numbers that they would draw given.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import cv2
import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "augmentation.npz"
NUM_DRAWS = 50_000
LEVELS = np.linspace(0.02, 0.98, 25)


def picture() -> np.ndarray:
    """A smooth picture with a little noise: all levels, edges and texture."""
    rng = np.random.default_rng(12)
    coarse = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC).astype(int)
    return (smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


def load(checkout: str, module: str) -> ModuleType:
    """Import a module of one checkout; both call their package `dataset`."""
    for name in [name for name in sys.modules if name.split(".")[0] == "dataset"]:
        del sys.modules[name]
    with mock.patch.object(sys, "path", [checkout, *sys.path]):
        return importlib.import_module(module)


def adaface(checkout: str, image: Any) -> dict[str, np.ndarray]:
    """Return the output of AdaFace's Augmenter for the picture."""
    augmenter = load(checkout, "dataset.augmenter").Augmenter(1, 1, 1)
    made = {}
    with mock.patch.object(augmenter.random_resized_crop, "get_params", return_value=(13, 30, 70, 61)):
        made["adaface_crop_13_30_70_61"] = np.array(augmenter.crop_augment(image)[0])
    codes = [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]
    for side, down, up in [(0.21, 0, 1), (0.37, 1, 2), (0.5, 2, 3), (0.63, 3, 4), (0.98, 4, 0)]:
        with ExitStack() as stack:
            stack.enter_context(mock.patch("numpy.random.uniform", return_value=side))
            stack.enter_context(mock.patch("numpy.random.choice", mock.Mock(side_effect=[codes[down], codes[up]])))
            made[f"adaface_low_{side}_{down}_{up}"] = augmenter.low_res_augmentation(np.array(image))[0]
    for order, factors in [("012", (0.6, 1.4, 0.55)), ("210", (1.5, 0.5, 1.5)), ("120", (1.23, 0.87, 1.31))]:
        drawn = ([*map(int, order), 3], *factors, None)
        with mock.patch.object(augmenter.photometric, "get_params", return_value=drawn):
            name = f"adaface_photometric_{order}_" + "_".join(map(str, factors))
            made[name] = np.array(augmenter.photometric_augmentation(image))
    return made


def qgface(checkout: str, image: Any) -> dict[str, np.ndarray]:
    """Return the outputs of the parts of QGFace's L view for the picture."""
    from torchvision import transforms

    record_dataset = load(checkout, "dataset.record_dataset")
    rescale = record_dataset.RandomRescale(original_size=112, scale=(0.1, 0.5), is_jpeg=True, quality=75)
    made = {}
    for side, down, up in [(0.11, 0, 1), (0.2, 1, 2), (0.3, 2, 3), (0.4, 3, 4), (0.49, 4, 0)]:
        filters = [rescale.interpolation_lis[i] for i in (down, up)]
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(rescale, "get_params", return_value=int(side * 112)))
            stack.enter_context(mock.patch("numpy.random.choice", mock.Mock(side_effect=filters)))
            made[f"qgface_rescale_{side}_{down}_{up}"] = np.array(rescale(image))
    crop = transforms.RandomResizedCrop(size=(112, 112), scale=(0.8, 1.0), ratio=(0.75, 1.33))
    with mock.patch.object(crop, "get_params", return_value=(3, 5, 100, 95)):
        made["qgface_crop_3_5_100_95"] = np.array(crop(image))
    turn = transforms.RandomRotation(degrees=45)
    for angle in (-44.0, -0.3, 17.25):
        with mock.patch.object(turn, "get_params", return_value=angle):
            made[f"qgface_rotate_{angle}"] = np.array(turn(image))
    return made


def draws(image: Any) -> dict[str, np.ndarray]:
    """Return quantiles of the crops that torchvision draws: height, width, top and left."""
    from torchvision import transforms

    made = {"draw_levels": LEVELS}
    for name, area, ratio in [
        ("adaface", (0.2, 1.0), (0.75, 1.3333333333333333)),
        ("qgface", (0.8, 1.0), (0.75, 1.33)),
    ]:
        box_N4 = [transforms.RandomResizedCrop.get_params(image, area, ratio) for _ in range(NUM_DRAWS)]
        top_N, left_N, height_N, width_N = np.array(box_N4).T
        columns = np.stack([height_N, width_N, top_N, left_N, height_N * width_N], axis=1)
        made[f"draw_{name}"] = np.quantile(columns, LEVELS, axis=0)
    return made


def digest(image_HW3: np.ndarray) -> np.ndarray:
    """Return every third pixel in both directions and, in one more row, sums that change with any other pixel."""
    weight_HW = 1 + np.arange(112 * 112, dtype=np.uint64).reshape(112, 112) % 251
    sum_3 = (image_HW3 * weight_HW[:, :, None]).sum(axis=(0, 1), dtype=np.uint64)
    return np.concatenate([image_HW3[::3, 1::3].reshape(-1, 3).astype(np.uint64), sum_3[None]]).astype(np.uint32)


def main() -> None:
    """Write the golden file."""
    import torch
    from PIL import Image

    runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "official_adaface.py"))["with_torchvision"]()

    torch.manual_seed(0)
    image = Image.fromarray(picture())
    pixels = {**adaface(sys.argv[1], image), **qgface(sys.argv[2], image)}
    arrays = {"picture": picture(), **{name: digest(made) for name, made in pixels.items()}, **draws(image)}
    np.savez_compressed(GOLDEN, **arrays)  # type: ignore[arg-type]
    print(f"{GOLDEN}: {len(arrays)} arrays, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
