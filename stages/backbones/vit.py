"""ViT as in insightface (arcface_torch/backbones/vit.py at 7fadd420), any depth and width.

State-dict keys are the published ones. Under mixed precision its attention computes in float32, and so do the patches
and the last layers, as there. (There half precision is fp16 inside the blocks, whatever the rest of the run says.)

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from stages.core.networks.vision_transformer import TransformerConfig, VisionTransformer


class Config(TransformerConfig, extra="forbid", frozen=True):
    """insightface's ViT: patches of 9, 8 heads, mlp_ratio 4; width, depth: T 256, 12; S 512, 12; B 512, 24; L 768, 24.

    Published on WebFace42M: drop_path 0.05; T and S mask nothing. B and L are named mask_005, but the program does not
    pass that ratio on and masks a tenth: mask_ratio 0.1.
    """

    name: Literal["vit"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return VisionTransformer(config, always_token=True, single=True)
