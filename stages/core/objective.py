"""What a training minimises: which views of an image it wants, and the loss that a backbone and a head give on them.

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from stages.core.head import CosineHead, HeadOutput

Backbone = Callable[[Tensor], Tensor]
"""image_B3HW as the network wants it -> feature_BD float32, un-normalised; precision and processes are its matter."""


class Objective(nn.Module, ABC):
    """One loss over backbone and head; own parameters and buffers are trained and checkpointed with the rest."""

    views: tuple[str, ...] = ("training",)
    """Of each image, in the order ``forward`` gets them: training, clean, high, low (stages/samples.py)."""

    epochs = 1
    """Of the whole training; set when the objective is built."""

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
        """Return what it has learned to score quality by, feature_BD -> (B, 1); None where it learns no such thing."""
        return None

    def after_step(self, backbone: nn.Module) -> None:
        """Follow the backbone when it has taken its step: momentum encoders."""
