"""Files of others are read without running what they name."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.io import checkpoint_reader

WEIGHTS = {"model.input_layer.0.weight": torch.arange(4.0)}


def lightning_file(path: Path) -> None:
    """As Lightning writes it: its own classes among settings and callbacks, modules that are not installed here."""
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")
    callbacks = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    parsing.AttributeDict = type("AttributeDict", (dict,), {"__module__": parsing.__name__})
    callbacks.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": callbacks.__name__})
    made = {name: types.ModuleType(name) for name in ("pytorch_lightning", "pytorch_lightning.utilities", "pytorch_lightning.callbacks")}
    made |= {parsing.__name__: parsing, callbacks.__name__: callbacks}
    tree = {
        "epoch": 25, "pytorch-lightning_version": "1.4.4", "state_dict": WEIGHTS,
        "callbacks": {callbacks.ModelCheckpoint: {"best": np.float64(0.97), "path": Path("x")}},
        "hyper_parameters": parsing.AttributeDict(arch="ir_50", args=argparse.Namespace(lr=0.1)),
    }  # fmt: skip
    sys.modules.update(made)
    try:
        torch.save(tree, path)
    finally:
        for name in made:
            del sys.modules[name]


class Runs:
    """Pickles to a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_lightnings_own_classes_are_passed_over(tmp_path: Path):
    lightning_file(tmp_path / "a.ckpt")
    tree = checkpoint_reader.read(tmp_path / "a.ckpt")
    assert torch.equal(tree["state_dict"]["model.input_layer.0.weight"], torch.arange(4.0))
    assert "pytorch_lightning" not in sys.modules


def test_files_of_old_torch_are_read(tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert list(checkpoint_reader.read(tmp_path / "a.pth")) == list(WEIGHTS)


@pytest.mark.parametrize("function", [os.system, eval, exec])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_something_runs_nothing(function: object, new_format: bool, tmp_path: Path):
    proof = tmp_path / "ran"
    argument = f"touch {proof}" if function is os.system else f"open({str(proof)!r}, 'w').close()"
    torch.save({"state_dict": WEIGHTS, "x": Runs(function, argument)}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=function.__name__):
        checkpoint_reader.read(tmp_path / "a.ckpt")
    assert not proof.exists()


def test_a_harmless_module_is_no_way_to_run_something(tmp_path: Path):
    proof = tmp_path / "ran"
    torch.save({"state_dict": WEIGHTS, "x": Runs(np.save, str(proof), 1)}, tmp_path / "save.ckpt")
    assert isinstance(checkpoint_reader.read(tmp_path / "save.ckpt")["x"], checkpoint_reader.Inert)
    torch.save({"state_dict": WEIGHTS, "x": Runs(getattr, Path, "touch")}, tmp_path / "touch.ckpt")
    with pytest.raises(ValueError, match=r"contains builtins\.getattr, which weights do not need: nothing was loaded"):
        checkpoint_reader.read(tmp_path / "touch.ckpt")
    assert not list(tmp_path.glob("ran*"))


@pytest.mark.parametrize("keep", [0, 10, 100, 400])
def test_a_file_cut_short_is_one_sentence(keep: int, tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.pth is damaged or not a PyTorch checkpoint"):
        checkpoint_reader.read(tmp_path / "a.pth")


def test_files_of_other_kinds_are_refused(tmp_path: Path):
    (tmp_path / "text.pth").write_text("<html>Google Drive - Quota exceeded</html>")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    torch.save([1, 2], tmp_path / "list.pth")
    for name, said in (("text.pth", "not a PyTorch checkpoint"), ("list.pth", "should hold a state dict, got list")):
        with pytest.raises(ValueError, match=said):
            checkpoint_reader.read(tmp_path / name)
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        checkpoint_reader.read(tmp_path / "plain.pkl")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint_reader.read(tmp_path / "none.pth")


def test_any_flipped_byte_gives_weights_or_a_sentence(tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 200, replace=False):
        (tmp_path / "a.pth").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):  # nothing else may come out
            assert checkpoint_reader.read(tmp_path / "a.pth") is not None
