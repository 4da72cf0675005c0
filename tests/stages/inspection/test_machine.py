"""`facet doctor` prints what a stage would compute with: invented GPUs, real locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.inspection import machine
from stages.runtime import devices, gpu_lock, locks
from stages.tools import doctor
from tests import fake_gpus


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FACET_DEVICE", "LOCAL_RANK", "RANK", "CUDA_VISIBLE_DEVICES", "FACET_LOADER_WORKERS"):
        monkeypatch.delenv(name, raising=False)


def test_gpus_are_listed_with_memory_lease_and_mask_and_what_would_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_gpus.listed(tmp_path, monkeypatch, 3)
    fake_gpus.seen_by_torch(monkeypatch, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(devices, "num_cores", lambda: 3)
    assert locks.try_lock(gpu_lock.lease_folder() / "GPU-0001.lock") is not None
    lines = dict(machine.look())
    assert lines["GPUs"].splitlines() == [
        "0: NVIDIA Invented, 80000 MiB of 81559 MiB free",
        "1: NVIDIA Invented, 80000 MiB of 81559 MiB free, leased",
        "2: NVIDIA Invented, 80000 MiB of 81559 MiB free, hidden by CUDA_VISIBLE_DEVICES=0,1",
    ]
    assert lines["NVIDIA driver"] == "580.65.06"
    assert "CUDA 13.0" in lines["torch"]
    assert "for sm_75, sm_80" in lines["torch"]
    assert lines["cores"] == "3; 3 loader processes for each that trains"
    assert lines["would use"] == "cuda (NVIDIA Invented); precision auto is bfloat16"
    assert not gpu_lock.held()


def test_a_gpu_that_torch_cannot_use_is_said_to_stop_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fake_gpus.listed(tmp_path, monkeypatch, 1, driver="470.10")
    fake_gpus.seen_by_torch(monkeypatch, 0)
    assert dict(machine.look())["would use"].startswith("nothing: torch ")
    doctor.run(["demo"])
    printed = capsys.readouterr().out
    assert "this machine" in printed
    assert "470.10" in printed


def test_of_a_machine_without_gpu_the_cpu_would_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_gpus.listed(tmp_path, monkeypatch, 0)
    lines = dict(machine.look())
    assert (lines["GPUs"], lines["NVIDIA driver"]) == ("none that nvidia-smi lists", "none")
    assert lines["would use"] == "cpu; precision auto is float32"


@pytest.mark.parametrize(("text", "most"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 10**6), ("", 10**6)])
def test_a_containers_quota_limits_the_cores(text: str, most: int, tmp_path: Path):
    path = tmp_path / "cpu.max"
    path.write_text(text)
    usable = devices.num_cores(tmp_path / "none")
    assert devices.num_cores(path) == min(most, usable)
