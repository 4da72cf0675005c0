"""The vision transformer of face recognition, as insightface's and CVLface's families share it; none is named here.

Patches of an aligned face become tokens; there is no class token: all tokens together are flattened into the last two
linear layers. In training a share of the tokens may be left out of the blocks (``mask_ratio``), and a learned token
takes their place behind them.

Shapes: B batch, H = W = 112, T tokens (patches), K tokens that are kept, W width, N heads, D feature dimensions.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from stages.core import autocast
from stages.core.errors import InputError
from stages.core.images.pixels import SIDE
from stages.core.networks.feature_layer import FeatureLayer

INITIAL_STD = 0.02
FEATURE_EPSILON = 2e-5
"""Epsilon of the two batch norms behind the blocks; torch's own is 1e-5."""


class TransformerConfig(BaseModel, extra="forbid", frozen=True):
    """Depth and width of a vision transformer."""

    name: str
    patch_size: int = Field(ge=1, le=SIDE, description="side of a patch, pixels; what is left of 112 is not seen")
    width: int = Field(ge=2, description="numbers of a token")
    depth: int = Field(ge=1, description="blocks")
    heads: int = Field(ge=1, description="of the attention; checkpoints do not tell their number")
    mlp_ratio: int = Field(ge=1, description="width of the hidden layer of a block's MLP, in token widths")
    feature_dim: int = Field(ge=2, description="D; published nets: 512")
    drop_path: float = Field(ge=0, lt=1, description="stochastic depth: probability in the last block, rising from 0")
    mask_ratio: float = Field(ge=0, lt=1, description="share of the tokens left out in training")

    @model_validator(mode="after")
    def heads_share_the_width(self) -> Self:
        """Refuse heads that cannot share the width evenly."""
        if self.width % self.heads:
            raise InputError(f"width {self.width} cannot be shared by {self.heads} heads: make it a multiple of them")
        return self

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return (SIDE // self.patch_size) ** 2


class VisionTransformer(nn.Module):
    """Keys ``patch_embed.proj.*, pos_embed, mask_token, blocks.N.*, norm.*, feature.0..3.*``.

    Args:
        config: depth and width.
        always_token: whether the mask token is there where nothing is masked.
        single: whether attention computes in the type of the weights under autocast.
    """

    def __init__(self, config: TransformerConfig, *, always_token: bool, single: bool) -> None:
        super().__init__()
        self.mask_ratio = config.mask_ratio
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        drops = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList([Block(config, drop, single=single) for drop in drops])
        self.norm = nn.LayerNorm(config.width)
        self.feature = nn.Sequential(
            FeatureLayer(config.width * config.tokens, config.width, bias=False),
            nn.BatchNorm1d(config.width, FEATURE_EPSILON),
            FeatureLayer(config.width, config.feature_dim, bias=False),
            nn.BatchNorm1d(config.feature_dim, FEATURE_EPSILON),
        )
        if always_token or config.mask_ratio:
            # DDP waits for a gradient of each parameter that may have one
            token = torch.zeros(1, 1, config.width)
            self.mask_token = nn.Parameter(token, requires_grad=config.mask_ratio > 0)
            nn.init.normal_(self.mask_token, std=INITIAL_STD)
        nn.init.trunc_normal_(self.pos_embed, std=INITIAL_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD."""
        token_BTW = self.patch_embed(image_B3HW) + self.pos_embed
        masks = self.training and self.mask_ratio > 0
        place_BT = random_order(token_BTW) if masks else None
        if place_BT is not None:
            kept = int(place_BT.shape[1] * (1 - self.mask_ratio))
            place_BT = place_BT[:, :kept]
            token_BTW = token_BTW.gather(1, place_BT[:, :, None].expand(-1, -1, token_BTW.shape[2]))
        for block in self.blocks:
            token_BTW = block(token_BTW)
        token_BTW = self.norm(token_BTW.to(self.norm.weight.dtype))
        if place_BT is not None:
            token_BTW = self._with_masked(token_BTW, place_BT)
        feature_BD: Tensor = self.feature(token_BTW.flatten(1))
        return feature_BD

    def _with_masked(self, token_BKW: Tensor, place_BK: Tensor) -> Tensor:
        """Return token_BTW: the kept tokens in their places, the learned one in the others."""
        size, _, width = token_BKW.shape
        learned_BTW = self.mask_token.to(token_BKW.dtype).expand(size, self.pos_embed.shape[1], width)
        return learned_BTW.scatter(1, place_BK[:, :, None].expand(-1, -1, width), token_BKW)


def random_order(token_BTW: Tensor) -> Tensor:
    """Return place_BT: a random order of each image's tokens, from torch's generator."""
    return torch.rand(token_BTW.shape[:2], device=token_BTW.device).argsort(dim=1)


class PatchEmbedding(nn.Module):
    """Convolution of patches that do not overlap; in the type of its weights, as insightface's."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return token_BTW."""
        with autocast.off(image_B3HW.device):
            patch_BWHW: Tensor = self.proj(image_B3HW)
        return patch_BWHW.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Layer norm and attention, layer norm and MLP, each added to what came in, or dropped for an image."""

    def __init__(self, config: TransformerConfig, drop: float, *, single: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.attn = Attention(config, single=single)
        self.drop_path = DropPath(drop)
        self.mlp = Mlp(config)

    def forward(self, token_BTW: Tensor) -> Tensor:
        """Return token_BTW."""
        token_BTW = token_BTW + self.drop_path(self.attn(self.norm1(token_BTW)))
        made_BTW: Tensor = token_BTW + self.drop_path(self.mlp(self.norm2(token_BTW)))
        return made_BTW


class Attention(nn.Module):
    """Attention of every token to every token; keys ``qkv.weight, proj.*``."""

    def __init__(self, config: TransformerConfig, *, single: bool) -> None:
        super().__init__()
        self.heads, self.single = config.heads, single
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, token_BTW: Tensor) -> Tensor:
        """Return token_BTW."""
        parts_3BNTE = self.qkv(token_BTW).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.single:
            with autocast.off(token_BTW.device):
                query, key, value = parts_3BNTE.to(self.qkv.weight.dtype).unbind()
                seen_BNTE = functional.scaled_dot_product_attention(query, key, value)
        else:
            seen_BNTE = functional.scaled_dot_product_attention(*parts_3BNTE.unbind())
        made_BTW: Tensor = self.proj(seen_BNTE.transpose(1, 2).flatten(2))
        return made_BTW


class Mlp(nn.Module):
    """Two linear layers with a ReLU6 between them."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, token_BTW: Tensor) -> Tensor:
        """Return token_BTW."""
        made_BTW: Tensor = self.fc2(self.act(self.fc1(token_BTW)))
        return made_BTW


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training a branch is left out of an image with a probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, token_BTW: Tensor) -> Tensor:
        """Return the branch, 0 for the images that drop it, and as much more for the others."""
        if not self.training or not self.probability:
            return token_BTW
        kept = 1 - self.probability
        factor_B11 = token_BTW.new_empty(len(token_BTW), 1, 1).bernoulli_(kept).div_(kept)
        return token_BTW * factor_B11
