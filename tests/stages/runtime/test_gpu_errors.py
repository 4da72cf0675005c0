"""Errors of a GPU are one sentence that names what to change; other errors stay bugs."""

from __future__ import annotations

import argparse

import pytest
import torch
from torch.distributed import DistBackendError

from stages import train_backbone
from stages.core.errors import OperationError
from stages.runtime import gpu_errors, program
from tests.stages.small_training import config

FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.06 GiB is free. "
    "Including non-PyTorch memory, this process has 78.04 GiB memory in use. See documentation for Memory Management"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError(FULL), r"GPU's memory is full \(CUDA out of memory\. Tried .* of which 1\.06 GiB is free\): raise compute\.chunks \(4 now\), lower schedule\.batch_size \(8 now\)"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), r"memory is full .* raise compute\.chunks"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED: run again with"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"), "the GPU failed: CUDA error: an illegal memory access was encountered: run again"),
        (DistBackendError("NCCL error in: /pytorch/NCCLUtils.cpp:94, unhandled system error\nmore"), "the GPU failed: NCCL error in: .*: the GPUs' processes cannot reach"),
    ],
)  # fmt: skip
def test_a_gpus_error_in_a_training_is_one_sentence(error: RuntimeError, said: str):
    advice = train_backbone.less_memory(config(compute={"chunks": 4}))
    with pytest.raises(OperationError, match=said) as raised, gpu_errors.explained(advice):
        raise error
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_other_errors_are_raised_as_they_are():
    with pytest.raises(RuntimeError, match="shape") as raised, gpu_errors.explained(""):
        raise RuntimeError("shape '[2]' is invalid for input of size 3")
    assert type(raised.value) is RuntimeError


def test_every_stage_reports_a_gpus_error_in_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setattr(program.signal, "signal", lambda *of: None)

    def main(arguments: argparse.Namespace) -> None:
        raise torch.OutOfMemoryError(FULL)

    assert program.run(main, argparse.ArgumentParser(), []) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the GPU's memory is full (CUDA out of memory.")
    assert err.count("\n") == 1
    assert "FACET_DEVICE=cpu" in err
