"""IR-SE as in AdaFace (net.py at c60eaa78): its IResNet with squeeze-and-excitation at the end of each block's branch.

State-dict keys are the published ones, so that published weights load.

Shapes: B batch, H = W = 112, C channels, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stages.core.networks.residual_nets import FlatNet, ResidualConfig, two_convolutions

REDUCTION = 16
"""Channels of a block for each one between the two convolutions of its squeeze-and-excitation."""


class Config(ResidualConfig, extra="forbid", frozen=True):
    """IR-SE; published: IR-SE-50, dropout 0.4."""

    name: Literal["ir_se"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return FlatNet(config, _branch)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): each channel times a number in (0, 1) made of all means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(1, width // REDUCTION)
        self.fc1 = nn.Conv2d(width, narrow, 1, bias=False)
        self.fc2 = nn.Conv2d(narrow, width, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the weighted channels."""
        mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        weighted_BCHW: Tensor = x_BCHW * self.fc2(self.fc1(mean_BC11).relu()).sigmoid()
        return weighted_BCHW


def _branch(in_width: int, out_width: int, stride: int) -> nn.Sequential:
    """Return BN, conv, BN, PReLU, conv with stride, BN, squeeze-and-excitation."""
    branch = two_convolutions(in_width, out_width, stride)
    branch.add_module("se_block", SqueezeExcitation(out_width))
    return branch
