from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.recordio.framing import MAGIC_BYTES
from stages.core.recordio.reader import Header, RecordError, RecordReader, RecordWriter, pack, unpack

GOLDEN = Path(__file__).parents[3] / "golden" / "recordio"

# pieces of 1 to 9 bytes put the magic word at aligned and at other positions
payloads = st.lists(
    st.lists(
        st.one_of(st.just(MAGIC_BYTES), st.just(bytes(4)), st.binary(min_size=1, max_size=9)), max_size=8
    ).map(b"".join),
    min_size=1,
    max_size=6,
)


def write(folder: Path, payloads: list[bytes], keys: list[int] | None = None) -> RecordReader:
    with RecordWriter(folder / "a.rec", folder / "a.idx") as writer:
        for key, payload in zip(keys or range(len(payloads)), payloads, strict=True):
            writer.write(key, payload)
    return RecordReader(folder / "a.rec", folder / "a.idx")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordio")


def test_every_record_of_the_multipart_file_is_read_as_mxnet_reads_it():
    reader = RecordReader(GOLDEN / "multipart.rec", GOLDEN / "multipart.idx")
    records = json.loads((GOLDEN / "multipart.json").read_text())["records"]
    assert [record["key"] for record in records] == reader.keys.tolist()
    for record in records:
        assert hashlib.sha256(reader.read(record["key"])).hexdigest() == record["payload_sha256"]
        header, body = reader.entry(record["key"])
        assert (hashlib.sha256(body).hexdigest(), len(body)) == (record["body_sha256"], record["body_len"])
        assert np.atleast_1d(np.asarray(header.label)).tolist() == record["label"]
    assert reader.labels().tolist() == [record["label"][0] for record in records]


@pytest.mark.parametrize("name", ["multipart", "im2rec"])
def test_writing_what_mxnet_wrote_gives_its_files_byte_for_byte(name: str, tmp_path: Path):
    reader = RecordReader(GOLDEN / f"{name}.rec", GOLDEN / f"{name}.idx")
    write(tmp_path, [bytes(reader.read(key)) for key in reader.keys.tolist()])
    assert (tmp_path / "a.rec").read_bytes() == (GOLDEN / f"{name}.rec").read_bytes()
    assert (tmp_path / "a.idx").read_bytes() == (GOLDEN / f"{name}.idx").read_bytes()


@pytest.mark.parametrize("name", ["multipart", "im2rec"])
def test_without_an_index_the_same_records_are_found(name: str):
    indexed = RecordReader(GOLDEN / f"{name}.rec", GOLDEN / f"{name}.idx")
    scanned = RecordReader(GOLDEN / f"{name}.rec")
    assert scanned.keys.tolist() == list(range(len(indexed)))
    assert scanned.offsets.tolist() == indexed.offsets.tolist()
    assert [bytes(payload) for _, payload in scanned.scan()] == [
        bytes(indexed.read(k)) for k in indexed.keys.tolist()
    ]


@given(payloads)
@settings(deadline=None)
def test_what_is_written_is_read_back(scratch: Path, payloads: list[bytes]):
    reader = write(scratch, payloads)
    assert [bytes(reader.read(key)) for key in range(len(payloads))] == payloads
    assert [bytes(payload) for _, payload in reader.scan()] == payloads
    assert [offset for offset, _ in RecordReader(scratch / "a.rec").scan()] == reader.offsets.tolist()


@given(payloads)
@settings(deadline=None)
def test_the_magic_word_stands_only_where_a_part_begins(scratch: Path, payloads: list[bytes]):
    write(scratch, payloads)
    words = np.frombuffer((scratch / "a.rec").read_bytes(), "<u4")
    magic_words = int(np.count_nonzero(words == 0xCED7230A))
    aligned_in_payloads = sum(
        payload[at : at + 4] == MAGIC_BYTES for payload in payloads for at in range(0, len(payload), 4)
    )
    assert magic_words == len(payloads) + aligned_in_payloads


def test_keys_in_any_order_are_found(tmp_path: Path):
    reader = write(tmp_path, [b"seven", b"two", b"", b"minus"], keys=[7, 2, 900, -1])
    assert reader.keys.tolist() == [7, 2, 900, -1]
    assert [bytes(reader.read(key)) for key in (2, 7, -1, 900)] == [b"two", b"seven", b"minus", b""]
    assert 7 in reader
    assert 8 not in reader
    with pytest.raises(LookupError, match="no record with key 8: there are 4, from -1 to 900"):
        reader.read(8)


def test_index_lines_in_another_order_than_the_file_are_fine(tmp_path: Path):
    write(tmp_path, [b"a", b"bb", b"ccc"])
    lines = (tmp_path / "a.idx").read_text().splitlines()
    (tmp_path / "a.idx").write_text("\n".join([lines[2], lines[0], lines[1]]) + "\n")
    reader = RecordReader(tmp_path / "a.rec", tmp_path / "a.idx")
    assert reader.keys.tolist() == [2, 0, 1]
    assert [bytes(reader.read(key)) for key in range(3)] == [b"a", b"bb", b"ccc"]


def test_carriage_returns_and_a_missing_last_newline_in_the_index_are_fine(tmp_path: Path):
    write(tmp_path, [b"a", b"bb"])
    text = (tmp_path / "a.idx").read_bytes()
    (tmp_path / "a.idx").write_bytes(text.replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert bytes(RecordReader(tmp_path / "a.rec", tmp_path / "a.idx").read(1)) == b"bb"


def test_a_record_in_one_part_is_not_copied():
    reader = RecordReader(GOLDEN / "im2rec.rec", GOLDEN / "im2rec.idx")
    assert reader.read(3).obj is reader.read(4).obj
    assert reader.read(3).readonly


def test_labels_are_those_of_the_headers_in_the_order_asked_for(tmp_path: Path):
    labels = [3.0, np.array([5, 1], np.float32), -0.5, np.array([7], np.float32)]
    reader = write(tmp_path, [pack(Header(0, label, 9, 0), b"image") for label in labels])
    assert reader.labels().tolist() == [3.0, 5.0, -0.5, 7.0]
    assert reader.labels([3, 1]).tolist() == [7.0, 5.0]
    assert reader.labels([1], column=1).tolist() == [1.0]
    with pytest.raises(RecordError, match="record 0 at byte 0: wanted label number 1, got a label of 1"):
        reader.labels(column=1)
    with pytest.raises(LookupError, match="no record with key 4"):
        reader.labels([0, 4])


def test_a_label_in_a_record_that_is_cut_inside_its_header_is_found(tmp_path: Path):
    magic_id = int.from_bytes(MAGIC_BYTES, "little")
    payloads = [pack(Header(0, 4.0, magic_id, 0), b"x"), pack(Header(0, 6.0, 1, magic_id << 32), b"y")]
    reader = write(tmp_path, payloads)
    assert reader.labels().tolist() == [4.0, 6.0]
    assert reader.entry(0)[0] == Header(0, 4.0, magic_id, 0)


@given(
    st.one_of(
        st.floats(width=32, allow_nan=False),
        st.integers(0, 1 << 24),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5),
    ),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=20),
)
def test_unpack_undoes_pack(label: float | list[float], key: int, image: bytes):
    given_label = np.array(label, np.float32) if isinstance(label, list) else label
    header, unpacked = unpack(pack(Header(0, given_label, key, 3), image))
    assert bytes(unpacked) == image
    assert (header.id, header.id2) == (key, 3)
    assert header.flag == (len(label) if isinstance(label, list) else 0)
    assert np.array_equal(np.asarray(header.label), np.asarray(given_label, np.float32))


def test_a_vector_label_needs_a_number():
    with pytest.raises(ValueError, match="at least one number"):
        pack(Header(0, np.array([], np.float32), 0, 0), b"")


def test_a_payload_too_short_for_its_header_is_refused():
    with pytest.raises(RecordError, match="wanted a header of 24 bytes, got 3"):
        unpack(b"abc")
    with pytest.raises(RecordError, match="flag 9 says 9 label numbers, but only 2 bytes"):
        unpack(b"\x09" + bytes(23) + b"ab")


def test_a_key_is_written_once(tmp_path: Path):
    with RecordWriter(tmp_path / "a.rec", tmp_path / "a.idx") as writer:
        assert writer.write(5, b"a") == 0
        assert writer.write(3, b"b") == 12
        with pytest.raises(ValueError, match="key 5 was already written"):
            writer.write(5, b"c")
        with pytest.raises(ValueError, match="key 3 was already written"):
            writer.write(3, b"c")
        writer.write(4, b"d")


def test_a_reader_is_opened_anew_where_it_is_unpickled():
    reader = RecordReader(GOLDEN / "im2rec.rec", GOLDEN / "im2rec.idx")
    again = pickle.loads(pickle.dumps(reader))
    assert again.read(7) == reader.read(7)
    assert len(pickle.dumps(reader)) < 1000


def test_an_error_survives_pickling_with_its_place():
    error = pickle.loads(pickle.dumps(RecordError("broken", Path("a.rec"), 3, 40)))
    assert (str(error), error.record, error.offset) == ("a.rec: record 3 at byte 40: broken", 3, 40)


def test_stretches_of_a_scan_join_where_a_part_straddles_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    payloads = [b"x" * n + MAGIC_BYTES * (n % 3) + b"y" * (n % 7) for n in range(0, 60, 4)]
    write(tmp_path, payloads)
    for words in (1, 2, 3, 5, 16):
        monkeypatch.setattr("stages.core.recordio.framing.STRETCH_WORDS", words)
        assert [bytes(payload) for _, payload in RecordReader(tmp_path / "a.rec").scan()] == payloads
