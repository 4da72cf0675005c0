"""No-reference quality: 100 - BRISQUE (Mittal et al., IEEE TIP 2012), the naturalness of local contrasts.

Higher is better; BRISQUE runs from 0 (natural) to about 100, so that the score does from about 0 to 100, and may leave
both ends: it is not cut, which would make equals of images that are not. It looks at the image and knows nothing of
faces. Its support vectors are those of the package brisque 0.2.0, of which no code is run (stages/io/brisque_model.py).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel

from stages.core.images import brisque
from stages.core.metrics.features import Features, Floats, Image
from stages.core.metrics.quality import Learned, Material, read_options, seen
from stages.io import brisque_model


class Config(BaseModel, extra="forbid", frozen=True):
    """No settings."""

    name: Literal["brisque"] = "brisque"

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return nothing: BRISQUE was trained by its authors.

    Raises:
        FileNotFoundError: the package with its numbers is not installed.
    """
    brisque_model.installed()
    return Learned()


class Scorer:
    """Scores images by 100 - BRISQUE."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.folder = brisque_model.installed()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a run.

        Raises:
            FileNotFoundError: the package with its numbers is not installed.
        """
        return cls(read_options(folder, Config, "brisque"))

    @cached_property
    def regression(self) -> brisque.Regression:
        """BRISQUE's numbers, read with the first image."""
        return brisque_model.read(self.folder)

    def look(self, image_HW3: Image) -> float:
        """Return 100 - BRISQUE."""
        return 100 - self.regression.score(brisque.features(image_HW3))

    def score(self, features: Features) -> Floats:
        """Return score_N, computed while the images were embedded."""
        return seen(features, "brisque")
