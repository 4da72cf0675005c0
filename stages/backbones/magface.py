"""MagFace's IResNet (models/iresnet.py at 99bae614): insightface's keys, other constants, a trained last scale.

Its feature norm must be free to move within [10, 110]; a last batch norm without a scale would pin it.

Shapes: B batch, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from stages.core.networks.residual_nets import ResidualConfig, StagedNet

EPSILON = 2e-5
"""Epsilon of every batch norm; torch's own is 1e-5."""
MOMENTUM = 0.9
"""Weight of the newest batch in the running statistics; torch's own is 0.1."""


class Config(ResidualConfig, extra="forbid", frozen=True):
    """MagFace's network; published: dropout 0.4, of whole channels."""

    name: Literal["magface"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    network = StagedNet(config, nn.Dropout2d(config.dropout))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps, module.momentum = EPSILON, MOMENTUM
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
