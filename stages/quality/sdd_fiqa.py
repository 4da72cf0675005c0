"""SDD-FIQA (Ou et al., CVPR 2021) on a frozen backbone: distance between genuine and impostor cosines of an image.

An image's pseudo-label is the Wasserstein distance between the cosines with images of its own identity and those with
images of others, each time `pairs` of them drawn at random, the mean over `rounds` drawings; no class centre is used.
The defaults of 24 pairs and 12 rounds are at second hand: no code of the authors could be held against them.
Labels are brought to 0 to 100 by their least and greatest, as published, and one layer is fitted to them on the
feature (published: the whole network is trained on, by a Huber loss; here the backbone stays frozen).

Higher is better; about 0 to 100 on images as in training, unbounded elsewhere. A class of one image has no label and
teaches nothing. Where an identity has fewer than `pairs` other images, all of them count, and as many of others.

Shapes: N images, R images of one class, P pairs, D feature dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional

from stages.core.errors import InputError
from stages.core.metrics import linear_fit
from stages.core.metrics.linear_score import LinearScorer
from stages.core.metrics.quality import Learned, Material


class Config(BaseModel, extra="forbid", frozen=True):
    """Settings of the labels and of the fitted layer."""

    name: Literal["sdd_fiqa"]
    pairs: int = Field(24, ge=1, description="m: cosines of each kind in a drawing")
    rounds: int = Field(12, ge=1, description="K: drawings an image's label is the mean of")
    seed: int = Field(0, ge=0, description="of the drawings")
    beta: float = Field(1.0, gt=0, description="where SmoothL1 turns from a square to a line, of 100")
    views: int = Field(1, ge=1, description="augmented views of each training image")
    max_images: int = Field(200_000, ge=1, description="no more views than this: the layer has D + 1 weights")
    iterations: int = Field(100, ge=1, description="of L-BFGS, at most")

    def num_images(self, available: int) -> int:
        """Return the number of views of training images it learns from."""
        return min(self.views * available, self.max_images)


def train(config: Config, material: Material) -> Learned:
    """Return the layer that fits the labels best, and fit statistics.

    Raises:
        ValueError: fewer than two labels differ, or the features are not finite.
    """
    if not material.feature_ND.isfinite().all():
        raise InputError("SDD-FIQA's labels are not finite: the backbone's features are not")
    label_N = labels(config, material)
    has_N = label_N.isfinite()
    known_N = label_N[has_N]
    if not len(known_N) or known_N.min() == known_N.max():
        raise InputError(
            f"SDD-FIQA needs two identities with two images each, and labels that differ; "
            f"got {len(known_N)} labels of {len(label_N)} images"
        )
    scaled_N = 100 * (known_N - known_N.min()) / (known_N.max() - known_N.min())
    learned = linear_fit.fit(material.feature_ND[has_N], scaled_N, config.beta, config.iterations)
    return replace(learned, metrics={**learned.metrics, "labelled": int(has_N.sum())})


def labels(config: Config, material: Material) -> Tensor:
    """Return the unscaled label of every image, in [0, 2], shape (N,); NaN in classes of one image."""
    generator = torch.Generator().manual_seed(config.seed)
    order_N = torch.argsort(material.label_N, stable=True)
    embedding_ND = functional.normalize(material.feature_ND[order_N], dim=1)
    label_N = torch.full((len(order_N),), torch.nan)
    begin = 0
    for num in torch.unique_consecutive(material.label_N[order_N], return_counts=True)[1].tolist():
        num_pairs = min(config.pairs, num - 1, len(order_N) - num)
        if num_pairs:
            drawn = [_draw(embedding_ND, begin, num, num_pairs, generator) for _ in range(config.rounds)]
            label_N[order_N[begin : begin + num]] = torch.stack(drawn).mean(dim=0)
        begin += num
    return label_N


def _draw(embedding_ND: Tensor, begin: int, num: int, num_pairs: int, generator: torch.Generator) -> Tensor:
    """Return the distances of one random draw for a class that begins at ``begin``, shape (R,)."""
    own_RD = embedding_ND[begin : begin + num]
    # an image's partners of its class: a random order of all, itself last
    key_RR = torch.rand(num, num, generator=generator).fill_diagonal_(2.0)
    own_RP = key_RR.argsort(dim=1)[:, :num_pairs]
    other_RP = torch.randint(len(embedding_ND) - num, (num, num_pairs), generator=generator)
    other_RP = other_RP + num * (other_RP >= begin)
    intra_RP = (own_RD @ own_RD.T).gather(1, own_RP)
    inter_RP = torch.einsum("rd,rpd->rp", own_RD, embedding_ND[other_RP])
    return wasserstein(intra_RP, inter_RP)


def wasserstein(first_RP: Tensor, second_RP: Tensor) -> Tensor:
    """Return the Wasserstein distance between two samples of equal size, row by row, shape (R,).

    >>> wasserstein(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]]))
    tensor([0.2500])
    """
    return (first_RP.sort(dim=1).values - second_RP.sort(dim=1).values).abs().mean(dim=1)


class Scorer(LinearScorer):
    """The fitted layer."""
