"""Errors of CUDA, cuDNN and NCCL as one sentence: what failed and what to change. Imports no torch.

torch raises them as a RuntimeError or a kind of one. A RuntimeError of another sort stays a bug's, with its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from stages.core.errors import OperationError

TYPES = {"OutOfMemoryError", "AcceleratorError", "DistBackendError"}
TEXTS = re.compile(r"CUDA (driver )?error|CUDNN_STATUS|CUBLAS_STATUS|cuDNN error|NCCL error|CUDA out of memory", re.I)
MEMORY = re.compile(r"out of memory|ALLOC_FAILED", re.I)

FREE_MEMORY = "free memory on it (nvidia-smi shows what uses it), or compute on the CPU (FACET_DEVICE=cpu)"
ASK_NCCL = "the GPUs' processes cannot reach one another, or one ended: NCCL_DEBUG=INFO shows which"
LOOK_CLOSER = "run again with CUDA_LAUNCH_BLOCKING=1 and FACET_DEBUG=1 to see where; nvidia-smi shows the GPU's state"


def sentence(error: RuntimeError, if_out_of_memory: str = FREE_MEMORY) -> str | None:
    r"""Return one sentence for an error of a GPU or its libraries, None for any other error.

    Args:
        error: that was raised.
        if_out_of_memory: what a person can change to need less memory.

    >>> sentence(RuntimeError("CUDA error: device-side assert triggered\nCompile with ..."))[:62]
    'the GPU failed: CUDA error: device-side assert triggered: run '
    >>> sentence(RuntimeError("shape '[2]' is invalid for input of size 3")) is None
    True
    """
    text = str(error)
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("torch")}
    if isinstance(error, OperationError) or not (kinds & TYPES or TEXTS.search(text)):
        return None
    # its numbers stand in the first sentences; the others are advice on fragmentation
    first = ". ".join(re.split(r"\.\s+(?=[A-Z])", (text.splitlines() or [""])[0])[:3]).rstrip(".")
    if "OutOfMemoryError" in kinds or MEMORY.search(text):
        return f"the GPU's memory is full ({first}): {if_out_of_memory}"
    return f"the GPU failed: {first}: {ASK_NCCL if 'NCCL' in text else LOOK_CLOSER}"


@contextmanager
def explained(if_out_of_memory: str) -> Iterator[None]:
    """Raise an OperationError in place of a GPU's error in the block; see ``sentence``."""
    try:
        yield
    except RuntimeError as error:
        if text := sentence(error, if_out_of_memory):
            raise OperationError(text) from error
        raise
