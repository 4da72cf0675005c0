"""The card, driver and versions, and what the card reaches: the rates of the roofline that all else is held against."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.bench import Bench, Item
from benchmarks.gpu.results import Row
from stages.config.training import Compute
from stages.runtime import numerics
from stages.training import environment
from stages.training.cost import H100, Card
from stages.training.networks import autocast_type

CONVOLUTION_SIDE = 14
"""Of the images in most layers of an IResNet, which have 256 channels there."""


def items(bench: Bench) -> Iterator[Item]:
    """Yield the facts and the rates."""
    yield Item("machine", lambda: facts(bench))
    yield Item("rates", lambda: rates(bench))


def facts(bench: Bench) -> Row:
    """Return card, driver, versions and commit."""
    compute = Compute.model_validate({})
    found: dict[str, Any] = environment.describe(bench.device, compute, 1)
    found = {name: value for name, value in found.items() if not name.endswith("sha256") and value is not None}
    if bench.is_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        found["memory_gib"] = round(properties.total_memory / 2**30, 1)
        found["compute_capability"] = f"{properties.major}.{properties.minor}"
    found["commit"] = commit()
    return Row(", ".join(f"{name} {value}" for name, value in found.items()), numbers=found)


def commit() -> str:
    """Return the commit that is measured, with a plus if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def rates(bench: Bench) -> Row:
    """Return operations a second of a convolution and of products, and bytes a second of a copy, as reached here."""
    with numerics.applied("ieee", benchmark=True):
        half, ieee = convolution(bench), product(bench)
    with numerics.applied("tf32", benchmark=True):
        tf32 = product(bench)
    found = {"half": half, "tf32": tf32, "ieee": ieee, "bytes_s": copying(bench)}
    stated = {"half": H100.half, "tf32": H100.tf32, "ieee": H100.ieee, "bytes_s": H100.bytes_s}
    said = ", ".join(
        f"{name} {found[name] / 1e12:.3g} (stated for {H100.name}: {stated[name] / 1e12:.3g})" for name in found
    )
    return Row(f"{said}; in 10^12 a second: half is a 3 x 3 convolution, tf32 and ieee are products", numbers=found)


def convolution(bench: Bench) -> float:
    """Return operations a second of an IResNet's most frequent convolution, in the precision of `auto`."""
    width, batch = max(8, bench.sizes.side // 32), bench.sizes.batch
    kind = autocast_type("auto", bench.device)
    side, last = CONVOLUTION_SIDE, torch.channels_last
    layer = nn.Conv2d(width, width, 3, padding=1, bias=False).to(bench.device, kind).to(memory_format=last)
    image = torch.randn(batch, width, side, side, device=bench.device, dtype=kind).to(memory_format=last)
    with torch.no_grad():
        taken_s = bench.seconds(lambda: layer(image))
    return 2 * batch * side * side * width * width * 9 / taken_s


def product(bench: Bench) -> float:
    """Return operations a second of a square product in float32."""
    side = bench.sizes.side
    left, right, out = (torch.randn(side, side, device=bench.device) for _ in range(3))
    return 2 * side**3 / bench.seconds(lambda: torch.mm(left, right, out=out), repeats=3)


def copying(bench: Bench) -> float:
    """Return bytes a second, read and written, of a large copy."""
    number = bench.sizes.side**2 * 4
    source, target = (torch.zeros(number, device=bench.device) for _ in range(2))
    copy: Callable[[], Tensor] = lambda: target.copy_(source)  # noqa: E731
    return 2 * source.nbytes / bench.seconds(copy)


def card(numbers: dict[str, Any]) -> Card:
    """Return the card of a roofline by what the rows of this part found; the stated one if they found nothing."""
    if "bytes_s" not in numbers:
        return H100
    memory = int(numbers.get("memory_gib", 0) * 2**30)
    rates = {name: float(numbers[name]) for name in ("half", "tf32", "ieee", "bytes_s")}
    return Card(str(numbers.get("device", "this card")), memory, **rates)
