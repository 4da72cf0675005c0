"""Plain `dvc repro` and `facet run` on one machine's GPUs, which `nvidia-smi` invents here; the locks are real."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.devices import leases
from pipeline.devices.leases import Device
from pipeline.execution import graph
from pipeline.execution.executor import Executor
from pipeline.execution.graph import Stage
from stages import train_backbone
from stages.runtime import artifacts, gpu_lock
from stages.runtime.gpu_lock import lease_folder
from stages.training import distributed
from tests import fake_gpus as fake_gpus_of
from tests.pipeline.dummy import Dummy
from tests.stages import small_training
from tests.support import ROOT

TAKE = """
import json, os, sys, time
sys.path.insert(0, {root!r})
from stages.runtime import gpu_lock
gpu_lock.take(int(sys.argv[2]))
gpu_lock.take(int(sys.argv[2]))
print(json.dumps([os.environ.get(n) for n in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")]), flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def fake_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `nvidia-smi` list so many GPUs, whose locks lie in a folder of this test."""

    def make(count: int) -> None:
        fake_gpus_of.listed(tmp_path, monkeypatch, count)

    for name in ("CUDA_VISIBLE_DEVICES", "FACET_DEVICE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACET_LEASES", str(tmp_path / "machine"))
    return make


@pytest.fixture
def take(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a stage that takes GPUs itself and keeps them for some seconds."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float = 60, count: int = 1) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TAKE.format(root=str(ROOT)), str(seconds), str(count)]
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


def test_a_training_of_several_processes_started_by_hand_takes_a_gpu_for_each_or_waits(
    fake_gpus: Callable[..., None], take: Callable[..., subprocess.Popen[str]], make_dummy: Callable[..., Dummy]
) -> None:
    fake_gpus(3)
    two = take(count=2)
    assert told(two)[0] == "0,1"
    three = take(count=3)
    assert three.stderr is not None
    assert three.stderr.readline() == "waiting for 3 GPUs: 0, 1, 2 taken by other stages\n"
    executor = Executor(make_dummy(1).path, jobs=2)
    try:
        # what it could not have whole it has left to others
        with executor.devices().lease(needs_device=True, timeout_s=5) as lease:
            assert lease.device.visible == "2"
            two.kill()
    finally:
        executor.close()
    assert told(three)[0] == "0,1,2"


@pytest.mark.parametrize(
    ("variables", "has"),
    [({}, "this machine shows 4 (0, 1, 2, 3)"), ({"CUDA_VISIBLE_DEVICES": "3,1"}, "this machine shows 2 (3, 1)"),
     ({"FACET_DEVICE": "gpu:0,2", "CUDA_VISIBLE_DEVICES": "0,2"}, "its lease has 2 (0, 2)")],
)  # fmt: skip
def test_more_processes_than_gpus_are_refused_in_a_sentence(
    fake_gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], has: str
) -> None:
    fake_gpus(4)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(f"8 processes need a GPU each, and {has}: set `processes` in the run")):
        gpu_lock.take(8)


def test_as_many_gpus_are_leased_as_processes_will_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resolved/runs").mkdir(parents=True)
    (tmp_path / "resolved/runs/r.yaml").write_text("train: {processes: 3}\n")
    train = Stage("train_backbone@r", "train_backbone@r", (), ())
    monkeypatch.delenv("FACET_PROCS", raising=False)
    assert graph.num_gpus(tmp_path, train) == 3
    monkeypatch.setenv("FACET_PROCS", "4")
    assert graph.num_gpus(tmp_path, train) == gpu_lock.processes(3) == 4
    # other stages are one process
    assert graph.num_gpus(tmp_path, Stage("evaluate_hq@r", "evaluate_hq@r", (), ())) == 1


def test_a_process_that_was_started_as_one_of_several_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACET_PROCS", "2")
    monkeypatch.setenv("RANK", "1")
    assert gpu_lock.processes(3) == 1


@pytest.mark.parametrize("given", ["0", "two"])
def test_a_number_of_processes_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("FACET_PROCS", given)
    with pytest.raises(ValueError, match=f"FACET_PROCS should be the number of processes, 1 or more, got '{given}'"):
        gpu_lock.processes(1)


@pytest.mark.parametrize(("configured", "given", "shown"), [(2, None, "0,1"), (1, "3", "0,1,2"), (1, None, None)])
def test_a_training_locks_a_gpu_for_each_process_before_it_starts_any(
    fake_gpus: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    configured: int, given: str | None, shown: str | None,
) -> None:  # fmt: skip
    fake_gpus(3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_lock, "_held", [])
    monkeypatch.setattr(os, "environ", {**os.environ})
    section = small_training.config().model_dump(mode="json") | {"processes": configured}
    artifacts.write_yaml(tmp_path / "resolved/runs/r.yaml", {"train": section})
    if given is not None:
        os.environ["FACET_PROCS"] = given
    started: list[tuple[str | None, int, int]] = []

    def launch(module: str, arguments: list[str], count: int) -> None:
        started.append((os.environ.get("CUDA_VISIBLE_DEVICES"), len(gpu_lock.held()), count))

    monkeypatch.setattr(distributed, "launch", launch)
    monkeypatch.setattr(train_backbone.devices, "choose", lambda: torch.device("cpu"))
    monkeypatch.setattr(train_backbone, "train", lambda *of: None)
    train_backbone.main(argparse.Namespace(run="r"))
    count = 0 if shown is None else len(shown.split(","))
    assert started == ([] if shown is None else [(shown, count, count)])
    for descriptor in gpu_lock.held():
        os.close(descriptor)
