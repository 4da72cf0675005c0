"""Checkpoints of an unfinished training: outside its outputs, a folder for each, gone when it succeeds."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from stages import artifacts


class Checkpoints:
    """The last state of one training, under ``.facet/checkpoints/KEY``; another training never finds it."""

    def __init__(self, key: str) -> None:
        self.path = artifacts.STATE / "checkpoints" / key / "last.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state aside and move it: what is there is whole."""
        with artifacts.write_file(self.path) as aside:
            torch.save(state, aside)

    def last(self, device: torch.device) -> dict[str, Any] | None:
        """Return the last state, or None where there is none.

        Raises:
            ValueError: the file cannot be read; a training never starts over in silence.
        """
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:  # torch and zip raise many kinds for a damaged file
            raise ValueError(
                f"checkpoint {self.path} cannot be read ({error}): delete it to start this training over"
            ) from error
        return state

    def clear(self) -> None:
        """Remove the state of a training that has succeeded."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir():
            self.path.parent.rmdir()


def key_of(**parts: Any) -> str:
    """Return a name for one training: its parameters, its data, and the code that is loaded now.

    Code counts, because weights that two versions made between them would be neither's.
    """
    sources = {
        name: artifacts.sha256(Path(module.__file__))
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] == "stages" and getattr(module, "__file__", None) and module.__file__
    }
    text = json.dumps({"parts": parts, "sources": sources, "torch": torch.__version__}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
