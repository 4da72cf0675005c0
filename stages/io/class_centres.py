"""Reads published class centres from their own files, which may be one for each GPU, and merges these.

insightface (recognition/arcface_torch): ``rank_R_softmax_weight.pt`` of its first Partial FC is one tensor (classes of
the process, D); ``softmax_fc_gpu_R.pt`` is a state dict with ``weight``; ``checkpoint_gpu_R.pt`` has one under
``state_dict_softmax_fc``. Process r of W holds classes // W of them, one more if r is below the remainder, in rank
order. CR-FIQA's ``header.pth`` and CurricularFace's head have ``kernel`` (D, classes).

Shapes: C classes, D feature dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.io import checkpoint_reader

ROWS, COLUMNS = ("weight",), ("kernel", "head.kernel", "fc.weight")
"""Keys of centres as rows (C, D), and as columns (D, C)."""
NESTED = ("state_dict_softmax_fc", "state_dict")
RANK = re.compile(r"(?:rank|gpu)[_:]?(\d+)")


def read(paths: Sequence[Path], feature_dim: int) -> Tensor:
    """Return the centres (C, D) of one training's files, merged in the order of their ranks.

    Args:
        paths: in any order.
        feature_dim: D.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file has no centres, files of several GPUs are not complete, or the centres do not fit.
    """
    parts = [_centres(path, feature_dim) for path in _in_order(paths)]
    sizes = [len(part) for part in parts]
    each, rest = divmod(sum(sizes), len(sizes))
    if sizes != [each + (rank < rest) for rank in range(len(sizes))]:
        raise InputError(
            f"{paths[0]} and the others have {', '.join(map(str, sizes))} classes: insightface's processes share them "
            "evenly, so these are files of several trainings, or one was cut short"
        )
    return torch.cat(parts)


def _in_order(paths: Sequence[Path]) -> list[Path]:
    """Return the files by the rank in their names, which must be all from 0 up."""
    momenta = [path for path in paths if path.stem.endswith("_mom")]
    if momenta:
        raise InputError(f"{momenta[0]} holds the optimiser's momentum: give the files without _mom")
    if len(paths) == 1:
        return list(paths)
    ranks: dict[int, Path] = {}
    for path in paths:
        found = RANK.search(path.name)
        if found is None:
            raise InputError(
                f"{path} has no rank in its name: wanted softmax_fc_gpu_R.pt, rank_R_softmax_weight.pt or "
                "checkpoint_gpu_R.pt, one for each GPU"
            )
        if int(found[1]) in ranks:
            raise InputError(f"{path} and {ranks[int(found[1])]} are both of rank {found[1]}: give one training's")
        ranks[int(found[1])] = path
    if missing := sorted(set(range(max(ranks))) - ranks.keys()):
        raise InputError(
            f"files of rank {', '.join(map(str, missing))} are missing beside {ranks[max(ranks)]}: their classes would "
            "shift all that follow"
        )
    return [ranks[rank] for rank in sorted(ranks)]


def _centres(path: Path, feature_dim: int) -> Tensor:
    tree = checkpoint_reader.load(path)
    for name in NESTED:
        if isinstance(tree, Mapping) and isinstance(tree.get(name), Mapping):
            tree = tree[name]
    found = _oriented(tree)
    if found is None or found.ndim != 2:
        held = ", ".join(list(map(str, tree))[:5]) if isinstance(tree, Mapping) else type(tree).__name__
        raise InputError(f"{path} has no class centres: wanted a tensor, or {', '.join(ROWS + COLUMNS)}; got {held}")
    if found.shape[1] != feature_dim:
        raise InputError(
            f"{path} has centres of {found.shape[1]} dimensions, and the backbone's features have {feature_dim}: these "
            "are two models' files"
        )
    if not bool(found.isfinite().all()):
        raise InputError(f"{path} has centres that are not finite")
    return found.detach().float().contiguous()


def _oriented(tree: Any) -> Tensor | None:
    if isinstance(tree, Tensor):
        return tree
    known: Mapping[str, Any] = tree if isinstance(tree, Mapping) else {}
    plain = {str(name).removeprefix("module."): value for name, value in known.items() if isinstance(value, Tensor)}
    for name in ROWS:
        if name in plain:
            return plain[name]
    return next((plain[name].T for name in COLUMNS if name in plain and plain[name].ndim == 2), None)
