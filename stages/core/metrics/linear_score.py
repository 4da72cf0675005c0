"""Quality scorer of one linear layer on the feature, as stored in files.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.metrics.features import Features, Floats


class LinearScorer:
    """The fitted layer; higher is better, unbounded."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.layer = nn.Linear(weights["weight"].shape[1], 1)
        self.layer.load_state_dict(dict(weights))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the scorer of a trained run.

        Raises:
            FileNotFoundError: the folder holds no ``weights.pt``.
        """
        path = folder / "weights.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the stage train_quality writes it; run `dvc repro`")
        return cls(torch.load(path, map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def score(self, features: Features) -> Floats:
        """Return score_N from each image's own feature, without its flip."""
        score_N: Tensor = self.module()(torch.from_numpy(features.feature_ND))
        return score_N.numpy().astype(np.float32)

    def module(self) -> nn.Module:
        """Return the scorer as a network, feature_ND -> score_N, to be exported behind the backbone."""
        return nn.Sequential(self.layer, nn.Flatten(0))
