"""Every bit flipped, every length cut: an error with its place, or a difference in payload bytes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.recordio.framing import MAGIC_BYTES
from stages.core.recordio.reader import Header, RecordError, RecordReader, RecordWriter, pack

PAYLOADS = [
    pack(Header(0, 2.0, 1, 0), b"image"),
    b"",
    MAGIC_BYTES + b"ab",
    b"12345678" + MAGIC_BYTES + b"9012" + MAGIC_BYTES,
    pack(Header(0, np.array([1.0, 2.0], np.float32), 0, 0), b"\xff\xd8 a picture \xff\xd9"),
    b"last.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    with RecordWriter(folder / "sound.rec", folder / "sound.idx") as writer:
        for key, payload in enumerate(PAYLOADS):
            writer.write(key, payload)
    return folder


def by_index(folder: Path) -> list[bytes]:
    reader = RecordReader(folder / "a.rec", folder / "a.idx")
    return [bytes(reader.read(key)) for key in reader.keys[np.argsort(reader.offsets)].tolist()]


def by_scan(folder: Path) -> list[bytes]:
    return [bytes(payload) for _, payload in RecordReader(folder / "a.rec").scan()]


READINGS = pytest.mark.parametrize("reading", [by_index, by_scan])


def outcome(
    folder: Path, rec: bytes, idx: bytes, reading: Callable[[Path], list[bytes]]
) -> list[bytes] | None:
    """Return the payloads, None after an error that names file, record and byte."""
    # a file that is truncated and written again waits for the disk on some file systems, a new one does not
    for name, content in (("a.rec", rec), ("a.idx", idx)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)
    try:
        return reading(folder)
    except RecordError as error:
        check_place(error, bool(rec))
        return None


def check_place(error: RecordError, has_records: bool) -> None:
    assert error.path is not None
    if error.path.name == "a.rec" and has_records:
        assert error.record is not None
        assert 0 <= error.record <= len(PAYLOADS) + 1
        assert error.offset is not None
        assert str(error).startswith(f"{error.path}: record {error.record} at byte {error.offset}: ")


def framing(rec: bytes) -> Iterator[tuple[int, bool]]:
    """Yield every byte's position and whether it belongs to a payload."""
    position = 0
    while position < len(rec):
        length = int.from_bytes(rec[position + 4 : position + 8], "little") & ((1 << 29) - 1)
        end = position + 8 + (length + 3) // 4 * 4
        for at in range(position, end):
            yield at, position + 8 <= at < position + 8 + length
        position = end


def grown_or_shrunk_by_zeros(payloads: list[bytes]) -> bool:
    """Say whether one payload gained up to three zero bytes from its padding, or lost some at its end."""
    changed = [(old, new) for old, new in zip(PAYLOADS, payloads, strict=True) if old != new]
    return len(changed) == 1 and all(
        abs(len(old) - len(new)) <= 3 and old.rstrip(b"\0") == new.rstrip(b"\0") for old, new in changed
    )


@READINGS
def test_any_flipped_bit_is_an_error_or_changes_payload_bytes_only(
    folder: Path, reading: Callable[[Path], list[bytes]]
):
    rec, idx = (folder / "sound.rec").read_bytes(), (folder / "sound.idx").read_bytes()
    unseen = 0
    for at, in_payload in framing(rec):
        for bit in range(8):
            damaged = bytearray(rec)
            damaged[at] ^= 1 << bit
            payloads = outcome(folder, bytes(damaged), idx, reading)
            if payloads is None:
                continue
            assert len(payloads) == len(PAYLOADS), f"byte {at}, bit {bit}: a record is gone"
            if in_payload:
                assert [len(payload) for payload in payloads] == [len(payload) for payload in PAYLOADS]
                differing = sum(a != b for a, b in zip(b"".join(payloads), b"".join(PAYLOADS), strict=True))
                assert differing == 1
            else:
                assert grown_or_shrunk_by_zeros(payloads), f"byte {at}, bit {bit}: framing damage went unseen"
                unseen += 1
    # in the lengths 29, 2 and 5 one bit may rise within the padding
    assert unseen == 3


@READINGS
def test_a_file_cut_anywhere_is_an_error(folder: Path, reading: Callable[[Path], list[bytes]]):
    rec, idx = (folder / "sound.rec").read_bytes(), (folder / "sound.idx").read_bytes()
    boundaries = {0} | set(RecordReader(folder / "sound.rec").offsets.tolist())
    for length in range(len(rec)):
        payloads = outcome(folder, rec[:length], idx, reading)
        if reading is by_scan and length in boundaries and length:
            assert payloads == PAYLOADS[: len(payloads)], "cut between records, which only an index can tell"
        else:
            assert payloads is None, f"cut to {length} bytes went unseen"


def test_an_index_cut_anywhere_is_an_error_or_complete(folder: Path):
    rec, idx = (folder / "sound.rec").read_bytes(), (folder / "sound.idx").read_bytes()
    for length in range(len(idx)):
        payloads = outcome(folder, rec, idx[:length], by_index)
        assert payloads is None or payloads == PAYLOADS, f"index cut to {length} bytes: {payloads}"


def test_any_flipped_bit_of_the_index_is_an_error_or_renames_a_key(folder: Path):
    rec, idx = (folder / "sound.rec").read_bytes(), (folder / "sound.idx").read_bytes()
    for at in range(len(idx)):
        for bit in range(8):
            damaged = bytearray(idx)
            damaged[at] ^= 1 << bit
            payloads = outcome(folder, rec, bytes(damaged), by_index)
            assert payloads is None or payloads == PAYLOADS, f"byte {at}, bit {bit}"


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_bytes_overwritten_anywhere_never_lose_a_record_unseen(folder: Path, data: st.DataObject):
    rec, idx = bytearray((folder / "sound.rec").read_bytes()), (folder / "sound.idx").read_bytes()
    at = data.draw(st.integers(0, len(rec) - 1))
    piece = data.draw(
        st.one_of(st.binary(min_size=1, max_size=12), st.just(MAGIC_BYTES), st.just(bytes(rec[:8])))
    )
    rec[at : at + len(piece)] = piece[: len(rec) - at]
    payloads = outcome(folder, bytes(rec), idx, by_index)
    assert payloads is None or len(payloads) == len(PAYLOADS)


@given(st.binary(max_size=80), st.binary(max_size=40))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_are_an_error_and_nothing_worse(folder: Path, rec: bytes, idx: bytes):
    for reading in (by_index, by_scan):
        outcome(folder, rec, idx, reading)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("6\t400", "record 6 at byte 400: the file has only .* bytes: it is truncated, or the index belongs"),
        ("6\t2", "record 6 at byte 2: records begin at multiples of 4"),
        ("6\t0", "record 0 at byte 0: the next record is indexed at byte 0: an entry is repeated"),
        ("6\t4", "at byte 0: the next record is indexed at byte 4: an entry is repeated or damaged"),
        ("6\t16", "at byte 0: it ends at byte 40, but the next is indexed at byte 16"),
        ("3\t64", "its key is repeated, on lines 4 and 7"),
        ("6 40", "line 7: wanted KEY<tab>OFFSET, two whole numbers, got b'6 40'"),
        ("6\t", "line 7: wanted KEY<tab>OFFSET"),
        ("6\t1.5", "line 7: wanted KEY<tab>OFFSET"),
        ("\t40", "line 7: wanted KEY<tab>OFFSET"),
        ("6\t" + "9" * 40, "line 7: wanted KEY<tab>OFFSET"),
        ("6\t40\t1", "line 7: wanted KEY<tab>OFFSET"),
    ],
)
def test_a_wrong_index_line_is_named(folder: Path, line: str, problem: str):
    (folder / "a.rec").write_bytes((folder / "sound.rec").read_bytes())
    (folder / "a.idx").write_text((folder / "sound.idx").read_text() + line + "\n")
    with pytest.raises(RecordError, match=problem):
        by_index(folder)


def test_an_index_that_lacks_a_line_is_an_error_wherever_the_line_was(folder: Path):
    lines = (folder / "sound.idx").read_text().splitlines(keepends=True)
    rec = (folder / "sound.rec").read_bytes()
    for gone in range(len(lines)):
        idx = "".join(lines[:gone] + lines[gone + 1 :]).encode()
        assert outcome(folder, rec, idx, by_index) is None, f"line {gone} was missed by nobody"


def test_empty_files_are_errors(folder: Path):
    (folder / "a.rec").write_bytes(b"")
    with pytest.raises(RecordError, match="the file is empty"):
        RecordReader(folder / "a.rec")
    (folder / "a.idx").write_bytes(b"\n")
    with pytest.raises(RecordError, match="no line KEY<tab>OFFSET"):
        RecordReader(folder / "sound.rec", folder / "a.idx")


def test_damaged_records_do_not_hide_sound_ones(folder: Path):
    rec = bytearray((folder / "sound.rec").read_bytes())
    reader = RecordReader(folder / "sound.rec", folder / "sound.idx")
    rec[reader.offset(3)] ^= 1
    (folder / "a.rec").write_bytes(rec)
    (folder / "a.idx").write_bytes((folder / "sound.idx").read_bytes())
    damaged = RecordReader(folder / "a.rec", folder / "a.idx")
    with pytest.raises(
        RecordError, match=r"record 3 at byte .*: wanted 0xced7230a at byte .*, got 0xced7230b"
    ):
        damaged.read(3)
    assert bytes(damaged.read(4)) == PAYLOADS[4]
    assert damaged.labels([0, 4]).tolist() == [2.0, 1.0]
    with pytest.raises(RecordError, match="record 3 at byte"):
        damaged.labels([0, 3, 4])


def test_a_scan_yields_the_sound_records_before_the_damage(folder: Path):
    rec = bytearray((folder / "sound.rec").read_bytes())
    offset = RecordReader(folder / "sound.rec").offset(4)
    rec[offset + 4] = 200
    (folder / "a.rec").write_bytes(rec)
    reader = RecordReader(folder / "sound.rec")
    reader.rec_path = folder / "a.rec"
    assert [bytes(payload) for _, payload in reader.scan()] == PAYLOADS
    with pytest.raises(RecordError, match=f"record 4 at byte {offset}: 200 bytes should follow"):
        RecordReader(folder / "a.rec")
