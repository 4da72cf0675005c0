"""The two residual network layouts of face recognition, as shared by their families; no family is named here.

``FlatNet`` is AdaFace's and CurricularFace's (units in one list, shortcut without parameters where the width stays),
``StagedNet`` is insightface's, MagFace's and CR-FIQA's (units by stage, a 1x1 shortcut in the first unit of each).

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from stages.core.images.pixels import SIDE
from stages.core.networks.feature_layer import FeatureLayer

Four = tuple[int, int, int, int]
Branch = Callable[[int, int, int], nn.Module]
"""Makes a block's residual branch: channels in, channels out, stride."""


class ResidualConfig(BaseModel, extra="forbid", frozen=True):
    """Depth and width. Units of IR-18 are [2,2,2,2], 34 [3,4,6,3], 50 [3,4,14,3], 100 [3,13,30,3]."""

    name: str
    units: Four = Field(description="residual blocks per stage")
    widths: Four = Field(description="channels per stage; published nets: 64, 128, 256, 512")
    stem_stride: Literal[1, 2] = Field(description="of the first convolution; published nets: 1")
    feature_dim: int = Field(ge=2, description="D; published nets: 512")
    dropout: float = Field(ge=0, lt=1, description="before the last linear layer; 0.4, or insightface's 0")


class FlatNet(nn.Module):
    """Keys ``input_layer.*``, ``body.N.{res_layer,shortcut_layer}.*``, ``output_layer.*``."""

    def __init__(self, config: ResidualConfig, branch: Branch) -> None:
        super().__init__()
        width = config.widths[0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, config.stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(config.widths[-1]),
            nn.Dropout(config.dropout),
            nn.Flatten(),
            FeatureLayer(config.widths[-1] * last_side(config) ** 2, config.feature_dim),
            # no scale: in training the mean squared norm of a batch is D, only its spread says anything
            nn.BatchNorm1d(config.feature_dim, affine=False),
        )
        blocks: list[nn.Module] = []
        for num_units, out_width in zip(config.units, config.widths, strict=True):
            for index in range(num_units):
                blocks.append(FlatBlock(width, out_width, 2 if index == 0 else 1, branch))
                width = out_width
        self.body = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD."""
        feature_BD: Tensor = self.output_layer(self.body(self.input_layer(image_B3HW)))
        return feature_BD


class FlatBlock(nn.Module):
    """A family's ``res_layer``, and a shortcut: without parameters if the width does not change."""

    def __init__(self, in_width: int, out_width: int, stride: int, branch: Branch) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_width == out_width:
            self.shortcut_layer = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        else:
            self.shortcut_layer = shortcut(in_width, out_width, stride)
        self.res_layer = branch(in_width, out_width, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output, of half the side where the stride is 2."""
        out_BCHW: Tensor = self.res_layer(x_BCHW) + self.shortcut_layer(x_BCHW)
        return out_BCHW


class StagedNet(nn.Module):
    """Keys ``conv1, bn1, prelu, layer1..4.N.*, bn2, fc, features``; a family draws its own initial weights."""

    def __init__(self, config: ResidualConfig, dropout: nn.Module) -> None:
        super().__init__()
        width = config.widths[0]
        self.conv1 = nn.Conv2d(3, width, 3, config.stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        for stage, num_units, out_width in zip((1, 2, 3, 4), config.units, config.widths, strict=True):
            blocks = [StagedBlock(width, out_width, stride=2)]
            blocks += [StagedBlock(out_width, out_width, stride=1) for _ in range(num_units - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            width = out_width
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = dropout
        self.fc = FeatureLayer(width * last_side(config) ** 2, config.feature_dim)
        self.features = nn.BatchNorm1d(config.feature_dim)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD."""
        x_BCHW = self.prelu(self.bn1(self.conv1(image_B3HW)))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x_BCHW = self.get_submodule(stage)(x_BCHW)
        # before flattening, so that a family may drop whole channels; single values are dropped as well here as after
        feature_BD: Tensor = self.features(self.fc(self.dropout(self.bn2(x_BCHW)).flatten(1)))
        return feature_BD


class StagedBlock(nn.Module):
    """BN, conv, BN, PReLU, conv with stride, BN; its shortcut has parameters where stride or width change."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.prelu = nn.PReLU(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        changes = stride != 1 or in_width != out_width
        self.downsample = shortcut(in_width, out_width, stride) if changes else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output, of half the side where the stride is 2."""
        out_BCHW: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x_BCHW))))))
        return out_BCHW + (x_BCHW if self.downsample is None else self.downsample(x_BCHW))


class Pointwise(nn.Conv2d):
    """A 1x1 convolution with stride, computed by taking every stride-th pixel first: the same numbers.

    oneDNN 3.12 (torch 2.13, AVX-512) overwrites memory in the backward pass of a 1x1 convolution of stride 2
    on channels-last tensors with few channels; this way round it never sees one.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the convolution of every stride-th pixel."""
        row, column = self.stride
        return functional.conv2d(x_BCHW[:, :, ::row, ::column], self.weight, self.bias)


def two_convolutions(in_width: int, out_width: int, stride: int) -> nn.Sequential:
    """Return a residual branch: BN, conv, BN, PReLU, conv with stride, BN."""
    return nn.Sequential(
        nn.BatchNorm2d(in_width),
        nn.Conv2d(in_width, out_width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(out_width),
        nn.PReLU(out_width),
        nn.Conv2d(out_width, out_width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_width),
    )


def shortcut(in_width: int, out_width: int, stride: int) -> nn.Sequential:
    """Return the shortcut with parameters: 1x1 convolution with stride, BN."""
    return nn.Sequential(Pointwise(in_width, out_width, 1, stride, bias=False), nn.BatchNorm2d(out_width))


def last_side(config: ResidualConfig) -> int:
    """Return the side of the last feature map in pixels: 7 with a stem of stride 1, 4 with stride 2.

    >>> same = {"units": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "feature_dim": 8, "dropout": 0.0}
    >>> last_side(ResidualConfig(name="any", stem_stride=1, **same))
    7
    """
    side = -(-SIDE // config.stem_stride)
    for _ in config.units:
        side = -(-side // 2)
    return side
