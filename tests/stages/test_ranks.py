"""Processes of a test start clean: it does not matter what the process of the tests did before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.runtime import artifacts
from stages.training.distributed import Processes
from tests.stages import ranks
from tests.support import ROOT

# a device of its own makes autograd start threads at the first backward pass, as a GPU does
WITH_A_DEVICE = """
import torch
from torch._C import _acc

class Guard(_acc.DeviceGuard):
    def type_(self):
        return torch._C._autograd.DeviceType.PrivateUse1

guard = Guard()
_acc.register_python_privateuseone_device_guard(guard)

def backward(ours=None):
    torch.ones(2, requires_grad=True).sum().backward()

backward()
from tests.stages import ranks
ranks.run(2, backward)
"""


def backward_and_sort(ours: Processes) -> None:
    torch.ones(2, requires_grad=True).sum().backward()
    cv2.sort(np.zeros((64, 64), np.float32), cv2.SORT_EVERY_ROW)
    total = ours.sum(torch.tensor([ours.rank + 1]))
    assert int(total) == 3


def test_processes_compute_though_this_one_has_computed():
    torch.ones(2, requires_grad=True).sum().backward()
    ranks.run(2, backward_and_sort)


@pytest.mark.skipif(not hasattr(torch._C, "_acc"), reason="torch has no devices written in Python")
def test_processes_compute_though_autograd_has_threads_for_a_device_here():
    command = [sys.executable, "-c", WITH_A_DEVICE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


def test_a_process_has_the_folder_the_environment_and_the_state_folder_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_THIS_TEST", "1")
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / "state")

    def look() -> None:
        assert Path.cwd() == tmp_path
        assert os.environ["OF_THIS_TEST"] == "1"
        assert tmp_path / "state" == artifacts.STATE

    assert ranks.exit_code(look) == 0


def test_a_process_that_fails_fails_the_test_and_ends_the_others():
    def fail(ours: Processes) -> None:
        if ours.rank:
            raise ValueError("on purpose")
        ours.wait()

    with pytest.raises(AssertionError, match="exit codes"):
        ranks.run(2, fail)
