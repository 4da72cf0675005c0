"""MobileFaceNet as in insightface (arcface_torch/backbones/mobilefacenet.py at 7fadd420), any depth and width.

Its stem and first block are grouped, not depthwise, where ``scale`` is not 1: published models are so.

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn

from stages.core.images.pixels import SIDE
from stages.core.networks.feature_layer import FeatureLayer

Four = tuple[int, int, int, int]


class Config(BaseModel, extra="forbid", frozen=True):
    """Depth and width. Published: units [1,4,6,2] and scale 2 (0.45 GFLOP); "large": [2,8,12,4] and scale 4."""

    name: Literal["mobilefacenet"]
    units: Four = Field(description="blocks per stage; a first of 1 is one grouped convolution instead of a block")
    base_width: int = Field(64, ge=4, description="groups of the first stage, which others are 2, 4 and 8 times")
    scale: int = Field(ge=1, description="channels of the first stage, in base widths")
    feature_dim: int = Field(ge=2, description="D; published networks: 512")


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return MobileFaceNet(config)


class MobileFaceNet(nn.Module):
    """Keys ``layers.N.*, conv_sep.*, features.layers.*``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        base = config.base_width
        narrow, wide = base * config.scale, 2 * base * config.scale
        first = (
            ConvBlock(narrow, narrow, 3, 1, groups=base)
            if config.units[0] == 1
            else Residual(narrow, config.units[0], 2 * base)
        )
        self.layers = nn.ModuleList(
            [
                ConvBlock(3, narrow, 3, 2),
                first,
                Bottleneck(narrow, narrow, 2, 2 * base),
                Residual(narrow, config.units[1], 2 * base),
                Bottleneck(narrow, wide, 2, 4 * base),
                Residual(wide, config.units[2], 4 * base),
                Bottleneck(wide, wide, 2, 8 * base),
                Residual(wide, config.units[3], 4 * base),
            ]
        )
        self.conv_sep = ConvBlock(wide, 8 * base, 1, 1)
        self.features = Pooled(8 * base, config.feature_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD."""
        x_BCHW = image_B3HW
        for layer in self.layers:
            x_BCHW = layer(x_BCHW)
        feature_BD: Tensor = self.features(self.conv_sep(x_BCHW))
        return feature_BD


class Layers(nn.Module):
    """A sequence of modules under the published prefix ``layers``."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the last module's output."""
        out: Tensor = self.layers(x_BCHW)
        return out


class ConvBlock(Layers):
    """Convolution, BN, PReLU."""

    def __init__(self, in_width: int, out_width: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_width),
            nn.PReLU(out_width),
        )


class Linear(Layers):
    """Convolution without padding, and BN."""

    def __init__(self, in_width: int, out_width: int, kernel: int, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_width, out_width, kernel, groups=groups, bias=False), nn.BatchNorm2d(out_width)
        )


class Bottleneck(Layers):
    """Expand, depthwise convolution, project."""

    def __init__(self, in_width: int, out_width: int, stride: int, inner: int) -> None:
        super().__init__(
            ConvBlock(in_width, inner, 1, 1),
            ConvBlock(inner, inner, 3, stride, groups=inner),
            Linear(inner, out_width, 1),
        )


class Added(Bottleneck):
    """A bottleneck with a residual connection."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the sum of both."""
        return x_BCHW + super().forward(x_BCHW)


class Residual(Layers):
    """A sequence of residual bottlenecks."""

    def __init__(self, width: int, num_units: int, inner: int) -> None:
        super().__init__(*(Added(width, width, 1, inner) for _ in range(num_units)))


class Pooled(Layers):
    """Depthwise convolution over the last feature map, then a linear layer and BN."""

    def __init__(self, width: int, feature_dim: int) -> None:
        super().__init__(
            Linear(width, width, -(-SIDE // 16), groups=width),
            nn.Flatten(),
            FeatureLayer(width, feature_dim, bias=False),
            nn.BatchNorm1d(feature_dim),
        )
