"""Files of weights on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.models import model_files


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
