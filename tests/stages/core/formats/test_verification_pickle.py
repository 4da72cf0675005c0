from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.formats.verification_pickle import PickleError, read

IMAGES = [b"\xff\xd8first\xff\xd9", b"second", b"3", b"\x00" * 300]


def as_lists(data: bytes) -> tuple[list[bytes], list[bool]]:
    images, is_same = read(data)
    return [bytes(image) for image in images], is_same.tolist()


def array(image: bytes) -> np.ndarray:
    return np.frombuffer(image, np.uint8)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "kind",
    [
        bytes,
        bytearray,
        array,
        lambda image: array(image)[:, None],
        lambda image: np.array(array(image), order="F"),
    ],
)
@pytest.mark.parametrize(
    "answers",
    [[True, False], (True, False), [np.True_, np.False_], np.array([True, False]), np.array([1, 0]), [1, 0]],
)
def test_every_protocol_and_kind_of_image_is_read(protocol: int, kind: Any, answers: Any):
    data = pickle.dumps(([kind(image) for image in IMAGES], answers), protocol)
    assert as_lists(data) == (IMAGES, [True, False])


def test_a_pickle_of_python_2_is_read():
    # as cPickle protocol 2 of Python 2.7 writes ([str, str], [True]): short strings, memo, a tuple of two
    strings = b"".join(
        b"U" + bytes([len(image)]) + image + b"q" + bytes([2 + n]) for n, image in enumerate(IMAGES[:2])
    )
    data = b"\x80\x02]q\x01(" + strings + b"e]q\x04\x88a\x86q\x05."
    assert pickle.loads(data, encoding="bytes") == (IMAGES[:2], [True])
    assert as_lists(data) == (IMAGES[:2], [True])


def test_a_pickle_that_python_2_wrote_as_text_is_read():
    # as pickle.dump of Python 2.7 writes without a protocol: strings as their repr, bools as I01 and I00
    items = [*IMAGES[:2], b"it's \\ \n \"both\"", b"\xff\x00"]
    strings = b"".join(b"S" + repr(image)[1:].encode() + b"\np%d\na" % (n + 2) for n, image in enumerate(items))
    data = b"((lp1\n" + strings + b"(lp9\nI01\naI00\natp10\n."
    assert pickle.loads(data, encoding="bytes") == (items, [True, False])
    assert as_lists(data) == (items, [True, False])


def test_an_array_pickled_by_python_2_and_numpy_1_is_read():
    def one(image: bytes) -> bytes:
        state = b"(K\x01K" + bytes([len(image)]) + b"\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        state += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(image)]) + image + b"tb"
        return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state

    data = b"\x80\x02](" + one(IMAGES[0]) + one(IMAGES[1]) + b"e]\x89a\x86."
    assert as_lists(data) == (IMAGES[:2], [False])


def test_names_of_numpy_1_and_numpy_2_are_both_known():
    data = pickle.dumps(([array(image) for image in IMAGES], [True, False]), 2)
    assert b"numpy._core" in data
    assert as_lists(data.replace(b"numpy._core", b"numpy.core")) == (IMAGES, [True, False])


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it-was-run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_names_anything_else_is_refused_and_nothing_runs(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps((IMAGES, [Runs(), True]), protocol)
    with pytest.raises(PickleError, match=r"byte \d+: it names (posix|nt)\.mkdir, which is not allowed"):
        read(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "tree",
    [
        OrderedDict(a=1),
        np.array([None]),
        np.ma.masked_array([1]),
        np.datetime64(1, "s"),
        object,
        slice(1),
        {1, 2},
        {},
        1.5,
    ],
)
def test_what_is_not_a_set_is_refused(tree: Any):
    for placed in (tree, (IMAGES, [tree, tree]), ([tree, tree], [True])):
        with pytest.raises(PickleError):
            read(pickle.dumps(placed))


def test_reading_imports_nothing_that_the_file_names():
    code = (
        "import sys; from stages.core.formats.verification_pickle import read\n"
        "try: read(b'\\x80\\x02cantigravity\\nfly\\n.')\n"
        "except ValueError as error: print(error, 'antigravity' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "it names antigravity.fly" in done.stdout
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ((IMAGES, [True]), "wanted two images to an answer, got 4 images, 1 answers"),
        ((IMAGES, [True] * 4), "got 4 images, 4 answers"),
        (([], []), "got 0 images, 0 answers"),
        ((IMAGES, [True, 2]), "answer 1: wanted true or false"),
        ((IMAGES, [True, None]), "answer 1: wanted true or false, got None"),
        ((IMAGES, [True, "no"]), "answer 1: wanted true or false, got str of length 2"),
        (([b"", b"a"], [True]), "image 0: it has no bytes"),
        (([b"a", "text"], [True]), "image 1: wanted bytes or an array, got str"),
        (([b"a", np.zeros((2, 2, 3), np.uint8)], [True]), "image 1: .* decoded images are refused"),
        (
            ([b"a", np.zeros(3, np.int64)], [True]),
            "image 1: wanted the bytes of an encoded image, got .* int64",
        ),
        (([b"a", np.zeros(3, np.float32)], [True]), "wanted an array of u1.*, got 'f4'"),
        (([b"a", np.zeros(3, ">i4")], [True]), "wanted a little-endian array"),
        (IMAGES, r"wanted the two lists \(images, answers\), got list of length 4"),
        ((b"ab", [True]), "wanted a list of images, got bytes"),
        ((IMAGES, True), "wanted a list of answers, got True"),
    ],
)
def test_a_set_that_is_not_whole_says_what_is_wrong(tree: Any, problem: str):
    with pytest.raises(PickleError, match=problem):
        read(pickle.dumps(tree))


def test_bytes_after_the_end_are_an_error():
    data = pickle.dumps((IMAGES, [True, False]))
    with pytest.raises(PickleError, match=rf"byte {len(data)}: the pickle ends here, but 3 bytes follow"):
        read(data + b"abc")


def test_a_file_cut_anywhere_is_an_error():
    for protocol in (2, 5):
        data = pickle.dumps(([array(image) for image in IMAGES], [True, False]), protocol)
        for length in range(len(data)):
            with pytest.raises(PickleError):
                read(data[:length])


def test_an_escape_that_python_deprecates_is_an_error_and_no_warning():
    with pytest.raises(PickleError):
        read(b"S'\\u'\n.")


@given(st.data())
@settings(deadline=None, max_examples=500)
def test_damage_is_an_error_or_a_whole_set(data: st.DataObject):
    pickled = bytearray(
        pickle.dumps(
            ([array(image) for image in IMAGES[:2]] + IMAGES[2:], [True, False]), data.draw(st.integers(1, 5))
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    try:
        images, is_same = read(bytes(pickled))
    except PickleError:
        return
    assert len(images) == 2 * len(is_same)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes_are_an_error(data: bytes):
    with pytest.raises(PickleError):
        read(data)


def huge(opcode: bytes, size: bytes) -> bytes:
    return b"\x80\x05" + opcode + size + b"."


@pytest.mark.parametrize(
    "data",
    [
        huge(b"\x8e", struct.pack("<Q", 1 << 50)),  # bytes of a petabyte that do not follow
        huge(b"\x96", struct.pack("<Q", 1 << 50)),  # the same as a bytearray
        huge(b"\x8b", struct.pack("<i", (1 << 31) - 1)),  # a number of two billion bytes
        b"\x80\x02Nr" + struct.pack("<I", (1 << 32) - 1) + b".",  # a memo of four billion entries
        b"\x80\x05" + b"\x94" * 1000 + b".",
        b"\x80\x02" + b"]" * 200_000 + b".",  # 11 MB of empty lists
        b"\x80\x02N" + b"\x85" * 400_000 + b".",  # tuples in tuples
        b"\x80\x02c_codecs\nencode\nq\x00X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"q\x01"
        + b"X\x06\x00\x00\x00latin1q\x02"
        + b"h\x00h\x01h\x02\x86R" * 1000
        + b".",  # a megabyte, copied 1000 times
    ],
)
def test_a_small_file_cannot_make_us_hold_much(data: bytes):
    code = (
        "import resource, sys; from stages.core.formats.verification_pickle import read\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read(data)\n"
        "except ValueError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(done.stdout) < 80_000, "kilobytes"
