"""Reads the pickle of quality scores that eDifFIQA and FROQ write, without executing anything that it names.

LSIbabnikz/eDifFIQA inference.py at 7b787101 and LSIbabnikz/FROQ observer/inference.py at 8dc61226: one dict from the
path of an image to its score, a float or a numpy scalar. A pickle may call any function; here its instructions are
checked before they run, and the few names that such a file holds stand for functions of this module.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from stages.core.errors import InputError

_FLOATS = {"f2": "<f2", "f4": "<f4", "f8": "<f8"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_ALLOWED = _PUTS | {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "EMPTY_DICT", "DICT"),
    *("SETITEM", "SETITEMS", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINBYTES", "SHORT_BINBYTES", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}


def read(data: bytes) -> dict[str, float]:
    """Return the scores by name.

    Raises:
        ValueError: damaged, or anything else than such a dict; the message says what it holds instead.
    """
    try:
        _check(data)
        tree = _Unpickler(io.BytesIO(data)).load()
    except InputError:
        raise
    except Exception as error:  # what a damaged pickle raises is any exception at all
        raise InputError(f"not a pickle of scores, or damaged ({type(error).__name__}: {error})") from error
    if not isinstance(tree, dict):
        raise InputError(f"wanted a dict from image to score, got {type(tree).__name__}")
    for name, score in tree.items():
        if not isinstance(name, str) or isinstance(score, bool) or not isinstance(score, (int, float)):
            raise InputError(f"wanted text and a number, got {name!r}: {type(score).__name__}"[:200])
    return {name: float(score) for name, score in tree.items()}


def _check(data: bytes) -> None:
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data), start=1):
        if opcode.name not in _ALLOWED:
            raise InputError(f"byte {position}: instruction {opcode.name} has no place in a pickle of scores")
        # the memo is an array as long as its highest index
        if opcode.name in _PUTS and isinstance(argument, int) and argument > count:
            raise InputError(f"byte {position}: it numbers a value {argument}, and there are {count}")


class _Dtype:
    """Data type of a numpy scalar."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in _FLOATS:
            raise InputError(f"wanted scores of {', '.join(_FLOATS)}, got {code!r}"[:200])
        self.code = _FLOATS[code]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] != "<":
            raise InputError("wanted little-endian scores")


def _scalar(dtype: Any, raw: Any) -> float:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise InputError("a numpy scalar without its data type or bytes")
    return float(np.frombuffer(raw, dtype.code, count=1)[0])


def _encode(text: Any, encoding: Any) -> bytes:
    # how protocols below 3 write bytes
    if not isinstance(text, str) or encoding != "latin1":
        raise InputError("wanted bytes as Latin-1 text")
    return text.encode("latin-1")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names above and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the function that stands for a name."""
        if (module, name) not in _NAMES:
            raise InputError(f"it names {module}.{name}, which has no place in a pickle of scores: do not trust it")
        return _NAMES[module, name]
