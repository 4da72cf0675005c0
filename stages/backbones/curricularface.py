"""CurricularFace's IR networks (backbone/model_irse.py at 68c8727f): AdaFace's without a block's middle batch norm.

The keys look alike, the networks are different ones.

Shapes: D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from stages.core.networks.residual_nets import FlatNet, ResidualConfig


class Config(ResidualConfig, extra="forbid", frozen=True):
    """CurricularFace's network; published: IR-50 and IR-101, dropout 0.4."""

    name: Literal["curricularface"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return FlatNet(config, _branch)


def _branch(in_width: int, out_width: int, stride: int) -> nn.Sequential:
    """Return BN, conv, PReLU, conv with stride, BN."""
    return nn.Sequential(
        nn.BatchNorm2d(in_width),
        nn.Conv2d(in_width, out_width, 3, 1, 1, bias=False),
        nn.PReLU(out_width),
        nn.Conv2d(out_width, out_width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_width),
    )
