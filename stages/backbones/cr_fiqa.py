"""CR-FIQA's IResNet (backbones/iresnet.py at a8f98da6): insightface's with a trained last scale and a quality output.

Shapes: B batch, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stages.core.networks.residual_nets import ResidualConfig, StagedNet


class Config(ResidualConfig, extra="forbid", frozen=True):
    """CR-FIQA's network, without squeeze-and-excitation, as both published models are."""

    name: Literal["cr_fiqa"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return CrFiqaNet(config)


class CrFiqaNet(StagedNet):
    """Adds the key ``qs``: one linear layer on the feature before normalising."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, nn.Dropout(config.dropout))
        # its objective trains a layer of its own: DDP waits for a gradient of each parameter that may have one
        self.qs = nn.Linear(config.feature_dim, 1).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def quality(self, feature_BD: Tensor) -> Tensor:
        """Return score_B of features from ``forward``; higher is better, unbounded."""
        score_B1: Tensor = self.qs(feature_BD)
        return score_B1[:, 0]
