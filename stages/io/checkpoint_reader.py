"""Reads other projects' checkpoints: tensors only; no code that the file names is ever imported or called.

``torch.load(weights_only=True)`` makes tensors and plain containers. Lightning's files hold its own settings beside the
weights; the classes they name are replaced by inert ones of ours, which take anything and do nothing.
"""

from __future__ import annotations

import importlib.util
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import InputError

HARMLESS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "argparse.", "pathlib.", "numpy.", "omegaconf.")
"""Objects that published training programs store beside the weights; read as ``Inert``."""
DAMAGED = (
    RuntimeError, EOFError, KeyError, IndexError, TypeError, AttributeError, ValueError, AssertionError,
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, OverflowError, NotImplementedError,
)  # fmt: skip


class Inert:
    """Stand-in for an object that is not needed: accepts every argument and state, and keeps none."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read(path: Path) -> Mapping[str, Any]:
    """Return the contents of a checkpoint: a mapping of tensors, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, no checkpoint, holds no mapping, or names code that no checkpoint needs.
    """
    tree = load(path)
    if isinstance(tree, torch.Tensor):
        raise InputError(
            f"{path} is one tensor of shape {tuple(tree.shape)}, as the class centres that insightface keeps in a file "
            "for each GPU (rank_0_softmax_weight.pt): give the backbone's file, and these after --head"
        )
    if not isinstance(tree, Mapping):
        raise InputError(f"{path} should hold a state dict, got {type(tree).__name__}: save model.state_dict()")
    return tree


def load(path: Path) -> Any:
    """Return the contents of a file whatever they are: tensors and plain containers, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, no checkpoint, or names code that no checkpoint needs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}: give the downloaded file")
    if path.suffix == ".onnx":
        raise InputError(f"{path} is an ONNX file, which names no weights: give the PyTorch file it was made of")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    known = stand_ins(path)
    try:
        with torch.serialization.safe_globals(known), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is an error anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        size = path.stat().st_size
        raise InputError(f"{path} has {size:,} bytes and wants more memory than is left: is it damaged?") from error
    except DAMAGED as error:
        raise InputError(f"{path} is damaged or not a PyTorch checkpoint: {_reason(error)}") from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    if importlib.util.find_spec("safetensors") is None:
        raise InputError(f"{path} needs safetensors: pip install 'facet[export]'")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tree: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file: {error}") from error
    return tree


def stand_ins(path: Path) -> list[Any]:
    """Return stand-ins for the classes that a file names: (ours, their name), as torch expects them.

    Files of before torch 1.6 are not listed; those that are published name nothing but tensors.

    Raises:
        ValueError: it names something that no checkpoint needs.
    """
    try:
        if not zipfile.is_zipfile(path):
            return []
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except DAMAGED:
        return []  # reading it says what is wrong
    foreign = [name for name in named if not name.startswith(HARMLESS)]
    if foreign:
        raise InputError(
            f"{path} contains {', '.join(sorted(foreign)[:5])}, which weights do not need: nothing was loaded. "
            "If you trust its author, save its state dict alone and import that"
        )
    # only true mappings may be filled with items
    return [(OrderedDict if name.lower().endswith("dict") else Inert, name) for name in named]


def _reason(error: Exception) -> str:
    """Return torch's error message, without its advice to run the file's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = ("Weights only load failed", "Please file an issue", "Check the documentation", "(1)", "(2)")
    told = [line.removeprefix("WeightsUnpickler error: ") for line in lines if not line.startswith(advice)]
    return (" ".join(told) or type(error).__name__)[:200]
