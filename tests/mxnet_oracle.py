"""Reads and writes records with mxnet's own code; runs in the environment of `make test-mxnet`.

    python tests/mxnet_oracle.py write FOLDER    a.json -> a.rec, a.idx, payloads.json
    python tests/mxnet_oracle.py read FOLDER     a.rec, a.idx -> read.json
    python tests/mxnet_oracle.py images FOLDER   lfw.bin -> images.npy, as insightface loads them
    python tests/mxnet_oracle.py pickles FOLDER  numpy 1's pickles of one set, N.bin for each protocol
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np

# pytest imports every file for its doctests, where there is no mxnet
if __name__ == "__main__":
    import mxnet as mx


PYTHON = os.environ.get("FACET_MXNET_PYTHON")
NOT_SET = "FACET_MXNET_PYTHON is not set: run `make test-mxnet`"


def ask(question: str, folder: Path) -> None:
    """Run this program in mxnet's environment; called by tests."""
    command = [str(PYTHON), __file__, question, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def write(folder: Path) -> None:
    """Write the records described in a.json: packed entries, or raw payloads."""
    records = json.loads((folder / "a.json").read_text())
    payloads = []
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "a.idx"), str(folder / "a.rec"), "w")
    for record in records:
        payload = bytes.fromhex(record["image"])
        if record["label"] is not None:
            label = (
                np.array(record["label"], np.float32)
                if isinstance(record["label"], list)
                else record["label"]
            )
            payload = mx.recordio.pack(mx.recordio.IRHeader(0, label, record["id"], record["id2"]), payload)
        payloads.append(payload.hex())
        writer.write_idx(record["key"], payload)
    writer.close()
    (folder / "payloads.json").write_text(json.dumps(payloads))


def read(folder: Path) -> None:
    """Read a.rec by its index and in order, and unpack records that are long enough."""
    reader = mx.recordio.MXIndexedRecordIO(str(folder / "a.idx"), str(folder / "a.rec"), "r")
    by_index = [(key, bytes(reader.read_idx(key))) for key in reader.keys]
    in_order = mx.recordio.MXRecordIO(str(folder / "a.rec"), "r")
    payloads = []
    while (payload := in_order.read()) is not None:
        payloads.append(bytes(payload).hex())
    tree = {
        "by_index": [(key, payload.hex(), unpacked(payload)) for key, payload in by_index],
        "in_order": payloads,
    }
    (folder / "read.json").write_text(json.dumps(tree))


def unpacked(payload: bytes) -> tuple | None:
    """Return header and image as JSON, None for a payload that has no header."""
    if len(payload) < 24:
        return None
    flag = int.from_bytes(payload[:4], "little")
    if flag * 4 > len(payload) - 24:
        return None
    header, image = mx.recordio.unpack(payload)
    label = np.asarray(header.label, np.float32).view(np.uint32).tolist()
    return header.flag, label, header.id, header.id2, bytes(image).hex()


def images(folder: Path) -> None:
    """Decode and resize as insightface's verification.py does; BGR, shape (N, 112, 112, 3)."""
    with (folder / "lfw.bin").open("rb") as stream:
        bins, _ = pickle.load(stream, encoding="bytes")
    decoded = []
    for encoded in bins:
        image = mx.image.imdecode(encoded)
        if image.shape[1] != 112:
            image = mx.image.resize_short(image, 112)
        decoded.append(image.asnumpy()[:, :, ::-1])
    np.save(folder / "images.npy", np.stack(decoded))


def pickles(folder: Path) -> None:
    """Pickle arrays with numpy 1."""
    arrays = [np.frombuffer(bytes([n]) * (n + 1), np.uint8) for n in range(4)]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with (folder / f"{protocol}.bin").open("wb") as stream:
            pickle.dump((arrays, np.array([True, False])), stream, protocol)


if __name__ == "__main__":
    {"write": write, "read": read, "images": images, "pickles": pickles}[sys.argv[1]](Path(sys.argv[2]))
