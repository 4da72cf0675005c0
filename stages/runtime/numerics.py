"""How a GPU computes float32: IEEE or TF32, and whether the same input always gives the same bits.

torch keeps these as global settings, and by default takes TF32, with 10 bits of mantissa, for convolutions. Here they
are IEEE unless a training run asks. On a CPU only ``deterministic`` does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Matmul = Literal["ieee", "tf32"]
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FILLING: Any = torch.utils.deterministic  # torch's own types do not know its one field


def set_matmul(matmul: Matmul) -> None:
    """Set the type of matrix products and convolutions of float32 tensors on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = matmul == "tf32"
    torch.backends.cudnn.allow_tf32 = matmul == "tf32"


@contextmanager
def applied(matmul: Matmul = "ieee", *, deterministic: bool = False, benchmark: bool = False) -> Iterator[None]:
    """Compute in this way in the block, and as before after it.

    Args:
        matmul: of float32 tensors.
        deterministic: use kernels that give the same bits for the same input, slower ones on a GPU; an operator that
            has none raises.
        benchmark: let cuDNN time its kernels on the first batch of each shape; not where it should be deterministic.
    """
    cudnn = torch.backends.cudnn
    before = torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32
    was = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    fills = FILLING.fill_uninitialized_memory
    set_matmul(matmul)
    cudnn.benchmark = benchmark and not deterministic
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")  # cuBLAS asks for it, before its first call
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic = True
        FILLING.fill_uninitialized_memory = False  # finds bugs, changes no result
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32 = before
        torch.use_deterministic_algorithms(was[0])
        cudnn.deterministic, cudnn.benchmark = was[1:]
        FILLING.fill_uninitialized_memory = fills
