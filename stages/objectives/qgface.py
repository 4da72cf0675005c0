"""QGFace (Song and Wang, IEEE FG 2024): classification of clear faces, contrastive learning of unclear ones.

IsidoreSong/QGFace head.py, framework.py at c1cfa7b6. Each image comes in two views. Quality-split classification (QS)
multiplies an image's logits by about 1 above a quality threshold and 0 below, where it then learns nothing;
contrastive learning (CL) of a view against the other and a queue is weighed the other way round.

The released code works with its own copy of AdaFace only; this works over any head, because it keeps the statistics of
the norms itself (over an AdaFace head with the same h, t_alpha and initial 0 they are that head's own). What differs:

- ``mask``: the released default ``mask_same_class=False`` raises when both views are enqueued. Here the cells that are
  masked are said: ``same_class`` (released option True), or ``same_image`` (what the default meant to do).
- ``queue: none`` has the batch's own images as negatives, where the released code leaves the loss out.
- ``later_aug``, which cannot run as released, and ``progressive`` are left out.
- Queues are filled with the images of all processes in rank order.

Shapes: B batch, K queue, D feature dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from stages.core.errors import InputError
from stages.core.losses import contrastive
from stages.core.losses.class_parallel import Shard, of_processes
from stages.core.losses.feature_queue import FeatureQueue, class_centres
from stages.core.losses.head import CosineHead, HeadOutput, directions
from stages.core.losses.norm_scaler import NormScaler
from stages.core.losses.objective import Backbone, Objective


class Config(BaseModel, extra="forbid", frozen=True):
    """Defaults are from a third party's copy of the paper's configuration; the authors' own is not public."""

    name: Literal["qgface"]
    pair: Literal["high_low", "low_low", "training_training", "training"] = Field(
        "high_low", description="the two views; released: LH_align true, false; training: the configured augmentation,"
        " as the paper's ablation has it without views of its own; once: there is no CL"
    )
    quality_split: bool = Field(True, description="QS; without, every image is classified in full")
    threshold: float = Field(0.2, ge=0, lt=1, description="b, of quality in [0, 1]; 0 disables QS and weights")
    h: float = Field(0.333, gt=0, description="share of a deviation of the norm that saturates quality")
    t_alpha: float = Field(0.01, gt=0, le=1, description="weight of the newest batch in the norm's statistics")
    contrast_weight: float = Field(1.0, ge=0, description="weight of CL; 0 disables it")
    contrast_scale: float | None = Field(None, gt=0, description="of its logits; null: the head's own")
    queue: Literal["none", "plain", "proxy", "momentum"] = Field(
        "plain",
        description="negatives; none: the batch's own; plain: of earlier batches too; proxy: those moved as their "
        "class centres moved since (BroadFace); momentum: low views as a slow copy of the backbone sees them (MoCo)",
    )
    queue_size: int = Field(8192, ge=1, description="features kept, the batch's own included")
    encoder_momentum: float = Field(0.999, ge=0, lt=1, description="of the slow copy, for queue momentum")
    both_ways: bool = Field(True, description="contrast low with high and high with low; released: pair_coupling D2N")
    detach_positive: bool = Field(False, description="no gradient to the other view of a pair")
    mask: Literal["same_class", "same_image"] = Field("same_class", description="which queue entries are not negatives")
    select: contrastive.Select = Field("low", description="quality of a pair: of its worse view, mean, or better one")
    weight_shape: contrastive.Shape = "sgn"
    weight_span: contrastive.Span = "half"
    margin_method: Literal["none", "static", "dynamic"] = Field(
        "none", description="taken off the positive cosine; dynamic: running distance to the hardest negative"
    )
    contrast_margin: float = Field(0.4, ge=0, description="for margin_method static")
    rescale: bool = Field(True, description="times ln 129 / ln (K + 1): a queue of any size weighs the same")
    join_epoch: float = Field(0.0, ge=0, description="CL begins here; released: later_joint with joint_point")
    leave_epoch: float | None = Field(None, description="CL ends here; released: later_detach")
    warmup_epochs: float = Field(0.0, ge=0, description="threshold rises linearly from 0; released: warmup_scaler")

    @model_validator(mode="after")
    def contrasts_two(self) -> Self:
        """Refuse contrastive learning with a single view."""
        if self.pair == "training" and self.contrast_weight:
            raise InputError(f"pair: training has one view, so contrast_weight should be 0, got {self.contrast_weight}")
        return self

    def threshold_at(self, epoch: float) -> float:
        """Return the current quality threshold, which changes at whole epochs as released."""
        return self.threshold * min(1.0, int(epoch) / self.warmup_epochs) if self.warmup_epochs else self.threshold

    def contrast_weight_at(self, epoch: float) -> float:
        """Return the current weight of CL."""
        joined = epoch >= self.join_epoch and (self.leave_epoch is None or epoch < self.leave_epoch)
        return self.contrast_weight if joined else 0.0


class QGFace(Objective):
    """Quality-split classification (QS) over any head, and contrastive learning (CL)."""

    hardest_distance: Tensor

    def __init__(self, config: Config, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.views = tuple(config.pair.split("_"))
        self.norms = NormScaler(config.h, config.t_alpha)
        self.register_buffer("hardest_distance", torch.tensor(0.0))
        self.queue: FeatureQueue | None = None
        if config.contrast_weight and config.queue != "none":
            self.queue = FeatureQueue(config.queue_size, feature_dim, with_centres=config.queue == "proxy")
        self.slow_backbone: nn.Module | None = None

    @property
    def has_momentum(self) -> bool:
        """Whether a momentum copy of the backbone makes the keys."""
        return self.config.queue == "momentum" and self.config.contrast_weight > 0

    def attach(self, backbone: nn.Module) -> None:
        """Copy the backbone if a momentum copy is needed."""
        if self.has_momentum:
            self.slow_backbone = copy.deepcopy(backbone).requires_grad_(False)

    @torch.no_grad()
    def after_step(self, backbone: nn.Module) -> None:
        """Update the momentum copy; its running batch-norm statistics are its own, as released."""
        if self.slow_backbone is None:
            return
        slow: list[Tensor] = list(self.slow_backbone.parameters())
        fast: list[Tensor] = list(backbone.parameters())
        assert len(slow) == len(fast)
        # one call for all: a GPU's host would need as long for each
        torch._foreach_lerp_(slow, fast, 1 - self.config.encoder_momentum)

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the classification loss of the views, plus the contrastive loss while it is in force."""
        shard = of_processes()
        high_BD, low_BD, shown_BD = self._features(backbone, views)
        label_R = label_B.repeat(len(shown_BD) // len(label_B))
        threshold = self.config.threshold_at(epoch)
        shown_norm_R = shown_BD.detach().norm(dim=1)
        scaler_R = self.norms(shown_norm_R, shard)
        output = self._classify(head, shown_BD, label_R, scaler_R, threshold)
        weight = self.config.contrast_weight_at(epoch)
        if not self.config.contrast_weight:
            return output
        if self.slow_backbone is None:
            high_scaler_B, low_scaler_B = scaler_R.chunk(2)
        else:
            # one set of statistics for both encoders, which are nearly one; released: two
            high_scaler_B, low_scaler_B = scaler_R, self.norms(low_BD.norm(dim=1), shard)
        quality_B = contrastive.pair_quality(low_scaler_B, high_scaler_B, self.config.select)
        pair_weight_B = contrastive.pair_weight(
            quality_B, threshold, self.config.weight_shape, self.config.weight_span
        )
        loss = self._contrast(head, high_BD, low_BD, label_B, pair_weight_B, shard)
        terms = {**output.terms, "contrast": loss.detach(), "split_share": (pair_weight_B > 0.5).float().mean()}
        return replace(output, loss=output.loss + weight * loss if weight else output.loss, terms=terms)

    def _features(self, backbone: Backbone, views: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of the high and the low view, and those to classify."""
        if self.slow_backbone is None:
            both_RD = backbone(torch.cat(list(views)))
            high_BD, low_BD = both_RD.chunk(2)
            return high_BD, low_BD, both_RD
        high_BD = backbone(views[0])
        with torch.no_grad(), self.autocast():
            low_BD = self.slow_backbone.train()(views[1])
        low_BD = low_BD.to(high_BD.dtype)
        return high_BD, low_BD, high_BD

    def _classify(
        self, head: CosineHead, feature_RD: Tensor, label_R: Tensor, scaler_R: Tensor, threshold: float
    ) -> HeadOutput:
        if not self.config.quality_split or threshold == 0:
            output: HeadOutput = head(feature_RD, label_R)
            return output
        factor_R = contrastive.split_factor(scaler_R, threshold, head.scale)
        split: HeadOutput = head(feature_RD, label_R, factor_B=factor_R)
        return split

    def _contrast(
        self, head: CosineHead, high_BD: Tensor, low_BD: Tensor, label_B: Tensor, weight_B: Tensor, shard: Shard
    ) -> Tensor:
        config = self.config
        high_BD, low_BD = directions(high_BD)[0], directions(low_BD)[0]
        keys = [low_BD] if self.has_momentum else [high_BD, low_BD]
        with torch.no_grad():
            # view after view, each in rank order: as one process with the whole batch would have them
            own_KD = torch.cat([shard.gather(key_BD.detach()) for key_BD in keys])
            own_label_K = shard.gather(label_B).repeat(len(keys))
            queue_KD, queue_label_K = own_KD, own_label_K
            if self.queue is not None:
                centres = class_centres(head, own_label_K) if config.queue == "proxy" else None
                self.queue.put(own_KD, own_label_K, centres)
                queue_KD, queue_label_K = self.queue.features(head), self.queue.labels
            same_BK = self._masked(label_B, queue_label_K, len(keys), shard)
        # the query is the view that learns: with a slow copy that is the high one
        query_BD, key_BD = (high_BD, low_BD) if self.has_momentum else (low_BD, high_BD)
        cosine_RK = contrastive.pair_cosines(
            query_BD, key_BD, queue_KD, same_BK, both_ways=config.both_ways, detach_positive=config.detach_positive
        )
        weight_R = weight_B.repeat(len(cosine_RK) // len(weight_B))
        scale = head.scale if config.contrast_scale is None else config.contrast_scale
        margin = self._margin(cosine_RK, shard)
        return contrastive.contrast_loss(cosine_RK, weight_R, scale, margin, rescale=config.rescale)

    def _masked(self, label_B: Tensor, queue_label_K: Tensor, num_keys: int, shard: Shard) -> Tensor:
        if self.config.mask == "same_class":
            return label_B[:, None] == queue_label_K
        # the batch's own images stand first, view after view, each in rank order
        size = len(label_B)
        same_BK = torch.zeros(size, len(queue_label_K), dtype=torch.bool, device=label_B.device)
        for view in range(num_keys):
            begin = (view * shard.world_size + shard.rank) * size
            rows = same_BK[:, begin : begin + size]
            rows[: rows.shape[1]].fill_diagonal_(True)
        return same_BK

    def _margin(self, cosine_RK: Tensor, shard: Shard) -> float | Tensor:
        if self.config.margin_method == "none":
            return 0.0
        if self.config.margin_method == "static":
            return self.config.contrast_margin
        distance = shard.sum_(contrastive.distance_to_hardest(cosine_RK)) / shard.world_size
        self.hardest_distance.lerp_(distance, self.config.t_alpha)
        return self.hardest_distance.clone()


def build(config: Config, feature_dim: int, num_classes: int) -> QGFace:
    """Return the objective."""
    return QGFace(config, feature_dim)
