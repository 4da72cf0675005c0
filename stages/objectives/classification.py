"""Plain classification: the head's loss on one view of each image, as in every head's own paper.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel
from torch import Tensor

from stages.core.losses.head import CosineHead, HeadOutput
from stages.core.losses.objective import Backbone, Objective


class Config(BaseModel, extra="forbid", frozen=True):
    """No settings: head and augmentation define everything."""

    name: Literal["classification"]


class Classification(Objective):
    """The loss of the head on the configured augmentation."""

    needs_centres = False

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the head's output for the first view."""
        output: HeadOutput = head(backbone(views[0]), label_B)
        return output


def build(config: Config, feature_dim: int, num_classes: int) -> Classification:
    """Return the objective; it depends neither on the feature dimension nor on the number of classes."""
    return Classification()
