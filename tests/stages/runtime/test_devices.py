"""Which device a stage computes on."""

from __future__ import annotations

import pytest
import torch

from stages.runtime import devices
from stages.training import distributed


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")  # no lease
    for name in ("FACET_DEVICE", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "local", "device"),
    [
        ("cpu", "1", "cpu"), ("cpu:3", None, "cpu"), ("cpu:0", "1", "cpu"),
        ("cuda", None, "cuda"), ("cuda", "1", "cuda:1"), ("cuda:2", "1", "cuda:2"),
        ("gpu:3,5", "1", "cuda:1"), ("gpu:3", None, "cuda"),
    ],
)  # fmt: skip
def test_each_process_of_a_machine_takes_its_own_gpu(
    given: str, local: str | None, device: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FACET_DEVICE", given)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    assert devices.choose() == torch.device(device)


def test_a_device_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_DEVICE", "gpu")
    with pytest.raises(ValueError, match="FACET_DEVICE should be cpu, cuda or cuda:0, got 'gpu'"):
        devices.choose()


def test_several_processes_on_one_gpu_are_refused_before_they_meet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(ValueError, match="process 1 of this machine should compute on cuda:1, got cuda:0"),
        distributed.joined(torch.device("cuda:0")),
    ):
        pass
