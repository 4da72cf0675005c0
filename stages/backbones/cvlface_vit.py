"""ViT as in CVLface (run_v1/models/vit/vit.py at d3d09c93), any depth and width, without KPRPE.

insightface's network with other sizes; it has a mask token only where tokens are masked, and attention computes in the
precision of the run. KPRPE, its encoding of positions relative to landmarks, needs five landmarks of every image from
a network of its own (CVLface's aligner, DFA), which facet has not: such checkpoints are refused at the import.

Shapes: B batch, H = W = 112, D feature dimensions.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from stages.core.networks.vision_transformer import TransformerConfig, VisionTransformer


class Config(TransformerConfig, extra="forbid", frozen=True):
    """CVLface's ViT: patches of 8, width 512; small: depth 12, 8 heads, mlp_ratio 5; base: 24, 16 and 3.

    Published: drop_path 0.1, mask_ratio 0 (models/vit/__init__.py and configs).
    """

    name: Literal["cvlface_vit"]


def build(config: Config) -> nn.Module:
    """Return the network: image_B3HW, float, in the declared colour order and range -> feature_BD."""
    return VisionTransformer(config, always_token=False, single=False)
