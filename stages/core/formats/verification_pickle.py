"""Reads the pickle inside a verification ``.bin`` without executing anything that it names.

A pickle is a program that may call any function. This is a machine of our own for the few instructions with
which Python 2 or 3, in any protocol, writes ``(bins, issame_list)``: bytes, bools and arrays of numpy 1
or 2 (insightface, lfw2pack.py and build_eval_pack.py). The few names such a file holds stand for functions
in pickle_names.py; numpy sees data only after shape and length were checked. Memory stays within a small
multiple of the file's size.
"""

from __future__ import annotations

import codecs
import io
import pickletools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.formats.pickle_names import CALLABLE, NAMES, Array, Dtype, PickleError, as_text, describe, filled

__all__ = ["Image", "PickleError", "read"]

Image = bytes | NDArray[np.uint8]

_OPCODE_COST, _SLACK, _GROWTH = 100, 1 << 24, 8
_MARK = object()
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


def read(data: bytes) -> tuple[list[Image], NDArray[np.bool_]]:
    """Return the encoded images and, for each pair of neighbours, whether it shows one person.

    Returns:
        Images as bytes or as uint8 arrays of shape (length,), and answers, shape (len(images) // 2,).

    Raises:
        PickleError: damaged, or anything else than such a set; the message says at which byte or image.
    """
    machine = _Machine(len(data))
    position = 0
    try:
        # an unknown escape in a damaged string is Python's business to deprecate, and none of the reader's
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            for name, argument, at in _instructions(data):
                position = at
                machine.step(name, argument)
    except PickleError as error:
        raise PickleError(f"byte {position}: {error}") from None
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise PickleError(f"after byte {position}: not a pickle of this kind, or damaged ({error})") from None
    if position + 1 != len(data):
        rest = len(data) - position - 1
        raise PickleError(f"byte {position + 1}: the pickle ends here, but {rest} bytes follow")
    return _as_set(machine.result())


def _instructions(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """Yield name, argument and place of each instruction, as ``pickletools.genops`` does; that one wants ASCII strings.

    Protocol 0 of Python 2 writes an image as a quoted string with whatever bytes it has.
    """
    stream = io.BytesIO(data)
    while code := stream.read(1):
        position = stream.tell() - 1
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise PickleError(f"no instruction begins with {code!r}")
        argument: Any = None
        if opcode.name == "STRING":
            argument = codecs.escape_decode(pickletools.read_stringnl(stream, decode=False))[0]
        elif opcode.arg is not None:
            argument = opcode.arg.reader(stream)
        yield opcode.name, argument, position
        if opcode.name == "STOP":
            return
    raise PickleError("it ends before its last instruction: truncated")


def _as_set(tree: Any) -> tuple[list[Image], NDArray[np.bool_]]:
    """Check the result: two sequences, two images per answer."""
    if not isinstance(tree, (tuple, list)) or len(tree) != 2:
        raise PickleError(f"wanted the two lists (images, answers), got {describe(tree)}")
    bins, answers = tree
    if not isinstance(bins, (tuple, list)):
        raise PickleError(f"wanted a list of images, got {describe(bins)}")
    images = [_as_image(number, item) for number, item in enumerate(bins)]
    if isinstance(answers, Array) and answers.values is not None:
        answers = answers.values.ravel().tolist()
    if not isinstance(answers, (tuple, list)):
        raise PickleError(f"wanted a list of answers, got {describe(answers)}")
    for number, answer in enumerate(answers):
        if not isinstance(answer, int) or answer not in (0, 1):
            raise PickleError(f"answer {number}: wanted true or false, got {describe(answer)}")
    if not answers or len(images) != 2 * len(answers):
        raise PickleError(f"wanted two images to an answer, got {len(images)} images, {len(answers)} answers")
    return images, np.array(answers, np.bool_)


def _as_image(number: int, item: Any) -> Image:
    if isinstance(item, Array) and item.values is not None:
        if item.values.dtype != np.uint8 or item.values.size != max(item.values.shape, default=0):
            raise PickleError(
                f"image {number}: wanted the bytes of an encoded image, got an array {item.values.shape} of "
                f"{item.values.dtype}: decoded images are refused, because their colour order is unknown"
            )
        item = item.values.ravel()
    elif not isinstance(item, bytes):
        raise PickleError(f"image {number}: wanted bytes or an array, got {describe(item)}")
    if not len(item):
        raise PickleError(f"image {number}: it has no bytes")
    return item  # type: ignore[no-any-return]


class _Machine:
    """A pickle machine: a stack, a memo, and a limit on the bytes a file may allocate."""

    def __init__(self, size: int) -> None:
        self.budget = _GROWTH * size + _SLACK
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        self.spend(_OPCODE_COST)
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _PUSH_BYTES:
            # Python 2 strings come from pickletools as Latin-1 text
            self.stack.append(argument.encode("latin-1") if isinstance(argument, str) else bytes(argument))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _METHODS:
            _METHODS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"instruction {name} is not allowed in a verification set")

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise PickleError("it expands to far more than its own size")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("a value is missing")
        return self.stack[-1]

    def pop(self, count: int) -> list[Any]:
        begin = len(self.stack) - count
        items = self.stack[max(begin, 0) :]
        if begin < 0 or any(item is _MARK for item in items):
            raise PickleError("a value is missing")
        del self.stack[begin:]
        return items

    def since_mark(self) -> list[Any]:
        """Remove and return everything above the last mark, and the mark."""
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise PickleError("a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise PickleError(f"wanted one value at the end, got {len(self.stack)}")
        return self.top()

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def list_(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def tuple_(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def append(self, _: Any) -> None:
        self._extend(self.pop(1))

    def appends(self, _: Any) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.top(), list):
            raise PickleError(f"wanted a list to append to, got {describe(self.top())}")
        self.stack[-1].extend(items)

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def global_(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def stack_global(self, _: Any) -> None:
        self._name(*self.pop(2))

    def _name(self, module: Any, name: Any) -> None:
        known = NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if known is None:
            named = f"{module}.{name}"[:80]
            raise PickleError(f"it names {named}, which is not allowed in a verification set: do not trust it")
        self.stack.append(known)

    def reduce(self, _: Any) -> None:
        function, arguments = self.pop(2)
        if function not in CALLABLE or not isinstance(arguments, tuple):
            raise PickleError(f"it calls {describe(function)}")
        self.stack.append(function(*arguments))
        if isinstance(self.stack[-1], bytes):
            self.spend(len(self.stack[-1]))

    def build(self, _: Any) -> None:
        state = self.pop(1)[0]
        target = self.top()
        if isinstance(target, Dtype) and isinstance(state, tuple) and len(state) > 1:
            target.order = as_text(state[1])
        elif isinstance(target, Array) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, raw = state
            target.values = filled(raw, dtype, shape, "F" if fortran else "C")
        else:
            raise PickleError(f"it sets the state of {describe(target)}")


_PUSH = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_PUSH_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "EMPTY_LIST": _Machine.empty_list,
    "LIST": _Machine.list_,
    "TUPLE": _Machine.tuple_,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
