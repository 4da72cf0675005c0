"""What a training step costs on GPUs before there is one: memory by item, and time from a roofline.

Networks run on torch's meta device: shapes and types are real, nothing is computed. Each operator takes as long as its
arithmetic or its memory traffic on a stated card, whichever is more; a real step takes longer, by about OVERHEAD.

Shapes: B batch, H = W = 112.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stages.config.training import Config
from stages.core.images.pixels import SIDE
from stages.core.losses import tuning
from stages.core.losses.margin_softmax_chunks import Plan
from stages.runtime import plugins

OVERHEAD = 1.45
"""Measured over reckoned: what this roofline of V100s leaves out of insightface's published images a second."""
CONTEXT = 3 << 29
"""Bytes of CUDA's context, cuDNN's workspace and NCCL's buffers, as usual; not reckoned."""
FLOAT = 4


@dataclass(frozen=True)
class Card:
    """A GPU by its reachable rates: operations a second by type, and bytes a second."""

    name: str
    memory_bytes: int
    half: float
    tf32: float
    ieee: float
    bytes_s: float

    @property
    def stated(self) -> str:
        """The rates as text."""
        return (
            f"{self.half / 1e12:.0f} TFLOP/s in half precision, {self.tf32 / 1e12:.0f} in TF32, "
            f"{self.ieee / 1e12:.0f} in float32, {self.bytes_s / 1e12:.1f} TB/s"
        )


H100 = Card("H100 80 GB", 80 << 30, half=400e12, tf32=300e12, ieee=45e12, bytes_s=2.6e12)


@dataclass(frozen=True)
class Cost:
    """One step of one process."""

    memory: dict[str, int]
    """Bytes by item."""
    backbone_s: float
    head_s: float

    @property
    def total_bytes(self) -> int:
        """Sum of all items."""
        return sum(self.memory.values())

    @property
    def step_s(self) -> float:
        """Seconds of a step, without waiting for data or for other processes."""
        return (self.backbone_s + self.head_s) * OVERHEAD


class Roofline(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the time of each operator on a card."""

    def __init__(self, card: Card, matmul: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.card, self.single = card, card.tf32 if matmul == "tf32" else card.ieee
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and add its time."""
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        tensors = [value for value in _pytree.tree_leaves((args, kwargs, made)) if isinstance(value, Tensor)]
        if func.is_view or not tensors:
            return made
        count = flop_registry.get(func.overloadpacket)
        rate = self.card.half if any(value.dtype.itemsize == 2 for value in tensors) else self.single
        arithmetic_s = count(*args, **kwargs, out_val=made) / rate if count else 0.0
        self.seconds += max(arithmetic_s, sum(value.nbytes for value in tensors) / self.card.bytes_s)
        return made


def cost(config: Config, num_classes: int, processes: int, card: Card = H100) -> Cost:
    """Return what a step of one of ``processes`` GPUs costs.

    Args:
        config: of the training run; `auto` is bf16.
        num_classes: of the data set.
        processes: that share batch and classes.
        card: the kind of GPU.
    """
    size, share = config.schedule.batch_size, config.schedule.batch_size // processes
    rows = -(-num_classes // processes)
    taking_part = max(round(config.class_sample_rate * rows), min(size, rows))
    head_s, head = _head(config, rows, taking_part, size, card)
    backbone_s, backbone = _backbone(config, share, processes, card)
    numbers = backbone["backbone: weights, gradient, momentum"] // 3 + head["class centres"]
    more = {"second means of AdamW": numbers * (config.schedule.optimiser == "adamw"),
            "average of the weights": numbers * (config.schedule.ema_decay is not None)}  # fmt: skip
    memory = {**head, **backbone, **{item: value for item, value in more.items() if value}}
    return Cost({**memory, "context and libraries": CONTEXT}, backbone_s, head_s)


def _head(config: Config, rows: int, taking_part: int, size: int, card: Card) -> tuple[float, dict[str, int]]:
    backbone = plugins.load("backbones", config.backbone["name"]).Config.model_validate(config.backbone)
    heads, dim = plugins.load("heads", config.head["name"]), backbone.feature_dim
    with torch.device("meta"):
        head = heads.Head(heads.Config.model_validate(config.head), dim, taking_part)
        feature_BD = torch.empty(size, dim, requires_grad=True)
        label_B, quality_B = torch.empty(size, dtype=torch.int64), torch.empty(size)
        with Roofline(card, config.compute.matmul) as roofline:
            head(feature_BD, label_B, quality_B if head.wants_quality else None).loss.backward()
    width = min(taking_part, Plan(1.0, tuning=tuning.GPU).width(size, dim))
    stored = taking_part * (max(size, dim) if head.stores(size) else dim)
    return roofline.seconds, {
        "class centres": rows * dim * FLOAT,
        "their momentum": rows * dim * FLOAT,
        "their gradient, or exponentials in its place": stored * FLOAT,
        "a chunk of the classes": width * max(size, dim) * FLOAT + width * dim * FLOAT,
    }


def _backbone(config: Config, share: int, processes: int, card: Card) -> tuple[float, dict[str, int]]:
    backbones = plugins.load("backbones", config.backbone["name"])
    halved = config.compute.precision in ("auto", "bf16", "fp16")
    with torch.device("meta"):
        network: nn.Module = backbones.build(backbones.Config.model_validate(config.backbone))
        network = network.to(torch.bfloat16) if halved else network
        objective = plugins.load("objectives", config.objective["name"])
        views = len(objective.build(objective.Config.model_validate(config.objective), 2, 2).views)
        image_B3HW = torch.empty(share * views, 3, SIDE, SIDE, dtype=torch.bfloat16 if halved else torch.float32)
    numbers = sum(parameter.numel() for parameter in network.parameters())
    kept = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in kept:
            saved[storage._cdata] = storage.nbytes()
        return value

    with Roofline(card, config.compute.matmul) as roofline:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            feature_BD = network(image_B3HW.to(memory_format=torch.channels_last))
        feature_BD.float().sum().backward()
    chunks = config.compute.chunks
    # recomputed once more where the batch goes through in parts
    seconds = roofline.seconds * (4 / 3 if chunks > 1 else 1)
    return seconds, {
        "backbone: weights, gradient, momentum": 3 * numbers * FLOAT,
        "backbone: buckets of DDP": numbers * FLOAT if processes > 1 else 0,
        "backbone: weights in half precision": numbers * 2 if halved else 0,
        "activations": sum(saved.values()) // chunks,
        "images": share * views * 3 * SIDE * SIDE * (1 + FLOAT + (2 if halved else 0)),
    }
