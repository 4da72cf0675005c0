"""A training set of 20 images to unpack, the parameters for it, and a run of the stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages import unpack
from stages.core.recordio.reader import RecordWriter
from stages.datasets import insightface_rec

OUT = Path("data/unpacked/tiny")


def jpeg(seed: int, side: int = 24) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.blur(noise, (5, 5)))[1].tobytes()


IMAGES = [(jpeg(seed), seed // 4) for seed in range(20)]


def write() -> None:
    """Write the data set `tiny`: 20 images of 5 identities."""
    insightface_rec.write(Path("data/tiny/train"), IMAGES, 5)
    configure()


def configure(export: str = "none", max_bad_records: int = 0) -> None:
    path = Path("resolved/datasets/tiny.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"unpack: {{export: {export}, max_bad_records: {max_bad_records}}}\n")


def write_plain(payloads: list[bytes]) -> None:
    """Rewrite `tiny` as a file without header record and property, with these payloads."""
    folder = Path("data/tiny/train")
    for path in folder.iterdir():
        path.unlink()
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key, payload in enumerate(payloads):
            writer.write(key, payload)


def run() -> dict[str, Any]:
    unpack.main(unpack.parser().parse_args(["tiny"]))
    return json.loads((OUT / "card.json").read_text())
