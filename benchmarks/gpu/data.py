"""A training set of invented images in InsightFace's layout, unpacked by the stage itself."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stages import unpack
from stages.datasets import insightface_rec
from stages.runtime import artifacts

NAME = "bench"
EACH = 16
"""Images of each identity."""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, as stages do in a project's."""
    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write(folder: Path, num_images: int) -> None:
    """Write and unpack the training set of a project, with its data set's parameters."""
    with inside(folder):
        if not artifacts.unpacked_folder(NAME).is_dir():
            num_classes = -(-num_images // EACH)
            insightface_rec.write(artifacts.DATA / NAME / "train", images(num_images), num_classes)
            artifacts.write_yaml(artifacts.RESOLVED / "datasets" / f"{NAME}.yaml", {"unpack": {}})
            unpack.main(argparse.Namespace(name=NAME))


def images(count: int) -> Iterator[tuple[bytes, int]]:
    """Yield JPEG images of about 5 kB: a coarse pattern for each identity, under noise."""
    for number in range(count):
        identity = number // EACH
        pattern = np.random.default_rng(identity).integers(40, 216, (7, 7, 3)).astype(np.uint8)
        image_HW3 = cv2.resize(pattern, (112, 112), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noise_HW3 = np.random.default_rng((identity, number)).integers(-12, 13, image_HW3.shape)
        encoded = cv2.imencode(".jpg", (image_HW3 + noise_HW3).clip(0, 255).astype(np.uint8))[1]
        yield encoded.tobytes(), identity
