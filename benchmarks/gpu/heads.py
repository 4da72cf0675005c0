"""Every head on this device in float32 against a CPU in float64: loss and both gradients.

Shapes: B batch, C classes, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Item
from benchmarks.gpu.results import Row
from stages.core.losses import tuning
from stages.core.losses.class_parallel import Shard
from stages.runtime import numerics, plugins

FIELDS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "combined": {"m1": 1, "m2": 0.3, "m3": 0.2},
    "cosface": {"margin": 0.35},
    "curricularface": {"margin": 0.5},
    "elasticface": {"margin_kind": "arc", "margin": 0.5},
    "magface": {},
    "mv_softmax": {"kind": "arc", "margin": 0.35},
    "softmax": {},
    "sphereface": {"margin": 1.7},
    "subcenter_arcface": {"margin": 0.5},
    "uniface": {"margin": 0.4},
}
"""Published values of what has no default; a head that is not here is measured with its defaults."""
DIM = 512
MORE = 4.0
"""A device's error may be so many times that of a CPU in float32: sums are taken in another order."""
TINY = 1e-6
Found = dict[str, Tensor]


def items(bench: Bench) -> Iterator[Item]:
    """Yield each head, and one with a sample of the classes."""
    for name in plugins.names("heads"):
        yield Item(name, lambda name=name: compare(bench, name, 1.0))  # type: ignore[misc]
    yield Item("adaface, a fifth of the classes", lambda: compare(bench, "adaface", 0.2))


def compare(bench: Bench, name: str, rate: float) -> Row:
    """Return the errors of the device and of the CPU, both in float32."""
    cpu = torch.device("cpu")
    exact = gradients(bench, name, rate, cpu, torch.float64, tuning.CPU)
    errors = {}
    for where, device, tuned in (("device", bench.device, tuning.GPU), ("CPU", cpu, tuning.CPU)):
        found = gradients(bench, name, rate, device, torch.float32, tuned)
        errors[where] = {key: float((found[key] - exact[key]).norm() / exact[key].norm()) for key in exact}
    bad = [key for key in exact if not errors["device"][key] <= MORE * errors["CPU"][key] + TINY]
    written = {
        where: ", ".join(f"{key} {value:.1e}" for key, value in of.items()) for where, of in errors.items()
    }
    verdict = f"WRONG: {', '.join(bad)}" if bad else "ok"
    return Row(written["device"], f"at most {MORE:g} x the CPU's: {written['CPU']}", verdict, numbers=errors)


def gradients(
    bench: Bench, name: str, rate: float, device: torch.device, kind: torch.dtype, tuned: tuning.Tuning
) -> Found:
    """Return the loss and the gradients of features and centres for the same numbers, on the CPU in float64."""
    size, num_classes = bench.sizes.head_batches[0], bench.sizes.head_classes
    module, draw = plugins.load("heads", name), torch.Generator().manual_seed(1)
    config = module.Config.model_validate({"name": name, **FIELDS.get(name, {})})
    head = module.Head(config, DIM, num_classes, **({} if rate == 1 else {"shard": Shard(sample_rate=rate)}))
    head.tuned = tuned
    weight_CD = torch.nn.functional.normalize(torch.randn(num_classes, DIM, generator=draw), dim=1)
    label_B = torch.randint(0, num_classes, (size,), generator=draw)
    # near their own centre and of the usual length, as in a training
    near_BD = weight_CD[label_B] + torch.randn(size, DIM, generator=draw) / DIM**0.5
    feature_BD = (22 * torch.nn.functional.normalize(near_BD, dim=1)).to(device, kind).requires_grad_()
    with torch.no_grad():  # further centres of a class, where a head has them, are anywhere
        head.weight.copy_(torch.cat([weight_CD, torch.randn(num_classes, (head.centres - 1) * DIM, generator=draw)], 1))
    head = head.to(device, kind)
    row_K = torch.cat([label_B.unique(), torch.arange(num_classes // 5)]).unique().to(device)
    torch.manual_seed(1)  # ElasticFace draws its margins
    with numerics.applied("ieee"), mock.patch.object(Shard, "sample", return_value=row_K):
        loss = head(feature_BD, label_B.to(device)).loss
        loss.backward()
    weight = head.weight.grad.to_dense() if head.weight.grad.is_sparse else head.weight.grad
    found = {"loss": loss.detach(), "features": feature_BD.grad, "centres": weight}
    return {key: value.double().cpu() for key, value in found.items()}
