"""Chunk widths of the head: its time, forward and backward, over the numbers in a chunk of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.gpu.bench import Bench, Item
from benchmarks.gpu.heads import DIM, FIELDS
from benchmarks.gpu.results import Row, at_most
from stages.core.losses import tuning
from stages.runtime import numerics, plugins

NEAR = 1.05
"""The width that facet takes may be so much slower than the best."""


def items(bench: Bench) -> Iterator[Item]:
    """Yield each number of classes and batch size."""
    for num_classes in bench.sizes.classes:
        for batch in bench.sizes.head_batches:
            what = f"adaface, {num_classes:,} classes, batch {batch}"
            yield Item(what, lambda classes=num_classes, batch=batch: compare(bench, classes, batch))  # type: ignore[misc]


def compare(bench: Bench, num_classes: int, batch: int) -> Row:
    """Return the time of each width; the one that facet takes is the largest."""
    module = plugins.load("heads", "adaface")
    config = module.Config.model_validate({"name": "adaface", **FIELDS["adaface"]})
    with bench.device:
        head = module.Head(config, DIM, num_classes)
        feature_BD = torch.randn(batch, DIM, requires_grad=True)
        label_B = torch.randint(0, num_classes, (batch,))

    def work() -> None:
        feature_BD.grad = head.weight.grad = None
        head(feature_BD, label_B).loss.backward()

    taken_s = {}
    with numerics.applied("ieee"):
        for bits in bench.sizes.chunk_bits:
            head.tuned = replace(tuning.GPU, chunk_numbers=1 << bits)
            taken_s[bits] = bench.seconds(work, repeats=3)
    last, best = taken_s[bench.sizes.chunk_bits[-1]], min(taken_s.values())
    return Row(
        ", ".join(f"2^{bits}: {value * 1e3:.1f} ms" for bits, value in taken_s.items()),
        f"2^{bench.sizes.chunk_bits[-1]} within {NEAR - 1:.0%} of the best", at_most("last / best", last / best, NEAR),
        numbers={f"2^{bits}_s": value for bits, value in taken_s.items()},
    )  # fmt: skip
