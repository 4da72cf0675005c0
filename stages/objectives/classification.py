"""Plain classification: the head's loss on one view of each image, what every head's own paper minimises.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel
from torch import Tensor

from stages.core.head import CosineHead, HeadOutput
from stages.core.objective import Backbone, Objective


class Config(BaseModel, extra="forbid", frozen=True):
    """Nothing to choose: head and augmentation say it all."""

    name: Literal["classification"]


class Classification(Objective):
    """The loss of the head on the configured augmentation."""

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return what the head makes of the first view."""
        output: HeadOutput = head(backbone(views[0]), label_B)
        return output


def build(config: Config, feature_dim: int, num_classes: int) -> Classification:
    """Return the objective; it needs to know neither the features nor the classes."""
    return Classification()
