"""Images by where they stand: the same bytes as through the index, and damage told apart."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from stages.core.recordio.framing import MAGIC_BYTES
from stages.core.recordio.images import RecordImages
from stages.core.recordio.reader import Header, RecordError, RecordReader, RecordWriter, pack

# empty, unaligned, with the magic word at an aligned place (several parts), and at another
PAYLOADS = [b"", b"a", b"abcde", bytes(8) + MAGIC_BYTES + b"xyz", b"abc" + MAGIC_BYTES, MAGIC_BYTES * 3]
LABELS = [0.0, np.array([1, 1], np.float32), np.arange(7, dtype=np.float32)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        for key in range(len(PAYLOADS) * len(LABELS)):
            label = LABELS[key // len(PAYLOADS)]
            # keys do not rise: 7 is coprime to their number plus one
            writer.write(key * 7 % 19, pack(Header(0, label, key, 0), PAYLOADS[key % len(PAYLOADS)]))
    return tmp_path


def opened(folder: Path) -> RecordImages:
    reader = RecordReader(folder / "train.rec", folder / "train.idx")
    lengths = [len(reader.entry(key)[1]) for key in reader.keys.tolist()]
    return RecordImages(folder / "train.rec", reader.keys, reader.offsets, np.array(lengths, np.int64))


def test_every_image_has_the_bytes_that_were_written(folder: Path):
    images = opened(folder)
    assert len(images) == len(PAYLOADS) * len(LABELS)
    for n in range(len(images)):
        assert bytes(images.image_bytes(n)) == PAYLOADS[n % len(PAYLOADS)]


def test_a_copy_for_another_process_opens_the_file_anew(folder: Path):
    images = pickle.loads(pickle.dumps(opened(folder)))
    assert [bytes(images.image_bytes(n)) for n in range(6)] == PAYLOADS


def test_a_file_that_was_cut_short_is_refused_when_it_is_opened(folder: Path):
    images = opened(folder)
    path = folder / "train.rec"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(RecordError, match=r"record 5 at byte \d+: its image should end at byte .* truncated or replaced"):
        RecordImages(folder / "train.rec", images.key_N, images.offset_N, images.length_N)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"train\.rec"):
        RecordImages(tmp_path / "train.rec", *(np.zeros(1, np.int64) for _ in range(3)))


@pytest.mark.parametrize("byte", [0, 4, 8])
def test_a_damaged_record_is_named(byte: int, folder: Path):
    images = opened(folder)
    n = 2
    damaged = bytearray((folder / "train.rec").read_bytes())
    damaged[int(images.offset_N[n]) + byte] ^= 0x11
    (folder / "train.rec").write_bytes(damaged)
    again = RecordImages(folder / "train.rec", images.key_N, images.offset_N, images.length_N)
    with pytest.raises(RecordError, match=f"record {images.key_N[n]}"):
        again.image_bytes(n)
    assert bytes(again.image_bytes(n - 1)) == PAYLOADS[1]


def test_another_file_than_was_unpacked_is_told(folder: Path):
    images = opened(folder)
    wrong = RecordImages(folder / "train.rec", images.key_N, images.offset_N, images.length_N - (images.length_N > 0))
    with pytest.raises(RecordError, match="wanted an image of 4 bytes, got 5: not the file that was unpacked"):
        wrong.image_bytes(2)
