"""Finds plugins (heads, backbones, quality methods, ...): the file name is the name, so there is no list to keep.

>>> "adaface" in names("heads")
True
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from stages.core.errors import UnknownNameError

KINDS = ("heads", "backbones", "objectives", "quality", "datasets", "protocols")


def names(kind: str) -> list[str]:
    """Return the names of all plugins of one kind, sorted."""
    if kind not in KINDS:
        raise UnknownNameError(f"no kind {kind!r}: there are {', '.join(KINDS)}")
    folder = Path(__file__).parents[1] / kind
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Return the module ``stages/KIND/NAME.py``.

    Raises:
        LookupError: there is no such file; the message lists those there are.
    """
    if name not in names(kind):
        raise UnknownNameError(f"no {kind} named {name!r}: there are {', '.join(names(kind))}")
    return importlib.import_module(f"stages.{kind}.{name}")
