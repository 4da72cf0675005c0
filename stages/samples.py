"""Training images: a data set's good records, decoded and augmented in uint8; no worker count changes them.

Shapes: N images, B batch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages import artifacts
from stages.core import augment
from stages.core.order import Order, augmentation_rng
from stages.core.pixels import SIDE
from stages.datasets.insightface_rec import TrainSet

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Records:
    """The good records of a training set."""

    images: TrainSet
    key_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    num_classes: int
    fingerprint: str
    """Changes with the records, their labels and the file behind them; a checkpoint belongs to one."""


def open_records(dataset: str) -> Records:
    """Return the records of ``data/DATASET`` that ``unpack`` found good.

    Raises:
        FileNotFoundError: the training set or its manifest is missing.
        ValueError: no good record, or images that are not 112 x 112.
    """
    path = artifacts.unpacked_folder(dataset) / "manifest.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `dvc repro unpack@{dataset}`")
    table = pq.read_table(path, columns=["key", "label", "width", "height"])
    key_N, label_N, width_N, height_N = (
        table[name].to_numpy().astype(np.int64) for name in ("key", "label", "width", "height")
    )
    if not len(key_N):
        raise ValueError(f"{path} lists no good record: there is nothing to train on")
    wrong_N = (width_N != SIDE) | (height_N != SIDE)
    if wrong_N.any():
        n = int(np.argmax(wrong_N))
        raise ValueError(
            f"{path}: {wrong_N.sum()} images are not aligned to {SIDE} x {SIDE}, the first is record "
            f"{key_N[n]} with {width_N[n]} x {height_N[n]}: align them, a network takes nothing else"
        )
    folder = artifacts.train_folder(dataset)
    images = TrainSet.open(folder)
    size = (folder / "train.rec").stat().st_size
    fingerprint = hashlib.sha256(f"{artifacts.sha256(path)} {size}".encode()).hexdigest()
    return Records(images, key_N, label_N, images.num_classes, fingerprint)


class Samples(Dataset[Batch]):
    """Whole batches of (epoch, position) -> images uint8 (B, 112, 112, 3), blue first, and labels (B,)."""

    def __init__(self, records: Records, probabilities: augment.Probabilities, seed: int) -> None:
        self.records, self.probabilities, self.seed = records, probabilities, seed

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """Return one batch; the name is the one that torch's fetcher looks for."""
        image_BHW3 = np.empty((len(items), SIDE, SIDE, 3), np.uint8)
        for row, (epoch, position) in enumerate(items):
            image_BHW3[row] = self.image(epoch, position)
        label_B = self.records.label_N[[position for _, position in items]]
        return torch.from_numpy(image_BHW3), torch.from_numpy(label_B)

    def image(self, epoch: int, position: int) -> augment.Image:
        """Return one augmented image, drawn from the seed, the epoch and the position alone."""
        key = int(self.records.key_N[position])
        image_HW3 = decode(self.records.images.image_bytes(key), f"record {key}")
        return augment.augment(image_HW3, self.probabilities, augmentation_rng(self.seed, epoch, position))


def decode(encoded: memoryview | bytes, what: str) -> augment.Image:
    """Return an aligned image, uint8 (112, 112, 3), blue first.

    Raises:
        ValueError: the bytes are no image, or one of another size.
    """
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None or decoded.shape != (SIDE, SIDE, 3):
        came = "bytes that are no image" if decoded is None else f"{decoded.shape[1]} x {decoded.shape[0]}"
        raise ValueError(f"{what}: wanted an image of {SIDE} x {SIDE}, got {came}; `unpack` lists all")
    image_HW3: augment.Image = decoded
    return image_HW3


def load(
    samples: Samples, order: Order, first_step: int, num_steps: int, device: torch.device
) -> Iterator[Batch]:
    """Yield the batches of a range of steps, on the device.

    ``FACET_LOADER_WORKERS`` says how many processes decode: none by default on a CPU, which has work enough.

    Raises:
        ValueError: that variable is not a number, or an image cannot be decoded.
    """
    given = os.environ.get("FACET_LOADER_WORKERS", "0" if device.type == "cpu" else "4")
    if not given.isdigit():
        raise ValueError(f"FACET_LOADER_WORKERS should be the number of loader processes, got {given!r}")
    # stages run side by side: OpenCV's own threads would take the cores of another
    cv2.setNumThreads(1)
    loader: DataLoader[Batch] = DataLoader(
        samples,
        batch_sampler=_Steps(order, first_step, num_steps),
        num_workers=int(given),
        collate_fn=_whole,
        pin_memory=device.type == "cuda",
        # its own, because a loader draws from it when it starts, and a resumed training starts one more
        generator=torch.Generator(),
    )
    for image_BHW3, label_B in loader:
        yield image_BHW3.to(device, non_blocking=True), label_B.to(device, non_blocking=True)


@dataclass(frozen=True)
class _Steps:
    order: Order
    first_step: int
    num_steps: int

    def __iter__(self) -> Iterator[Any]:
        return self.order.batches(self.first_step, self.num_steps)


def _whole(batch: Any) -> Any:
    return batch
