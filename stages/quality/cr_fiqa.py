"""CR-FIQA (CVPR 2023) on a frozen backbone: classifiability of an image, by one layer on its feature.

Higher is better; the paper's target lies in (-1, 1), but the score is unbounded: a ranking, no probability.

The published training fits the layer together with the backbone, by SGD. With the backbone frozen the problem
is convex, so it is solved to its optimum (stages/core/metrics/linear_fit.py). The layer is fitted
to augmented training images, drawn as in the backbone's own training, so that low quality is among them.

Shapes: N images, C classes, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.losses import classifiability
from stages.core.metrics import linear_fit
from stages.core.metrics.linear_score import LinearScorer
from stages.core.metrics.quality import Learned, Material

CHUNK = 4096
"""Images whose cosines with all classes are held at once."""


class Config(BaseModel, extra="forbid", frozen=True):
    """CR-FIQA on a frozen backbone."""

    name: Literal["cr_fiqa"]
    target: classifiability.Form = Field(
        description="what is regressed; paper: CCS/(NNCCS + 1 + eps); code: CCS/NNCCS as released, exploding "
        "where no other class has a positive cosine; vit_fiqa: the authors' later code"
    )
    beta: float = Field(0.5, gt=0, description="where SmoothL1 turns from a square to a line")
    views: int = Field(1, ge=1, description="augmented views of each training image")
    max_images: int = Field(200_000, ge=1, description="no more views than this: the layer has D + 1 weights")
    iterations: int = Field(100, ge=1, description="of L-BFGS, at most")

    def num_images(self, available: int) -> int:
        """Return the number of views of training images it learns from."""
        return min(self.views * available, self.max_images)


def train(config: Config, material: Material) -> Learned:
    """Return the layer that fits the targets best, and fit statistics.

    Raises:
        ValueError: a target is not finite.
    """
    target_N = targets(config, material)
    if not target_N.isfinite().all():
        raise InputError("CR-FIQA's targets are not finite: the backbone's features or class centres are not")
    return linear_fit.fit(material.feature_ND, target_N, config.beta, config.iterations)


def targets(config: Config, material: Material) -> Tensor:
    """Return the target of every image, shape (N,)."""
    centre_CD = functional.normalize(material.centre_CD, dim=1)
    chunks = []
    for begin in range(0, len(material.label_N), CHUNK):
        embedding_BD = functional.normalize(material.feature_ND[begin : begin + CHUNK], dim=1)
        label_B = material.label_N[begin : begin + CHUNK]
        chunks.append(classifiability.target(config.target, embedding_BD @ centre_CD.T, label_B))
    return torch.cat(chunks)


class Scorer(LinearScorer):
    """The fitted layer."""
