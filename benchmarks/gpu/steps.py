"""Whole training steps of real sizes: images a second, and the shares of backbone, head and idling.

Shapes: V views, B batch, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Item, halving, is_memory_full
from benchmarks.gpu.results import Row, at_most
from stages.config.training import Config
from stages.core.images.pixels import SIDE, from_rows, to_network
from stages.core.losses.sampler import Order
from stages.runtime import numerics
from stages.training import cost
from stages.training.distributed import Processes
from stages.training.step import Stepper

OF_BACKBONE, OF_ROOFLINE = 1.1, 1.25
"""Goals: a step over its backbone alone, and the backbone over its roofline."""
SAMPLES = 10**7
Work = Callable[[], object]


def items(bench: Bench) -> Iterator[Item]:
    """Yield each network with few and many classes, and the first without channels-last memory."""
    few, many = bench.sizes.classes
    ways: list[tuple[str, int, str, dict[str, Any]]] = []
    for name in bench.sizes.nets:
        ways += [(name, few, "channels last", {}), (name, many, "channels last", {})]
    ways.insert(1, (next(iter(bench.sizes.nets)), few, "contiguous", {"channels_last": False}))
    for name, num_classes, said, compute in ways:
        yield item(bench, name, num_classes, said, compute)


def item(bench: Bench, name: str, num_classes: int, said: str, compute: dict[str, Any]) -> Item:
    """Return the measurement of one network, with a smaller batch if memory is full."""
    def measure(batch: int) -> Row:
        config = bench.config(bench.sizes.nets[name], batch, compute=compute)
        with numerics.applied(config.compute.matmul, benchmark=True):
            return timed(bench, config, num_classes)

    return Item(f"{name}, {num_classes:,} classes, {said}", lambda: halving(bench.sizes.batch, measure))


class Step:
    """A training step on images that are on the device, and its two parts."""

    def __init__(self, bench: Bench, config: Config, num_classes: int) -> None:
        batch = config.schedule.batch_size
        self.stepper = Stepper(config, num_classes, Order(SAMPLES, batch, 1), Processes(device=bench.device))
        draw = torch.Generator().manual_seed(1)
        image_VBHW3 = torch.randint(0, 256, (1, batch, SIDE, SIDE, 3), dtype=torch.uint8, generator=draw)
        self.image_VBHW3 = image_VBHW3.to(bench.device)
        self.label_B = torch.randint(0, num_classes, (batch,), generator=draw).to(bench.device)
        self.image_B3HW = to_network(from_rows(self.image_VBHW3[0]), config.color_order, config.value_range)
        self.number = 0
        dim = self.stepper.networks.head.weight.shape[1]
        self.feature_BD = torch.randn(batch, dim, device=bench.device, requires_grad=True)

    def whole(self) -> None:
        """Make a step as a training does."""
        self.stepper.advance(self.number, self.image_VBHW3, self.label_B)
        self.number += 1

    def backbone(self) -> None:
        """Make a step without a head."""
        self.stepper.optimiser.zero_grad()
        self.stepper.features(self.image_B3HW).square().mean().backward()  # type: ignore[no-untyped-call]
        self.stepper.optimiser.step()

    def head(self) -> None:
        """Compute the loss and its gradients from features."""
        self.feature_BD.grad = self.stepper.networks.head.weight.grad = None
        self.stepper.networks.head(self.feature_BD, self.label_B).loss.backward()


def timed(bench: Bench, config: Config, num_classes: int) -> Row:
    """Return images a second and shares, against the roofline and the reckoned memory."""
    if bench.is_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    step = Step(bench, config, num_classes)
    whole_s = bench.seconds(step.whole)
    most = torch.cuda.max_memory_allocated(bench.device) if bench.is_gpu else 0
    backbone_s, head_s = bench.seconds(step.backbone), bench.seconds(step.head)
    found = {
        "batch": config.schedule.batch_size, "images_s": config.schedule.batch_size / whole_s, "step_s": whole_s,
        "backbone_s": backbone_s, "head_s": head_s, "memory_bytes": most, "idle": idle(bench, step.whole),
    }  # fmt: skip
    reckoned = cost.cost(config, num_classes, 1, bench.card)
    found |= {"roofline_s": reckoned.backbone_s, "reckoned_bytes": reckoned.total_bytes - cost.CONTEXT}
    return Row(
        described(found),
        f"backbone {reckoned.backbone_s * 1e3:.1f} ms by its roofline, head {reckoned.head_s * 1e3:.1f}; "
        f"{found['reckoned_bytes'] / 2**30:.1f} GiB",
        f"{at_most('step / backbone', whole_s / backbone_s, OF_BACKBONE)}; "
        f"{at_most('backbone / roofline', backbone_s / reckoned.backbone_s, OF_ROOFLINE)}",
        numbers=found,
    )  # fmt: skip


def described(found: dict[str, Any]) -> str:
    """Return the numbers of a step as text."""
    whole, backbone, head = (found[f"{name}_s"] for name in ("step", "backbone", "head"))
    text = (
        f"{found['images_s']:,.0f} images/s with batch {found['batch']}; step {whole * 1e3:.1f} ms, backbone "
        f"{backbone * 1e3:.1f} ({backbone / whole:.0%}), head {head * 1e3:.1f} ({head / whole:.0%})"
    )
    if found["idle"] is not None:
        text += f", idle {found['idle']:.0%}"
    return text + (f"; {found['memory_bytes'] / 2**30:.1f} GiB" if found["memory_bytes"] else "")


def idle(bench: Bench, work: Work, steps: int = 3) -> float | None:
    """Return the share of time in which the GPU runs no kernel, by torch's profiler; None where it sees none."""
    if not bench.is_gpu:
        return None
    whole_s = bench.seconds(work)
    try:
        # the profiler itself slows the host: kernels are timed under it, the whole without it
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
            for _ in range(steps):
                work()
            bench.wait()
        busy_s = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / steps
    except (RuntimeError, AttributeError) as error:
        if isinstance(error, RuntimeError) and is_memory_full(error):
            raise
        return None  # a container may forbid profiling: the rest of the row is worth more
    return max(0.0, 1 - busy_s / whole_s) if busy_s else None
