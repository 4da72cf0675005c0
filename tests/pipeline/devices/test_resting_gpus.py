"""A GPU that failed by itself is leased again after a while; `nvidia-smi` invents the GPUs, marks and locks are real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.devices import leases
from pipeline.devices.leases import Pool
from stages.inspection import machine
from stages.runtime import gpu_lock, gpu_rest
from tests import fake_gpus
from tests.support import ROOT

FAILS = """
import argparse, sys
from stages.core.errors import OperationError
from stages.runtime import gpu_lock, program

def main(arguments):
    gpu_lock.take()
    try:
        raise RuntimeError({text!r})
    except RuntimeError as error:
        {then}

sys.exit(program.run(main, argparse.ArgumentParser()))
"""
ECC = "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "FACET_DEVICE", "RANK", "LOCAL_RANK", gpu_rest.HELD):
        monkeypatch.delenv(name, raising=False)
    fake_gpus.listed(tmp_path, monkeypatch, 2)


def fail(text: str, environment: dict[str, str], then: str = "raise") -> str:
    """Run a stage that meets an error of its GPU; return what it says."""
    code = FAILS.format(text=text, then=then)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def leased(pool: Pool, count: int = 2) -> list[str]:
    """Return the names of the GPUs that a pool gives, and give them back."""
    held = [pool.try_lease(True) for _ in range(count)]
    for lease in held:
        if lease is not None:
            lease.release()
    return [lease.device.name for lease in held if lease is not None]


def age(identity: str, seconds: float) -> None:
    mark = gpu_lock.lease_folder() / f"{identity}.rests"
    os.utime(mark, (mark.stat().st_mtime - seconds,) * 2)


@pytest.mark.parametrize("then", ["raise", "raise OperationError('the GPU failed') from error"])
def test_a_gpu_that_failed_by_itself_is_not_leased_for_a_while(tmp_path: Path, then: str) -> None:
    pool = Pool(leases.find_gpus(), 1, tmp_path)
    with pool.lease(True, timeout_s=5) as lease:
        said = fail(ECC, lease.device.environment, then)
        assert lease.device.name == "gpu:0"
    assert "the GPU failed" in said
    assert f"GPU-0000 is not used again for 15 minutes, unless you remove {gpu_lock.lease_folder()}/GPU-0000.rests" in said
    assert leased(pool) == ["gpu:1"]
    assert "0: NVIDIA Invented, 80000 MiB of 81559 MiB free, rests after a fault" in machine._gpus()
    age("GPU-0000", gpu_rest.REST_S + 1)
    assert leased(pool) == ["gpu:0", "gpu:1"]


def test_a_stage_started_by_hand_takes_none_that_rests(tmp_path: Path) -> None:
    assert "GPU-0000 is not used again" in fail(ECC, {})
    assert "GPU-0001 is not used again" in fail(ECC, {})
    assert leased(Pool(leases.find_gpus(), 1, tmp_path)) == []


def test_of_several_processes_the_gpu_of_the_one_that_failed_rests(tmp_path: Path) -> None:
    pool = Pool(leases.find_gpus(), 1, tmp_path)
    lease = pool.try_lease(True, 2)
    assert lease is not None
    with lease:
        fail(ECC, lease.device.environment | {"LOCAL_RANK": "1", "RANK": "1"})
    assert leased(pool) == ["gpu:0"]


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "CUDA out of memory. Tried to allocate 20.00 GiB"])
def test_what_a_program_did_wrong_lets_no_gpu_rest(tmp_path: Path, text: str) -> None:
    assert "not used again" not in fail(text, {})
    assert leased(Pool(leases.find_gpus(), 1, tmp_path)) == ["gpu:0", "gpu:1"]


def test_a_stage_on_a_cpu_marks_nothing(tmp_path: Path) -> None:
    assert "not used again" not in fail(ECC, {"FACET_DEVICE": "cpu"})
    assert not list(gpu_lock.lease_folder().glob("*.rests"))
