"""BroadFace (Kim et al., ECCV 2020; kakaoenterprise/BroadFace broadface/loss.py at e6a021d), over any head.

The backbone learns from the batch, the centres from the batch and a queue of thousands of earlier features, each
moved as its class's centre moved since (eq. 4): loss = head(batch, centres fixed) + head(queue and batch, features
fixed). The published code is ArcFace; with arcface and ``beyond_pi: shift`` it is the same.

A head's running statistics follow the batch; what they would take from the queue is thrown away. Where a batch half
fits into the queue its last images fall out, not its first.

Shapes: B batch, K queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.func import functional_call

from stages.core.errors import InputError
from stages.core.losses.feature_queue import FeatureQueue, class_centres
from stages.core.losses.head import CosineHead, HeadOutput
from stages.core.losses.objective import Backbone, Objective


class Config(BaseModel, extra="forbid", frozen=True):
    """BroadFace."""

    name: Literal["broadface"]
    queue_size: int = Field(
        10_000, ge=1, description="features kept, of all processes; the code's default, its README: 32 000"
    )
    compensate: bool = Field(
        True, description="move features as their centres moved: the paper's method; off in the code's defaults"
    )


class BroadFace(Objective):
    """Centres learn from far more features than a batch holds."""

    def __init__(self, config: Config, feature_dim: int) -> None:
        super().__init__()
        self.queue = FeatureQueue(config.queue_size, feature_dim, with_centres=config.compensate)

    def forward(
        self, backbone: Backbone, head: CosineHead, views: Sequence[Tensor], label_B: Tensor, epoch: float
    ) -> HeadOutput:
        """Return the sum of both losses; hits and cosines are the batch's.

        Raises:
            ValueError: the processes cannot share the queue evenly.
        """
        feature_BD = backbone(views[0])
        output: HeadOutput = functional_call(head, {"weight": head.weight.detach()}, (feature_BD, label_B))
        old_KD, old_label_K = self.share(head)
        batch = torch.cat([old_KD, feature_BD.detach()]), torch.cat([old_label_K, label_B])
        aside = {name: buffer.clone() for name, buffer in head.named_buffers()}
        broad: HeadOutput = functional_call(head, aside, batch)
        self.keep(head, feature_BD.detach(), label_B)
        terms = {**output.terms, "broad_loss": broad.loss.detach(), "queue": self.queue.filled.clone()}
        return HeadOutput(
            output.loss + broad.loss, output.target_cosine_B, output.hit_B, terms, output.nearest_cosine_B
        )

    def share(self, head: CosineHead) -> tuple[Tensor, Tensor]:
        """Return this process's part of the queue: a sharded head combines the parts."""
        feature_KD, label_K = self.queue.features(head), self.queue.labels
        if len(label_K) % head.shard.world_size:
            raise InputError(
                f"{head.shard.world_size} processes cannot divide a queue of {len(label_K)}: "
                "make objective.queue_size a multiple of their number"
            )
        return head.shard.local(feature_KD), head.shard.local(label_K)

    def keep(self, head: CosineHead, feature_BD: Tensor, label_B: Tensor) -> None:
        """Put the batch of all processes in the queue, with its current centres."""
        whole_BD, whole_label_B = head.shard.gather(feature_BD), head.shard.gather(label_B)
        centre_BD = class_centres(head, whole_label_B) if self.queue.with_centres else None
        self.queue.put(whole_BD, whole_label_B, centre_BD)


def build(config: Config, feature_dim: int, num_classes: int) -> BroadFace:
    """Return the objective, with an empty queue."""
    return BroadFace(config, feature_dim)
