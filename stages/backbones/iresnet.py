"""IResNet as in AdaFace (net.py at c60eaa78) and insightface (iresnet.py at 7fadd420), any depth and width.

The two differ in names, in the first stage's shortcut, in the last batch norm and in initialisation.
State-dict keys are the published ones, so that published weights load.

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from stages.core.networks.residual_nets import FlatNet, ResidualConfig, StagedNet, two_convolutions


class Config(ResidualConfig, extra="forbid", frozen=True):
    """IResNet of one of the two styles."""

    name: Literal["iresnet"]
    style: Literal["adaface", "insightface"] = Field(
        description="adaface: first shortcut without parameters, last batch norm without scale and shift; "
        "insightface: first shortcut 1x1, last batch norm with a shift"
    )


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return FlatNet(config, two_convolutions) if config.style == "adaface" else InsightFaceNet(config)


class InsightFaceNet(StagedNet):
    """The last batch norm's scale stays 1, as published."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, nn.Dropout(config.dropout))
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)
