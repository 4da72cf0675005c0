"""The last linear layer of a backbone, which computes in float32 under autocast.

Under bfloat16 it would round each number of a feature, and of its gradient, to 8 bits, where heads look at cosines near
1 and at norms. insightface's networks end autocast before it (backbones/iresnet.py at 7fadd420); a batch norm after it
gets float32 and stays there.

Shapes: B batch, K inputs, D feature dimensions.
"""

from __future__ import annotations

from torch import Tensor, nn

from stages.core import autocast


class FeatureLayer(nn.Linear):
    """A linear layer in the type of its weights, whatever autocast says."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x_BD of x_BK."""
        if not autocast.is_on(input.device):
            return super().forward(input)
        with autocast.off(input.device):
            return super().forward(input.to(self.weight.dtype))
