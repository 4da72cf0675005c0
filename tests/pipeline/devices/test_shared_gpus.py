"""Plain `dvc repro` and `facet run` on one machine's GPUs, which `nvidia-smi` invents here; the locks are real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.devices import leases
from pipeline.devices.leases import Device
from pipeline.execution.executor import Executor
from stages.runtime.gpu_lock import lease_folder
from tests.pipeline.dummy import Dummy
from tests.support import ROOT

TAKE = """
import json, os, sys, time
sys.path.insert(0, {root!r})
from stages.runtime import gpu_lock
gpu_lock.take()
gpu_lock.take()
print(json.dumps([os.environ.get(n) for n in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")]), flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def fake_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `nvidia-smi` list so many GPUs, whose locks lie in a folder of this test."""

    def make(count: int) -> None:
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        lines = "\\n".join(f"{i}, GPU-{i:04d}" for i in range(count))
        program.write_text(f"#!/bin/sh\nprintf '{lines}\\n'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{Path(sys.executable).parent}:/usr/bin:/bin")

    for name in ("CUDA_VISIBLE_DEVICES", "FACET_DEVICE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACET_LEASES", str(tmp_path / "machine"))
    return make


@pytest.fixture
def take(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a stage that takes a GPU itself and keeps it for some seconds."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float = 60) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TAKE.format(root=str(ROOT)), str(seconds)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_stages_started_by_hand_take_a_gpu_each_and_the_next_waits(
    fake_gpus: Callable[..., None], take: Callable[..., subprocess.Popen[str]]
) -> None:
    fake_gpus(2)
    holders = [take(), take()]
    assert sorted(told(holder)[0] for holder in holders) == ["0", "1"]
    third = take()
    assert third.stderr is not None
    assert third.stderr.readline() == "waiting for a GPU: 0, 1 taken by other stages\n"
    holders[1].kill()
    assert told(third)[1] == "PCI_BUS_ID"


def test_an_outer_mask_holds_for_stages_started_by_hand(
    fake_gpus: Callable[..., None],
    take: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_gpus(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-0000")
    assert sorted(told(process)[0] for process in (take(), take())) == ["2", "GPU-0000"]


@pytest.mark.parametrize("name", ["FACET_DEVICE", "RANK"])
def test_who_was_given_a_device_takes_none(
    fake_gpus: Callable[..., None],
    take: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    fake_gpus(1)
    monkeypatch.setenv(name, "0")
    assert told(take(0)) == [None, None]


def test_a_stage_started_by_hand_and_facet_run_exclude_each_other(
    fake_gpus: Callable[..., None], take: Callable[..., subprocess.Popen[str]], make_dummy: Callable[..., Dummy]
) -> None:
    fake_gpus(1)
    holder = take()
    told(holder)
    executor = Executor(make_dummy(1).path, jobs=2)
    try:
        assert executor.devices().try_lease(needs_device=True) is None
        with executor.devices().lease(needs_device=False) as slot:
            # a stage on a CPU slot sees no GPU
            assert slot.device.environment == {
                "FACET_DEVICE": "cpu", "FACET_SLOT": "cpu:0", "CUDA_VISIBLE_DEVICES": "", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"
            }  # fmt: skip
        holder.kill()
        holder.wait()
        with executor.devices().lease(needs_device=True, timeout_s=5):
            waiting = take()
            assert waiting.stderr is not None
            assert waiting.stderr.readline().startswith("waiting for a GPU: 0 taken")
        assert told(waiting)[0] == "0"
    finally:
        executor.close()


def test_several_stages_share_a_gpu_where_that_is_asked_for(
    fake_gpus: Callable[..., None], take: Callable[..., subprocess.Popen[str]], make_dummy: Callable[..., Dummy]
) -> None:
    fake_gpus(2)
    executor = Executor(make_dummy(1).path, jobs=4, per_device=2)
    try:
        pool = executor.devices()
        held = [pool.try_lease(True) for _ in range(5)]
        # the second share of a GPU comes after the first of all
        assert [lease.device.visible if lease else None for lease in held] == ["0", "1", "0", "1", None]
        whole = leases.try_lease(Device("gpu:0", "0", "GPU-0000"), lease_folder())
        assert whole is None
        waiting = take()
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("waiting for a GPU: 0, 1 taken")
        for lease in held:
            if lease is not None:
                lease.release()
        told(waiting)
    finally:
        executor.close()
