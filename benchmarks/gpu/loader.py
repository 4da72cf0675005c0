"""The loader: images a second from a local disk, and what a training step waits for them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from benchmarks.gpu import data, steps
from benchmarks.gpu.bench import Bench, Item, halving
from benchmarks.gpu.results import Row, at_most
from stages.core.losses.sampler import Order
from stages.runtime import numerics
from stages.training import dataset
from stages.training.dataset import Batch, Samples

WAITING = 1.02
"""Goal: a step with loading over a step without; measured to a per cent or two."""


def items(bench: Bench) -> Iterator[Item]:
    """Yield the comparison with the first, fastest network."""
    name = next(iter(bench.sizes.nets))
    yield Item(f"{name} from records", lambda: halving(bench.sizes.batch, lambda batch: compare(bench, name, batch)))


def compare(bench: Bench, name: str, batch: int) -> Row:
    """Return the speed of the loader alone, and of a training step that it feeds."""
    folder = bench.folder / "project"
    data.write(folder, bench.sizes.images)
    config = bench.config(bench.sizes.nets[name], batch)
    with data.inside(folder), numerics.applied(config.compute.matmul, benchmark=True):
        records = dataset.open_records(data.NAME)
        step = steps.Step(bench, config, records.num_classes)
        samples = Samples(records, config.augmentation.probabilities(), config.seed, ("training",))
        order = Order(len(records.key_N), batch, config.seed)
        count = min(4 * bench.sizes.repeats, 4 * order.steps_per_epoch)

        def loaded() -> Iterator[Batch]:
            return dataset.load(samples, order, 0, count, bench.device)

        alone_s, without_s = passing(bench, loaded()), bench.seconds(step.whole)
        with_s = passing(bench, loaded(), step)
    workers = dataset.num_workers(bench.device)
    return Row(
        f"{batch / alone_s:,.0f} images/s alone with {workers} workers; step {with_s * 1e3:.1f} ms with loading, "
        f"{without_s * 1e3:.1f} without",
        "no waiting", at_most("with / without", with_s / without_s, WAITING),
        numbers={"workers": workers, "loader_images_s": batch / alone_s, "with_s": with_s, "without_s": without_s},
    )  # fmt: skip


def passing(bench: Bench, batches: Iterator[Batch], step: steps.Step | None = None) -> float:
    """Return the seconds per batch, after the first few, in which the loader starts."""
    number, begin = 0, 0.0
    for warm_up, (image_VBHW3, label_B) in zip(itertools.count(), batches, strict=False):
        if warm_up == 2:
            bench.wait()
            begin = time.perf_counter()
        if step is not None:
            step.stepper.advance(warm_up, image_VBHW3, label_B)
        number += warm_up >= 2
    bench.wait()
    return (time.perf_counter() - begin) / number
