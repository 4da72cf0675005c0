"""MATLAB lists: read as SciPy reads them, and any damage is one ValueError, never a crash."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.formats.mat_cells import read_lists

WANTED = frozenset({"probe_set", "probe_ids"})


def saved(names: list[str], ids: np.ndarray, **options: bool) -> bytes:
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"other": np.eye(3), "probe_set": cells, "probe_ids": ids}, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8", "f4", "i8"])
@pytest.mark.parametrize("do_compression", [False, True])
def test_names_and_numbers_are_read_as_scipy_wrote_them(dtype, do_compression):
    names = ["1_1.jpg", "25_10.png", "a", "名前_1.jpg", ""]
    lists = read_lists(saved(names, np.array([[1], [25], [3], [4], [5]], dtype), do_compression=do_compression), WANTED)
    assert lists == {"probe_set": names, "probe_ids": [1, 25, 3, 4, 5]}


def test_the_real_lists_are_read_as_scipy_reads_them(faces):
    for file, key in (("probe", "probe"), ("gallery_match", "gallery")):
        path = faces / "eval/tinyface/tinyface/Testing_Set" / f"{file}_img_ID_pairs.mat"
        tree = scipy.io.loadmat(path)
        lists = read_lists(path.read_bytes(), frozenset({f"{key}_set", f"{key}_ids"}))
        assert lists[f"{key}_set"] == [str(cell.item()) for cell in tree[f"{key}_set"].ravel()]
        assert lists[f"{key}_ids"] == tree[f"{key}_ids"].ravel().tolist()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_lists_or_one_error(data: st.DataObject):
    # SciPy's reader ends the process on some of these
    good = bytearray(saved(["1_1.jpg", "2_1.jpg", "3_1.jpg"], np.array([[1], [2], [3]])))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(124, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    keep = data.draw(st.integers(0, len(good)))
    for damaged in (bytes(good), bytes(good[:keep])):
        try:
            lists = read_lists(damaged, WANTED)
        except ValueError:
            continue
        assert set(lists) == WANTED


def test_a_variable_that_unfolds_beyond_all_reason_is_refused(monkeypatch):
    monkeypatch.setattr("stages.core.formats.mat_cells.LARGEST", 1000)
    with pytest.raises(ValueError, match="cut short, or larger than 1000 bytes"):
        read_lists(saved(["x"] * 500, np.ones((500, 1)), do_compression=True), WANTED)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"probe_set": np.ones(3)}, "it holds no probe_ids"),
        ({"probe_set": np.ones(2), "probe_ids": np.array(["a"])}, "probe_ids should hold text cells or numbers"),
        ({"probe_ids": np.array([1 + 2j])}, "complex"),
    ],
)
def test_what_is_no_list_is_refused(tree, message):
    stream = io.BytesIO()
    scipy.io.savemat(stream, tree)
    with pytest.raises(ValueError, match=message):
        read_lists(stream.getvalue(), WANTED)


def test_what_is_no_matlab_file_is_refused():
    with pytest.raises(ValueError, match="not a MATLAB 5 file"):
        read_lists(b"MATLAB 7.3" * 20, WANTED)
