"""Inert functions for the names in a verification set's pickle; they check every argument.

The names are those that Python 2 and 3 and numpy 1 and 2 write for bytes, bools and arrays; see
verification_pickle.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

# images are u1; the answers may be bools or whole numbers
_DTYPES = {"u1": "u1", "b1": "?", "i1": "i1", "i2": "i2", "i4": "i4", "i8": "i8"}


class PickleError(InputError):
    """Not a verification set, or a damaged one."""


@dataclass
class Dtype:
    """Data type of an array; ``order`` is numpy's character for its byte order."""

    code: str
    order: str = "<"


@dataclass
class Array:
    """An array; empty until its state is set."""

    values: NDArray[Any] | None = None


def describe(value: Any) -> str:
    """Return a short description of a value of any size."""
    if isinstance(value, (tuple, list, bytes, str)):
        return f"{type(value).__name__} of length {len(value)}"
    return f"{value}" if value is None or isinstance(value, bool) else type(value).__name__.lower()


def as_text(value: Any) -> str:
    """Return a string; Python 2 wrote names as bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or as_text(encoding) not in ("latin1", "latin-1"):
        raise PickleError(f"wanted Latin-1 text, got {describe(text)} as {as_text(encoding)[:20]}")
    return text.encode("latin-1")


def _bytes(*arguments: Any) -> bytes:
    if not arguments:
        return b""
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], bytes) else _encode(*arguments)


def _dtype(code: Any, *_: Any) -> Dtype:
    text = as_text(code).lstrip("|<=")
    if text not in _DTYPES:
        raise PickleError(f"wanted an array of {', '.join(_DTYPES)}, got {text[:20]!r}")
    return Dtype(text)


def filled(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """Return the array of these bytes: a view, not a copy."""
    if not isinstance(raw, bytes) or not isinstance(dtype, Dtype) or not isinstance(shape, tuple):
        raise PickleError(f"wanted bytes, kind and shape of an array, got {describe(raw)}")
    if dtype.order not in ("|", "<", "=") or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise PickleError(f"wanted a little-endian array, got {dtype.order!r} and shape {shape!r}"[:200])
    kind = np.dtype(_DTYPES[dtype.code]).newbyteorder("<")
    if len(shape) > 4 or math.prod(shape) * kind.itemsize != len(raw):
        raise PickleError(f"{len(raw)} bytes do not make an array of {dtype.code}, shape {shape!r}"[:200])
    return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> Array:
    return Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return Array(filled(raw, dtype, shape, as_text(order)))


def _scalar(dtype: Any, raw: Any) -> Any:
    return filled(raw, dtype, (1,), "C").tolist()[0]


def _ndarray(*_: Any) -> Any:
    raise PickleError("it builds an array differently from numpy's pickles")


CALLABLE: tuple[Callable[..., Any], ...] = (
    _encode,
    _bytes,
    _dtype,
    _reconstruct,
    _frombuffer,
    _scalar,
    _ndarray,
)
NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("__builtin__", "bytearray"): _bytes,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}
