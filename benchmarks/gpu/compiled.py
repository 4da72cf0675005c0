"""The same steps with a compiled backbone: last, because compiling takes a minute and may lack a compiler."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu import steps
from benchmarks.gpu.bench import Bench, Item


def items(bench: Bench) -> Iterator[Item]:
    """Yield each network with few classes."""
    for name in bench.sizes.nets:
        yield steps.item(bench, name, bench.sizes.classes[0], "channels last, compiled", {"compile": True})
