"""Invented GPUs: an `nvidia-smi` that lists them, and what torch answers where it sees them. No kernel runs on them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
"""Of torch 2.13's wheel for CUDA 13."""

SMI = """#!/bin/sh
[ -n "{hangs}" ] && exec sleep 60
fields=$(echo "$1" | sed 's/--query-gpu=//; s/,/ /g')
i=0
while [ $i -lt {count} ]; do
    row=""
    for field in $fields; do
        case $field in
            index) value=$i ;;
            uuid) value=$(printf 'GPU-%04d' $i) ;;
            driver_version) value={driver} ;;
            name) value='NVIDIA Invented' ;;
            memory.total) value='81559 MiB' ;;
            memory.free) value='80000 MiB' ;;
            *) exit 2 ;;
        esac
        row="$row, $value"
    done
    echo "${{row#, }}"
    i=$((i + 1))
done
"""


def listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, *, driver: str = "580.65.06", hangs: bool = False
) -> None:
    """Let `nvidia-smi` list so many GPUs, whose locks lie in a folder of the test."""
    program = folder / "bin/nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SMI.format(count=count, driver=driver, hangs="yes" if hangs else ""))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("FACET_LEASES", str(folder / "machine"))


def seen_by_torch(
    monkeypatch: pytest.MonkeyPatch, count: int = 1, capability: tuple[int, int] = (9, 0), cuda: str | None = "13.0"
) -> None:
    """Let torch, built for this CUDA, see so many GPUs."""
    major, minor = capability
    properties = SimpleNamespace(name="NVIDIA Invented", major=major, minor=minor, uuid="aa", total_memory=80 << 30)
    answers = {
        "is_available": lambda: count > 0,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: capability,
        "get_device_name": lambda device=None: properties.name,
        "get_arch_list": lambda: ARCHITECTURES,
        # of the emulation that torch asks for when it is asked carelessly
        "_check_bf16_tensor_supported": lambda device: True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.version, "cuda", cuda)
