"""Sizes and ways of the sum over classes that differ between a CPU and a GPU; results are the same up to rounding.

A CPU is fast while a chunk of the classes stays in its cache, and may look before it computes. A GPU is fast on large
products, and stands idle whenever the host asks for a number: there nothing depends on the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tuning:
    """How to compute on one type of device."""

    chunk_numbers: int
    """Numbers in a chunk's exponentials and weights together."""
    store_bytes: int
    """Limit of the stored exponentials for a batch larger than the feature dimension."""
    asks: bool
    """Whether the host reads values, to check labels and to leave out what changes nothing."""
    in_place: bool
    """Whether products are written and added in place, and norms taken of all centres at once; if not, products are
    by the faster library of ``matmul.product`` and norms by chunk."""


CPU = Tuning(chunk_numbers=1 << 20, store_bytes=1 << 30, asks=True, in_place=False)
"""Tuned by benchmarks/bench_heads.py."""
GPU = Tuning(chunk_numbers=1 << 28, store_bytes=4 << 30, asks=False, in_place=True)
"""Two million classes of 512 numbers are 8 chunks; a chunk's temporaries take about 1 GiB. Not measured on a GPU."""


def of(device: torch.device) -> Tuning:
    """Return what suits a device.

    >>> of(torch.device("cpu")).asks
    True
    """
    return CPU if device.type == "cpu" else GPU
