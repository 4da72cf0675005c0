"""Files of weights on a full disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stages.models import export, model_files


def test_weights_that_do_not_fit_are_told_in_one_sentence(tmp_path: Path) -> None:
    full = tmp_path / "weights.pt"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"weights.pt cannot be written whole: make room, or make its folder writable \(.*\)"):
        model_files.save({"weight": torch.zeros(9)}, full)


def test_what_is_no_fault_of_the_disk_stays_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        model_files.save({}, tmp_path / "weights.pt")


@pytest.mark.parametrize("kind", ["program", "TorchScript"])
def test_a_program_that_does_not_fit_is_an_error_and_no_abort(tmp_path: Path, kind: str) -> None:
    full = tmp_path / "program.pt2"
    full.symlink_to("/dev/full")
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 112 * 112, 2)).eval()
    with pytest.raises(OSError, match="No space left on device"):
        if kind == "program":
            model_files.save_program(full, backbone, "BGR")
        else:
            model: Any = SimpleNamespace(color_order="BGR", value_range=(-1.0, 1.0))
            network = export.Network(backbone, None, feature_only=True)
            export.write_torchscript(full, export.Portable(network, model, {}))
