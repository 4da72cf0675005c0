"""Checkpoints that other code, or another torch, left of the same training run: nothing resumes from them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import InputError
from stages.runtime import artifacts
from stages.training.checkpoints import MANIFEST, Checkpoints

SAME = ("train", "records", "initial")
"""What makes it the same training run: parameters, data, and the weights to start from."""


def sentence(checkpoints: Checkpoints) -> str:
    """Return what is there of the same training run under another key, and why it is not used; empty if nothing is."""
    mine = checkpoints.about
    if "code" not in mine:
        return ""
    found: list[tuple[int, Path, dict[str, Any]]] = []
    for path in checkpoints.folder.parent.glob(f"*/step-*/{MANIFEST}"):
        with suppress(OSError, InputError, TypeError, ValueError):
            tree = artifacts.read_json(path)
            if tree.get("key") != mine["key"] and all(tree.get(name) == mine.get(name) for name in SAME):
                found.append((int(tree["step"]), path.parent.parent, tree))
    if not found:
        return ""
    step, folder, tree = max(found, key=lambda one: one[0])
    return (
        f"it begins at its first step, though {folder} has a checkpoint after step {step}: {_difference(tree, mine)}, "
        "and weights that two versions made between them would be neither's. Go back to that version to resume it, or "
        f"delete {folder}"
    )


def _difference(tree: dict[str, Any], mine: dict[str, Any]) -> str:
    code, own = tree.get("code") or {}, mine["code"]
    changed = sorted(name for name in {*code, *own} if code.get(name) != own.get(name))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        return f"the code has changed since ({', '.join(changed[:3])}{more})"
    return f"torch {tree.get('torch')} wrote it, and this is {torch.__version__}"
