"""IG-FIQA (Kim et al., IEEE Access 2025): CR-FIQA's quality loss, weighted per class by its running CCS.

After the listing and the figure in kim1102/IG-FIQA README.md at 560e694, the only published artefact. Recognition
learns from the clean image, quality from an augmented copy of it; the figure lets the quality loss into the backbone.
Each class keeps a running mean of its images' CCS, and an image's quality loss is weighed by its class's.

The listing and the abstract do not obviously agree. The listing gives less weight to classes whose running CCS is LOW
(varied or mislabelled ones); the abstract speaks of classes with low intra-class VARIANCE, whose CCS is high. The
listing is the default, and the other reading the option ``low_variance``.

Where the listing is silent: of several images of a class in a batch the mean CCS is taken in (fancy indexing would keep
one of them, which one is undefined); both views pass the backbone together, so batch norms see both; of the paper's own
augmentation nothing is public but a picture (grey, the lower half blacked out): the training's configured one is used.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from stages.core.losses import classifiability
from stages.core.losses.class_cosines import own_and_nearest
from stages.core.losses.class_parallel import of_processes
from stages.core.losses.head import CosineHead, HeadOutput
from stages.core.losses.objective import Backbone, Objective

EPS = 1e-6


class Config(BaseModel, extra="forbid", frozen=True):
    """The listing has alpha 10, momentum .9 rising to 1, and guidance as ``listing``."""

    name: Literal["ig_fiqa"]
    alpha: float = Field(10.0, ge=0, description="weight of the quality loss")
    beta: float = Field(0.5, gt=0, description="where SmoothL1 turns from a square to a line")
    target: classifiability.Form = Field(
        "paper", description="paper: CCS/(NNCCS + 1 + eps); code: CCS/NNCCS as released; vit_fiqa: their later code"
    )
    guidance: Literal["listing", "low_variance", "none"] = Field(
        "listing", description="which classes' quality loss counts less: those of low running CCS, of high, or none"
    )
    augmented: bool = Field(True, description="quality from an augmented copy; false: from the clean image itself")
    momentum: float = Field(0.9, ge=0, lt=1, description="of a class's running CCS in the first epoch; in the last: 1")
    detach: bool = Field(False, description="keep the quality loss out of the backbone; listing: false")


class IgFiqa(Objective):
    """Classification of the clean view, guided quality of the augmented one."""

    running_ccs_C: Tensor

    def __init__(self, config: Config, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.views = ("clean", "training") if config.augmented else ("clean",)
        self.layer = nn.Linear(feature_dim, 1)
        self.register_buffer("running_ccs_C", torch.ones(num_classes))

    def quality_layer(self) -> nn.Module:
        """Return the layer."""
        return self.layer

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the head's loss on the clean view with the guided quality loss of the last view added."""
        feature_RD = backbone(torch.cat(list(views)))
        output: HeadOutput = head(feature_RD[: len(label_B)], label_B)
        judged_BD = feature_RD[-len(label_B) :]
        ccs_B, nnccs_B = own_and_nearest(head, judged_BD, label_B)
        self.follow(label_B, ccs_B, epoch)
        weight_B = self.weights()[label_B]
        target_B = classifiability.target_of(self.config.target, ccs_B, nnccs_B)
        predicted_B = self.layer(judged_BD.detach() if self.config.detach else judged_BD)[:, 0]
        loss_B = functional.smooth_l1_loss(predicted_B, target_B, beta=self.config.beta, reduction="none")
        loss = (loss_B * weight_B).mean()
        terms = {**output.terms, "quality": loss.detach(), "guidance": weight_B.mean()}
        return replace(output, loss=output.loss + self.config.alpha * loss, terms=terms)

    @torch.no_grad()
    def follow(self, label_B: Tensor, ccs_B: Tensor, epoch: float) -> None:
        """Update the classes' running means with the CCS of a batch, over all processes."""
        shard = of_processes()
        label_B, ccs_B = shard.gather(label_B), shard.gather(ccs_B)
        momentum = self.config.momentum + (1 - self.config.momentum) * min(1.0, int(epoch) / self.epochs)
        sum_C = torch.zeros_like(self.running_ccs_C).index_add_(0, label_B, ccs_B.to(self.running_ccs_C.dtype))
        count_C = torch.bincount(label_B, minlength=len(sum_C))
        mean_C = sum_C / count_C.clamp_min(1)
        followed_C = momentum * self.running_ccs_C + (1 - momentum) * mean_C
        self.running_ccs_C.copy_(torch.where((count_C > 0) & mean_C.isfinite(), followed_C, self.running_ccs_C))

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Return the weight of each class's quality loss, in [0, 1]."""
        if self.config.guidance == "none":
            return torch.ones_like(self.running_ccs_C)
        z_C = (self.running_ccs_C - self.running_ccs_C.mean()) / (self.running_ccs_C.std() + EPS)
        return 1 + (z_C if self.config.guidance == "listing" else -z_C).clamp(-1, 0)


def build(config: Config, feature_dim: int, num_classes: int) -> IgFiqa:
    """Return the objective."""
    return IgFiqa(config, feature_dim, num_classes)
