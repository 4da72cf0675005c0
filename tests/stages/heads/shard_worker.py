"""One of two processes that hold half of the classes each; started by test_shards.py.

    python -m tests.stages.heads.shard_worker RANK WORLD_SIZE FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from stages.core.losses import tuning
from stages.core.losses.class_parallel import Shard
from stages.objectives import broadface
from tests.stages.heads.support import SHARDABLE_VARIANTS, build

DIM, CLASSES, LOCAL, STEPS, WORLD = 16, 43, 6, 3, 2


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return three batches: far from all centres, near the own, near another; one class in both processes' parts."""
    generator = torch.Generator().manual_seed(7)
    centre_CD = build("softmax", DIM, CLASSES).weight.detach()
    made = []
    for step in range(STEPS):
        label_B = torch.randint(0, CLASSES, (WORLD * LOCAL,), generator=generator)
        label_B[LOCAL] = label_B[0]
        near_BD = centre_CD[(label_B + (step == 2)) % CLASSES] if step else torch.zeros(len(label_B), DIM)
        feature_BD = near_BD + 0.25 * torch.randn(len(label_B), DIM, generator=generator)
        made.append((feature_BD * (20 * torch.rand(len(label_B), 1, generator=generator) + 5), label_B))
    return made


def steps(shard: Shard, name: str, overrides: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    """Take the steps; return the loss and gradients of each."""
    head = build(name, DIM, CLASSES, shard, **overrides)
    head.mode = "store" if mode == "gpu" else mode
    head.tuned = tuning.GPU if mode == "gpu" else None
    taken = []
    for feature_BD, label_B in batches():
        mine_LD = shard.local(feature_BD).clone().requires_grad_()
        mine_L = shard.local(label_B)
        quality_L = shard.local(torch.linspace(0, 1, len(label_B))) if head.wants_quality else None
        head.zero_grad()
        output = head(mine_LD, mine_L, quality_L, shard.local(torch.linspace(1, 0.2, len(label_B))))
        output.loss.backward()
        taken.append(
            {
                "loss": output.loss.detach(),
                # as data-parallel training takes it: the mean over processes
                "feature_grad": mine_LD.grad / shard.world_size,
                "weight_grad": head.weight.grad.clone(),
                "cosine": output.target_cosine_B,
                "nearest": output.nearest_cosine_B,
                "state": {key: value.clone() for key, value in head.named_buffers()},
                "common_grads": {key: value.grad.clone() for key, value in head.named_parameters() if key != "weight"},
            }
        )
        head.weight.data.sub_(head.weight.grad, alpha=0.01)
    return taken


def modes(index: int) -> tuple[str, ...]:
    """Return the modes for a variant; both for a few, since the difference is not in the head."""
    return ("store", "recompute", "gpu") if index < 4 else ("store",)


def broad_steps(shard: Shard) -> list[dict[str, Any]]:
    """Take the steps with BroadFace's queue; return the results of each."""
    head = build("adaface", DIM, CLASSES, shard)
    objective = broadface.build(broadface.Config(name="broadface", queue_size=2 * WORLD * LOCAL), DIM, CLASSES)
    taken = []
    for feature_BD, label_B in [*batches(), batches()[0]]:
        mine_LD = shard.local(feature_BD).clone().requires_grad_()
        head.zero_grad()
        output = objective(lambda image: image, head, [mine_LD], shard.local(label_B), 0.0)
        output.loss.backward()
        taken.append(
            {
                "loss": output.loss.detach(),
                "feature_grad": mine_LD.grad / shard.world_size,
                "weight_grad": head.weight.grad.clone(),
                "queue": objective.queue.feature_KD.clone(),
            }
        )
        head.weight.data.sub_(head.weight.grad, alpha=0.01)
    return taken


def sampled(shard: Shard) -> dict[str, Any]:
    """Return the centres that one Partial FC step moves, and their process."""
    head = build("cosface", DIM, CLASSES, Shard(shard.rank, shard.world_size, sample_rate=0.5))
    feature_BD, label_B = batches()[0]
    torch.manual_seed(shard.rank)
    output = head(shard.local(feature_BD).requires_grad_(), shard.local(label_B))
    output.loss.backward()
    gradient = head.weight.grad
    return {"sparse": gradient.is_sparse, "rows": gradient.coalesce().indices()[0], "loss": output.loss.detach()}


def refusal(shard: Shard) -> str:
    """Return the error message for batches of different sizes."""
    head = build("cosface", DIM, CLASSES, shard)
    try:
        head(torch.ones(2 + shard.rank, DIM), torch.zeros(2 + shard.rank, dtype=torch.long))
    except ValueError as error:
        return str(error)
    return ""


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    shard = Shard(rank, world_size)
    made: dict[str, Any] = {
        f"{index}-{mode}": steps(shard, *variant, mode)
        for index, variant in enumerate(SHARDABLE_VARIANTS)
        for mode in modes(index)
    }
    made["broad"] = broad_steps(shard)
    made["sampled"], made["refusal"] = sampled(shard), refusal(shard)
    torch.save(made, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
