"""A GPU that computes nothing: torch's meta device, and what a program does to it, counted.

Shapes, types and autograd are torch's own, so that whole training steps run at any size on any torch; there are no
numbers, and so whatever the host asks for is made up here. (FakeTensorMode, which calls its tensors `cuda`, cannot run
autograd on a torch that is built without CUDA.)
"""

from __future__ import annotations

import contextlib
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support import ROOT

ASKED = {"aten::nonzero", "aten::_unique2", "aten::unique_dim", "aten::bincount", "aten::masked_select", "aten::_coalesce"}
"""Operators whose output's size depends on values: the host waits for it."""


class Counted(TorchDispatchMode):
    """Counts operators, and the times that the host waits, by file and line of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in _pytree.tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        kinds = {value.device.type for value in tensors if value.dim()}
        name = func.name()
        if name == "aten::_local_scalar_dense" and "meta" in {value.device.type for value in tensors}:
            self.wait(name)
            return 1.0 if args[0].is_floating_point() else 1
        to = torch.device(kwargs.get("device") or "cpu").type
        if name == "aten::_to_copy" and kwargs.get("device") and {to, args[0].device.type} == {"meta", "cpu"}:
            if not kwargs.get("non_blocking"):
                self.wait(f"{name} to {to}")
            return torch.zeros_like(args[0], device=to, dtype=kwargs.get("dtype"))
        assert len(kinds) < 2, f"{name} at {_where()} takes tensors on {sorted(kinds)}"
        if name in ASKED:
            self.wait(name)
        self.operators += bool(tensors) and "meta" in kinds and not func.is_view
        return func(*args, **kwargs)

    def wait(self, what: str) -> None:
        self.waits[f"{what} at {_where()}"] += 1


class Memory(TorchDispatchMode):
    """Sums the bytes of the storages that are alive, and keeps the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in _pytree.tree_leaves(made):
            # a sparse tensor has no memory but that of its indices and values
            if isinstance(value, torch.Tensor) and value.device.type == "meta" and not value.is_sparse:
                self.note(value.untyped_storage())
        return made

    def note(self, storage: torch.UntypedStorage) -> None:
        identity, size = storage._cdata, storage.nbytes()
        if identity in self.known:
            return
        self.known.add(identity)
        self.live += size
        self.peak = max(self.peak, self.live)
        # torch keeps the Python object for as long as the memory, also what only autograd holds
        weakref.finalize(storage, self.free, identity, size)

    def free(self, identity: int, size: int) -> None:
        self.known.discard(identity)
        self.live -= size


def _where() -> str:
    ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(f"{ROOT}/stages/")]
    return f"{ours[-1].filename.removeprefix(f'{ROOT}/')}:{ours[-1].lineno}" if ours else "a test"


@contextlib.contextmanager
def counted() -> Iterator[Counted]:
    """Count what the block does; numbers put on the device count as waits, autocast does nothing."""
    with Counted() as counts, pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("tensor", "as_tensor"):  # which make a meta tensor without a copy
            made = getattr(torch, name)

            def putting(*of: Any, made: Any = made, **named: Any) -> torch.Tensor:
                if torch.device(named.get("device") or "cpu").type == "meta":
                    counts.wait("a number")
                tensor: torch.Tensor = made(*of, **named)
                return tensor

            monkeypatch.setattr(torch, name, putting)
        monkeypatch.setattr(torch, "autocast", lambda *of, **named: contextlib.nullcontext())
        yield counts
