"""Training images: a data set's good records, decoded and augmented in uint8; no worker count changes them.

Shapes: V views of an image, N images, B batch (of this process).
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
from stages.core import augment, low_view
from stages.core.order import Order
from stages.core.pixels import SIDE
from stages.core.views import Views
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
    """Whole batches of (epoch, position) -> images uint8 (V, B, 112, 112, 3), blue first, and labels (B,).

    Raises:
        LookupError: ``views`` names one that there is not (stages/core/views.py).
    """

    def __init__(
        self,
        records: Records,
        probabilities: augment.Probabilities,
        seed: int,
        views: tuple[str, ...] | None = None,
        low: low_view.Probabilities | None = None,
    ) -> None:
        self.records, self.seed = records, seed
        self.views = Views(views or ("training",), probabilities, low or low_view.Probabilities())
        # until every caller names its views: without them a batch is (B, 112, 112, 3)
        self.single = views is None

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """Return one batch; the name is the one that torch's fetcher looks for."""
        image_VBHW3 = np.empty((len(self.views), len(items), SIDE, SIDE, 3), np.uint8)
        for row, (epoch, position) in enumerate(items):
            self._fill(image_VBHW3[:, row], epoch, position)
        label_B = self.records.label_N[[position for _, position in items]]
        if self.single:
            image_VBHW3 = image_VBHW3[0]
        return torch.from_numpy(image_VBHW3), torch.from_numpy(label_B)

    def _fill(self, image_VHW3: augment.Image, epoch: int, position: int) -> None:
        """Draw the views of one image from the seed, the epoch, the position and the view alone."""
        key = int(self.records.key_N[position])
        image_HW3 = decode(self.records.images.image_bytes(key), f"record {key}")
        for v in range(len(self.views)):
            image_VHW3[v] = self.views.draw(v, image_HW3, self.seed, epoch, position)


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
    """Yield this rank's part of the batches of a range of steps, on the device.

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
    for image_VBHW3, label_B in loader:
        yield image_VBHW3.to(device, non_blocking=True), label_B.to(device, non_blocking=True)


@dataclass(frozen=True)
class _Steps:
    order: Order
    first_step: int
    num_steps: int

    def __iter__(self) -> Iterator[Any]:
        return self.order.batches(self.first_step, self.num_steps)


def _whole(batch: Any) -> Any:
    return batch
