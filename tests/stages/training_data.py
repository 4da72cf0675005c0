"""A training set small enough to train on in a test: two-coloured squares, one pattern per identity."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.datasets import insightface_rec

IDENTITIES, IMAGES = 4, 8


def write(root: Path, name: str = "tiny") -> None:
    """Write data/NAME/train and data/unpacked/NAME under ``root``."""
    rng = np.random.default_rng(0)
    color_I3 = rng.integers(40, 216, (IDENTITIES, 3))
    images, labels = [], []
    for identity in range(IDENTITIES):
        for _ in range(IMAGES):
            image_HW3 = np.full((112, 112, 3), color_I3[identity], np.uint8)
            top, left = rng.integers(10, 60, 2)
            image_HW3[top : top + 40, left : left + 40] = color_I3[(identity + 1) % IDENTITIES]
            noise_HW3 = rng.integers(-20, 21, image_HW3.shape)
            image_HW3 = (image_HW3.astype(np.int64) + noise_HW3).clip(0, 255).astype(np.uint8)
            images.append(cv2.imencode(".jpg", image_HW3)[1].tobytes())
            labels.append(identity)
    folder = root / "data" / name / "train"
    insightface_rec.write(folder, zip(images, labels, strict=True), IDENTITIES)
    write_manifest(root, name, list(range(1, len(images) + 1)), labels)


def write_manifest(
    root: Path, name: str, keys: list[int], labels: list[int], side: int = 112, num_classes: int = IDENTITIES
) -> None:
    """Write the manifest that ``unpack`` would write for the good records."""
    path = root / "data" / "unpacked" / name / "manifest.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    reader = insightface_rec.TrainSet.open(root / "data" / name / "train").reader
    columns = {
        "key": pa.array(keys, pa.int64()),
        "offset": pa.array([reader.offset(key) for key in keys], pa.int64()),
        "length": pa.array([len(reader.entry(key)[1]) for key in keys], pa.int32()),
        "label": pa.array(labels, pa.int32()),
        "width": pa.array([side] * len(keys), pa.int32()),
        "height": pa.array([side] * len(keys), pa.int32()),
    }
    pq.write_table(pa.table(columns), path)
    (path.parent / "card.json").write_text(json.dumps({"num_classes": num_classes, "sources": [{"records": "train.rec"}]}))
