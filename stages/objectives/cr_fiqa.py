"""CR-FIQA (Boutros et al., CVPR 2023) as published: a quality layer trained together with backbone and head.

fdbtrs/CR-FIQA losses.py, train_cr_fiqa.py at a8f98da6: classification plus alpha times SmoothL1 between the layer's
output and how classifiable the image is (CCS and NNCCS, without gradient). The layer's gradient flows on into the
backbone. The published head is ArcFace, margin .5; here it is any. The quality method `joint` scores with the layer.

Shapes: B batch, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn

from stages.core.losses import classifiability
from stages.core.losses.class_cosines import own_and_nearest
from stages.core.losses.head import CosineHead, HeadOutput
from stages.core.losses.objective import Backbone, Objective


class Config(BaseModel, extra="forbid", frozen=True):
    """The published training has alpha 10 and beta .5."""

    name: Literal["cr_fiqa"]
    alpha: float = Field(10.0, ge=0, description="weight of the quality loss")
    beta: float = Field(0.5, gt=0, description="where SmoothL1 turns from a square to a line")
    target: classifiability.Form = Field(
        "paper", description="paper: CCS/(NNCCS + 1 + eps); code: CCS/NNCCS as released; vit_fiqa: their later code"
    )
    detach: bool = Field(False, description="keep the quality loss out of the backbone; published: false")


class CrFiqa(Objective):
    """Classification and quality on one view."""

    def __init__(self, config: Config, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(feature_dim, 1)

    def quality_layer(self) -> nn.Module:
        """Return the layer."""
        return self.layer

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the head's loss with the quality loss added."""
        feature_BD = backbone(views[0])
        output: HeadOutput = head(feature_BD, label_B)
        ccs_B, nnccs_B = output.target_cosine_B, output.nearest_cosine_B
        if nnccs_B is None:  # a head of somebody's own that does not tell
            ccs_B, nnccs_B = own_and_nearest(head, feature_BD, label_B)
        target_B = classifiability.target_of(self.config.target, ccs_B, nnccs_B)
        predicted_B = self.layer(feature_BD.detach() if self.config.detach else feature_BD)[:, 0]
        loss = classifiability.loss(predicted_B, target_B, self.config.beta)
        terms = {**output.terms, "quality": loss.detach()}
        return replace(output, loss=output.loss + self.config.alpha * loss, terms=terms)


def build(config: Config, feature_dim: int, num_classes: int) -> CrFiqa:
    """Return the objective."""
    return CrFiqa(config, feature_dim)
