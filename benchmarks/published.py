"""Imports evaluation code of a checkout that the user names, as it was published, into today's Python.

Nothing of it is copied: the files are read from the checkout and run. What they import and never call here
(plotting, menpo, bcolz) is stood in for, and the names NumPy has removed since (``np.int``) are given back while
they run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

STOOD_IN = ("menpo", "menpo.visualize", "menpo.visualize.viewmatplotlib", "prettytable", "bcolz", "ERC")
REMOVED = {"int": int, "bool": bool, "object": object, "float": float}


class StandIn(types.ModuleType):
    """A module that has any name and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __call__(self, *arguments: Any, **keywords: Any) -> StandIn:
        """Do nothing."""
        return self


def load(path: Path, **provided: types.ModuleType) -> types.ModuleType:
    """Return a file of a checkout as a module.

    Args:
        path: the file.
        provided: modules it imports by these names (``__`` for a dot), instead of a stand-in.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not in the checkout: give the folder that `git archive` made of it")
    names = {name.replace("__", "."): module for name, module in provided.items()}
    before = {name: sys.modules.get(name) for name in (*STOOD_IN, *names)}
    sys.modules |= {name: StandIn(name) for name in STOOD_IN if name not in sys.modules} | names
    for name, value in REMOVED.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    spec = importlib.util.spec_from_file_location(f"published_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    arguments = sys.argv
    try:
        sys.argv = arguments[:1]
        spec.loader.exec_module(module)
    finally:
        sys.argv = arguments
        for name, old in before.items():
            if old is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = old
    return module


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Catch what the published code prints: some of its results are only printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield printed
