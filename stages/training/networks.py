"""Networks of one training run: created from the seed, placed on a device, shared among processes.

Shapes: B batch, C classes, D feature dimensions, H = W = 112.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from stages.config.training import Compute, Config, Precision, Schedule
from stages.core.errors import InputError
from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import CosineHead
from stages.core.losses.objective import Objective
from stages.core.networks.batch_norm import sync_over_processes
from stages.runtime import plugins
from stages.training.distributed import Processes

COMPILE_STEPS = 2000
"""Steps from which compiling pays on a GPU, as reckoned: minutes of compiling against a fifth of each step."""


@dataclass
class Networks:
    """The trained modules, and the configurations with every default filled in."""

    backbone: nn.Module
    head: CosineHead
    objective: Objective
    backbone_config: BaseModel
    head_config: BaseModel

    def modules(self) -> nn.ModuleDict:
        """Return all trained modules."""
        return nn.ModuleDict({"backbone": self.backbone, "head": self.head, "objective": self.objective})


def build(config: Config, num_classes: int, shard: Shard | None = None) -> Networks:
    """Return backbone, head and objective with initial weights drawn from the seed.

    Args:
        config: of the training.
        num_classes: of all processes.
        shard: this process's part of the classes; None: all.
    """
    backbones = plugins.load("backbones", config.backbone["name"])
    heads = plugins.load("heads", config.head["name"])
    objectives = plugins.load("objectives", config.objective["name"])
    backbone_config = backbones.Config.model_validate(config.backbone)
    head_config = heads.Config.model_validate(config.head)
    # before the networks are made: AdaFace's main.py seeds after, so that its initial weights are anyone's
    torch.manual_seed(config.seed)
    backbone = backbones.build(backbone_config)
    dim = backbone_config.feature_dim
    head = heads.Head(head_config, dim, num_classes, **({} if shard is None else {"shard": shard}))
    objective = objectives.build(objectives.Config.model_validate(config.objective), dim, num_classes)
    objective.epochs = config.schedule.epochs
    if head.centres > 1 and objective.needs_centres:
        raise InputError(
            f"objective {config.objective['name']} compares features with one centre of each class, and head "
            f"{config.head['name']} has {head.centres}: take objective classification, or another head"
        )
    return Networks(backbone, head, objective, backbone_config, head_config)


def place(networks: Networks, compute: Compute, processes: Processes, num_steps: int = 0) -> nn.Module:
    """Move the networks to the device; return the backbone as it is called in training: chunked, shared, compiled.

    Args:
        networks: to move.
        compute: the numerical settings.
        processes: that share the batch.
        num_steps: of the training run, for ``compile: auto``.
    """
    device = processes.device
    if compute.sync_batch_norm and processes.size > 1:
        networks.backbone = sync_over_processes(networks.backbone, on_gpu=device.type == "cuda")
    networks.modules().to(device)
    if compute.precision == "fp64":
        networks.modules().double()
    if compute.channels_last:
        networks.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    is_trained = any(parameter.requires_grad for parameter in networks.backbone.parameters())
    called: nn.Module = networks.backbone
    compiled = compiles(compute, device, num_steps)
    if compute.chunks > 1:
        called = InChunks(_compiled(called) if compiled else called, compute.chunks)
    if processes.size > 1 and is_trained:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames the argument, 2.6 has no other
            # statistics of batch norms are each process's own, or equal: nothing to broadcast, and two views may run
            called = DistributedDataParallel(called, broadcast_buffers=False)
    # around DDP, which then cuts the graph at its buckets and exchanges one while the next is computed
    return _compiled(called) if compiled and compute.chunks == 1 else called


def compiles(compute: Compute, device: torch.device, num_steps: int) -> bool:
    """Return whether the backbone is compiled: as configured, or, for auto, on a GPU if there are steps to pay for it.

    >>> compiles(Compute(compile="auto"), torch.device("cuda"), 10_000)
    True
    """
    if compute.compile == "auto":
        return device.type == "cuda" and num_steps > COMPILE_STEPS
    return compute.compile


def _compiled(network: nn.Module) -> nn.Module:
    made: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return made


class InChunks(nn.Module):
    """A network that runs a batch in parts and keeps no activations: the backward pass runs each part once more.

    Loss and gradients are those of the whole batch, since the head sees all features at once; this is no
    accumulation of losses, which would be another thing for heads with statistics or queues. Batch norms
    normalise by their part.
    """

    def __init__(self, network: nn.Module, chunks: int) -> None:
        super().__init__()
        self.network, self.chunks = network, chunks

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return feature_BD."""
        parts = image_B3HW.tensor_split(self.chunks)
        return torch.cat([
            checkpoint(self.network, part, use_reentrant=False, context_fn=self._contexts) for part in parts
        ])  # fmt: skip

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(self.network)


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Make batch norms normalise by their batch without updating their running statistics a second time."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, _copy(norm.num_batches_tracked)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _copy(count: Tensor | None) -> Tensor | None:
    return None if count is None else count.clone()


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type that the backbone computes in.

    >>> autocast_type("auto", torch.device("cpu"))
    torch.float32
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        # not torch.cuda.is_bf16_supported: it counts emulation, which every card has and cuDNN's convolutions have not
        has_bf16 = torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if has_bf16 else torch.float16
    types = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return types[precision]


def parameter_groups(networks: nn.Module, schedule: Schedule) -> list[dict[str, object]]:
    """Return the parameters with weight decay and those without, as ``schedule.decayed`` says.

    Where the head learns at a rate of its own, its parameters follow in groups with a ``rate_scale``.
    """
    spared = _spared(networks, schedule)
    scale = schedule.head_learning_rate_scale
    named = [(name, p) for name, p in networks.named_parameters() if p.requires_grad]
    apart = {id(p) for name, p in named if scale != 1 and name.startswith("head.")}
    groups = []
    for of_head in (False, True) if apart else (False,):
        for is_spared, decay in ((False, schedule.weight_decay), (True, 0.0)):
            chosen = [p for _, p in named if (id(p) in apart) is of_head and (id(p) in spared) is is_spared]
            if chosen or not of_head:
                groups.append({"params": chosen, "weight_decay": decay, "rate_scale": scale if of_head else 1.0})
    return groups


def _spared(networks: nn.Module, schedule: Schedule) -> set[int]:
    """Return the identities of the parameters without weight decay."""
    spared: set[int] = set()
    for module in networks.modules():
        if isinstance(module, _BatchNorm) and schedule.decayed != "all":
            spared |= {id(parameter) for parameter in module.parameters(recurse=False)}
    if schedule.decayed in ("all_but_batch_norms_and_biases", "all_but_vectors"):
        spared |= {id(p) for name, p in networks.named_parameters() if name.rpartition(".")[2] == "bias"}
    if schedule.decayed == "all_but_vectors":
        tokens = ("pos_embed", "mask_token")
        spared |= {id(p) for name, p in networks.named_parameters() if p.ndim <= 1 or name.endswith(tokens)}
    return spared


def with_backbone_rate(
    groups: list[dict[str, object]], networks: nn.Module, scale: float
) -> list[dict[str, object]]:
    """Return the groups with the backbone's parameters in groups of their own, after the others.

    Args:
        groups: of ``parameter_groups``.
        networks: the modules ``backbone``, ``head`` and ``objective``.
        scale: the backbone's learning rate over that of the schedule.
    """
    of_backbone = {id(p) for name, p in networks.named_parameters() if name.startswith("backbone.")}
    split: list[list[dict[str, object]]] = [[], []]
    for group in groups:
        parameters = list(cast("Iterable[nn.Parameter]", group["params"]))
        rest = [p for p in parameters if id(p) not in of_backbone]
        split[0].append({**group, "params": rest})
        split[1].append({**group, "params": [p for p in parameters if id(p) in of_backbone], "rate_scale": scale})
    return split[0] + split[1]
