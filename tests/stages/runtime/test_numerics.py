"""A GPU's float32 is IEEE unless a training run asks for TF32, and what a run asks for ends with it."""

from __future__ import annotations

import pytest
import torch

from stages.runtime import devices, numerics
from tests import fake_gpus


def settings() -> tuple[bool, bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(), cudnn.deterministic,
    )  # fmt: skip


def test_what_a_block_asks_for_ends_with_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(numerics.WORKSPACE, raising=False)
    before = settings()
    with pytest.raises(ZeroDivisionError), numerics.applied("tf32", deterministic=True):
        assert settings() == (True, True, True, True)
        with numerics.applied("ieee"):  # a validation during the training
            assert settings() == (False, False, True, True)
        assert settings() == (True, True, True, True)
        _ = 1 / 0
    assert settings() == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_kernels_are_timed_unless_they_should_be_the_same_each_time(deterministic: bool):
    with numerics.applied(deterministic=deterministic, benchmark=True):
        assert torch.backends.cudnn.benchmark is not deterministic
    assert not torch.backends.cudnn.benchmark


def test_a_stage_on_a_gpu_computes_ieee_from_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_DEVICE", "cuda")
    fake_gpus.seen_by_torch(monkeypatch, 1)
    with numerics.applied("tf32"):  # torch's own start has it for convolutions
        devices.choose()
        assert settings()[:2] == (False, False)
