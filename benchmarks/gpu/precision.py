"""What precision costs and changes: the last linear layer in bf16 or float32, and TF32 against IEEE.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu import steps
from benchmarks.gpu.bench import Bench, Item, halving
from benchmarks.gpu.heads import DIM, FIELDS
from benchmarks.gpu.results import Row, at_most
from stages.core.losses import tuning
from stages.core.networks.feature_layer import FeatureLayer
from stages.runtime import numerics, plugins
from stages.runtime.numerics import Matmul

FREE = 1.02
"""Goal: a step with the last layer in float32 over one without."""
Found = tuple[float, list[Tensor]]


def items(bench: Bench) -> Iterator[Item]:
    """Yield the last layer, and TF32 in heads."""
    name, batch = next(iter(bench.sizes.nets)), bench.sizes.batch
    what = f"{name}: last layer in bf16 against float32"
    yield Item(what, lambda: halving(batch, lambda size: last_layer(bench, name, size)))
    for num_classes in bench.sizes.classes:
        yield Item(f"adaface, {num_classes:,} classes: TF32 against IEEE", lambda of=num_classes: head(bench, of))  # type: ignore[misc]


def last_layer(bench: Bench, name: str, batch: int) -> Row:
    """Return a step's time and its features' error for both, against the whole network in float32."""
    config = bench.config(bench.sizes.nets[name] | {"dropout": 0.0}, batch)
    with numerics.applied("ieee", benchmark=True):
        step = steps.Step(bench, config, bench.sizes.head_classes)
        with torch.no_grad():
            exact_BD = step.stepper.networks.backbone(step.image_B3HW).float()
        ways = {"float32": nullcontext, "bf16": as_autocast_says}
        errors, found = {}, {}
        for way, how in ways.items():
            with how(), torch.no_grad():
                errors[way] = angle(step.stepper.features(step.image_B3HW), exact_BD)
        for way, how in ways.items():  # after both errors, because a step changes the weights
            with how():
                found[way] = bench.seconds(step.whole), errors[way]
    numbers = {f"{way}_{kind}": of[n] for way, of in found.items() for n, kind in enumerate(("s", "error"))}
    said = [f"{way}: step {taken * 1e3:.1f} ms, features {error:.1e} apart" for way, (taken, error) in found.items()]
    return Row(
        ", ".join(said),
        "float32 is nearer and costs nothing", at_most("float32 / bf16", found["float32"][0] / found["bf16"][0], FREE),
        numbers=numbers,
    )  # fmt: skip


def as_autocast_says() -> AbstractContextManager[object]:
    """Let autocast decide on the last layer, as it did before that left it."""
    return mock.patch.object(FeatureLayer, "forward", nn.Linear.forward)


def angle(feature_BD: Tensor, exact_BD: Tensor) -> float:
    """Return the mean distance of unit features."""
    difference_BD = functional.normalize(feature_BD.float()) - functional.normalize(exact_BD.float())
    return float(difference_BD.norm(dim=1).mean())


def head(bench: Bench, num_classes: int) -> Row:
    """Return the time of both, and how far the gradients of TF32 are from those of IEEE."""
    module = plugins.load("heads", "adaface")
    config = module.Config.model_validate({"name": "adaface", **FIELDS["adaface"]})
    with bench.device:
        made = module.Head(config, DIM, num_classes)
        made.tuned = tuning.GPU
        feature_BD = torch.randn(bench.sizes.batch, DIM, requires_grad=True)
        label_B = torch.randint(0, num_classes, (bench.sizes.batch,))

    def work() -> None:
        feature_BD.grad = made.weight.grad = None
        made(feature_BD, label_B).loss.backward()

    def found(matmul: Matmul, work: Callable[[], None]) -> Found:
        with numerics.applied(matmul):
            taken_s = bench.seconds(work)
        return taken_s, [feature_BD.grad.clone(), made.weight.grad.clone()]  # type: ignore[union-attr]

    (ieee_s, exact), (tf32_s, rough) = found("ieee", work), found("tf32", work)
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(rough, exact, strict=True)]
    return Row(
        f"IEEE {ieee_s * 1e3:.1f} ms, TF32 {tf32_s * 1e3:.1f} ms, {ieee_s / tf32_s:.1f} x as fast; gradients of "
        f"features {errors[0]:.1e} and of centres {errors[1]:.1e} apart",
        f"{bench.card.tf32 / bench.card.ieee:.1f} x as fast by the rates", "",
        numbers={"ieee_s": ieee_s, "tf32_s": tf32_s, "feature_error": errors[0], "centre_error": errors[1]},
    )  # fmt: skip
