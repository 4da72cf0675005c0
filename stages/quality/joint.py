"""Quality layer that the run's objective trained together with the backbone: CR-FIQA or IG-FIQA as published.

Higher is better; unbounded, a ranking and no probability. Nothing is trained here: the layer comes with the backbone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from stages.core.errors import InputError
from stages.core.metrics.linear_score import LinearScorer
from stages.core.metrics.quality import Learned, Material


class Config(BaseModel, extra="forbid", frozen=True):
    """No settings: the objective defines everything."""

    name: Literal["joint"]

    def num_images(self, available: int) -> int:
        """Return the number of training images it learns from: none."""
        return 0


def train(config: Config, material: Material) -> Learned:
    """Return the layer that was trained with the backbone.

    Raises:
        ValueError: the run's objective trains none.
    """
    if material.layer is None:
        raise InputError(
            "the quality method `joint` needs a run whose objective learns quality: train.objective.name cr_fiqa or "
            "ig_fiqa; for an already trained backbone use the method cr_fiqa"
        )
    return Learned(dict(material.layer))


class Scorer(LinearScorer):
    """The layer."""
