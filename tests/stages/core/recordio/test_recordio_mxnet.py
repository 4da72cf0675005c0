"""Both ways against mxnet 1.9.1: we write and it reads, it writes and we read (`make test-mxnet`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.core.recordio.framing import MAGIC_BYTES
from stages.core.recordio.reader import Header, RecordReader, RecordWriter, pack
from stages.datasets import insightface_rec, verification_bin
from tests.mxnet_oracle import NOT_SET, PYTHON, ask

pytestmark = [pytest.mark.mxnet, pytest.mark.skipif(PYTHON is None, reason=NOT_SET)]


def some_records() -> list[dict[str, Any]]:
    """Payloads and packed entries: empty, unaligned, with magic words aligned or not, vectors, huge ids."""
    rng = np.random.default_rng(7)
    records = []
    for key in rng.permutation(400).tolist():
        pieces = [
            MAGIC_BYTES if rng.random() < 0.3 else rng.bytes(int(rng.integers(1, 9)))
            for _ in range(int(rng.integers(0, 12)))
        ]
        kind = key % 4
        vector = rng.normal(0, 1e6, int(rng.integers(1, 6))).astype(np.float32).tolist()
        label = (None, int(rng.integers(0, 1 << 24)), float(np.float32(rng.normal())), vector)[kind]
        ids = rng.integers(0, 1 << 63, 2).tolist()
        records.append(
            {"key": key, "image": b"".join(pieces).hex(), "label": label, "id": ids[0], "id2": ids[1]}
        )
    # the label, the id and the second id can be the magic word as well
    magic = int.from_bytes(MAGIC_BYTES, "little")
    label = float(np.frombuffer(MAGIC_BYTES, "<f4")[0])
    records.append({"key": 1000, "image": "", "label": label, "id": magic, "id2": magic << 32})
    records.append({"key": 1001, "image": "0a23d7ce", "label": [label, label], "id": 0, "id2": magic})
    return records


def our_payload(record: dict[str, Any]) -> bytes:
    image = bytes.fromhex(record["image"])
    if record["label"] is None:
        return image
    label = np.array(record["label"], np.float32) if isinstance(record["label"], list) else record["label"]
    return pack(Header(0, label, record["id"], record["id2"]), image)


def write_ours(folder: Path, records: list[dict[str, Any]]) -> None:
    with RecordWriter(folder / "a.rec", folder / "a.idx") as writer:
        for record in records:
            writer.write(record["key"], our_payload(record))


def test_mxnet_reads_what_we_write(tmp_path: Path):
    records = some_records()
    write_ours(tmp_path, records)
    ask("read", tmp_path)
    read = json.loads((tmp_path / "read.json").read_text())
    payloads = [our_payload(record).hex() for record in records]
    assert read["in_order"] == payloads
    assert [(key, payload) for key, payload, _ in read["by_index"]] == [
        (record["key"], payload) for record, payload in zip(records, payloads, strict=True)
    ]
    assert sum(MAGIC_BYTES.hex() in payload for payload in payloads) > 100


def test_we_read_what_mxnet_writes_and_would_write_the_same_bytes(tmp_path: Path):
    records = some_records()
    (tmp_path / "a.json").write_text(json.dumps(records))
    ask("write", tmp_path)
    payloads = [bytes.fromhex(payload) for payload in json.loads((tmp_path / "payloads.json").read_text())]
    reader = RecordReader(tmp_path / "a.rec", tmp_path / "a.idx")
    assert reader.keys.tolist() == [record["key"] for record in records]
    assert [bytes(reader.read(key)) for key in reader.keys.tolist()] == payloads
    assert [bytes(payload) for _, payload in reader.scan()] == payloads
    (tmp_path / "ours").mkdir()
    write_ours(tmp_path / "ours", records)
    for name in ("a.rec", "a.idx"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_headers_and_labels_are_those_mxnet_unpacks(tmp_path: Path):
    records = [record for record in some_records() if record["label"] is not None]
    write_ours(tmp_path, records)
    ask("read", tmp_path)
    reader = RecordReader(tmp_path / "a.rec", tmp_path / "a.idx")
    first_labels = []
    for key, _, unpacked in json.loads((tmp_path / "read.json").read_text())["by_index"]:
        header, image = reader.entry(key)
        label_bits = np.asarray(header.label, np.float32).view(np.uint32).tolist()
        assert [header.flag, label_bits, header.id, header.id2, bytes(image).hex()] == unpacked
        first_labels.append(np.atleast_1d(unpacked[1])[0])
    assert reader.labels().view(np.uint32).tolist() == first_labels


def test_mxnet_reads_our_training_set_as_insightface_does(tmp_path: Path):
    images = [(bytes([number]) * (number + 3), number // 3) for number in range(12)]
    insightface_rec.write(tmp_path, images, 4)
    for name in ("rec", "idx"):
        (tmp_path / f"train.{name}").rename(tmp_path / f"a.{name}")
    ask("read", tmp_path)
    unpacked = {key: found for key, _, found in json.loads((tmp_path / "read.json").read_text())["by_index"]}
    numbers = {
        key: np.array(found[1], np.uint32).view(np.float32).tolist() for key, found in unpacked.items()
    }
    assert (unpacked[0][0], numbers[0]) == (2, [13.0, 17.0])
    read = [(bytes.fromhex(unpacked[key][4]), int(numbers[key][0])) for key in range(1, int(numbers[0][0]))]
    assert read == images
    assert [numbers[key] for key in range(13, 17)] == [[1, 4], [4, 7], [7, 10], [10, 13]]


def test_pickles_of_numpy_1_are_read(tmp_path: Path):
    ask("pickles", tmp_path)
    for protocol in range(6):
        found = verification_bin.load(tmp_path / f"{protocol}.bin")
        assert [bytes(image) for image in found.images] == [bytes([n]) * (n + 1) for n in range(4)]
        assert found.is_same.tolist() == [True, False]


def loaded_both_ways(folder: Path, images: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    verification_bin.write(folder / "lfw.bin", images, [True] * (len(images) // 2))
    ask("images", folder)
    ours = [verification_bin.decode(image) for image in verification_bin.load(folder / "lfw.bin").images]
    return np.stack(ours).astype(int), np.load(folder / "images.npy").astype(int)


def blurred_noise(size: int) -> np.ndarray:
    return cv2.blur(np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8), (3, 3))


@pytest.mark.parametrize("size", [56, 160, 250])
def test_images_of_another_size_are_resized_as_insightface_does(tmp_path: Path, size: int):
    ours, theirs = loaded_both_ways(tmp_path, [cv2.imencode(".png", blurred_noise(size))[1].tobytes()] * 2)
    assert np.abs(ours - theirs).max() <= 1, "OpenCV 4 and 5 round bicubic results differently, by one level"


def test_aligned_images_are_those_insightface_loads_to_the_last_bit(tmp_path: Path):
    encoded = [
        cv2.imencode(".jpg", blurred_noise(112), [cv2.IMWRITE_JPEG_QUALITY, q])[1] for q in (60, 80, 95, 100)
    ]
    ours, theirs = loaded_both_ways(tmp_path, [image.tobytes() for image in encoded])
    assert np.array_equal(ours, theirs)


def test_real_faces_are_those_insightface_loads_to_the_last_bit(tmp_path: Path, faces: Path):
    images = [bytes(image) for image in verification_bin.load(faces / "eval" / "lfw.bin").images[:200]]
    ours, theirs = loaded_both_ways(tmp_path, images)
    assert np.array_equal(ours, theirs)
