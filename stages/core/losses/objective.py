"""Base of training objectives: the views of an image that they need, and the loss on backbone and head.

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from stages.core.losses.head import CosineHead, HeadOutput

Backbone = Callable[[Tensor], Tensor]
"""Maps image_B3HW to feature_BD float32, un-normalised; it handles precision and processes itself."""


class Objective(nn.Module, ABC):
    """A loss over backbone and head; its own parameters and buffers are trained and checkpointed too."""

    views: tuple[str, ...] = ("training",)
    """Of each image, in the order ``forward`` gets them: training, clean, high, low (stages/training/dataset.py)."""

    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Context in which a further backbone computes as the trained one does; set when training starts."""

    needs_centres = True
    """Whether it compares features with the one centre of each class; then no head with sub-centres will do."""

    epochs = 1
    """Number of epochs of the training run; set when the objective is built."""

    @abstractmethod
    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the loss of one step.

        Args:
            backbone: in training mode.
            head: class centres and margin; it may be a shard of the classes, so ask it and not its weight.
            views: image_B3HW of each of ``self.views``; row b of all of them is one image.
            label_B: int64, the class of each row.
            epoch: trained so far, a fraction within an epoch: 2.5 in the middle of the third.
        """

    def attach(self, backbone: nn.Module) -> None:
        """Take what is needed of the backbone before the first step: a momentum encoder copies it."""

    def quality_layer(self) -> nn.Module | None:
        """Return the learned quality layer, feature_BD -> (B, 1); None if there is none."""
        return None

    def after_step(self, backbone: nn.Module) -> None:
        """Update momentum encoders after a step of the backbone."""
