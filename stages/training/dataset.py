"""Training images: a data set's good records, decoded and augmented in uint8, independent of the number of workers.

Shapes: V views of an image, N images, B batch (of this process).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.config.training import Config
from stages.core.errors import InputError
from stages.core.images import augment, decoding, low_view
from stages.core.images.augment_views import Views
from stages.core.images.brisque import Regression
from stages.core.images.pixels import SIDE
from stages.core.losses.mixed_order import MixedOrder, counts_of
from stages.core.losses.sampler import Order, Streams
from stages.core.recordio.images import ManyRecordImages, RecordImages
from stages.io import brisque_model
from stages.runtime import artifacts, devices, merged, pin
from stages.training import positions
from stages.training.loader import Items, batches, to_device

Batch = tuple[Tensor, ...]
"""Images uint8 (V, B, 112, 112, 3), labels (B,) and, where the head asks for it, the quality of each image (B,)."""
POSITIONS = ["key", "offset", "length", "label"]
"""Columns of a manifest that a training keeps."""


@dataclass(frozen=True)
class Records:
    """The good records of a training set."""

    images: RecordImages | ManyRecordImages
    key_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    num_classes: int
    fingerprint: str
    """Identity of the records, their labels, the classes and the file; a checkpoint belongs to one of these."""
    positions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Of a merged data set, the positions of the images of each source."""


def open_records(dataset: str, *, shared: bool = False) -> Records:
    """Return the records of ``data/DATASET`` that ``unpack`` found good.

    Args:
        dataset: its name.
        shared: keep their positions in memory once for all processes of this machine.

    Raises:
        FileNotFoundError: the training set or its manifest is missing.
        RecordError: the record file is shorter than the manifest says.
        ValueError: no good record, images that are not 112 x 112, or a label that is no class.
    """
    path = artifacts.unpacked_folder(dataset) / "manifest.parquet"
    if not path.is_file() or not path.with_name("card.json").is_file():
        raise FileNotFoundError(f"{path} is missing: run `dvc repro unpack@{dataset}`")
    digest = artifacts.sha256(path)
    columns = positions.shared(dataset, digest, lambda: _positions(path)) if shared else _positions(path)
    key_N, offset_N, length_N, label_N = (columns[name] for name in POSITIONS)
    card = artifacts.read_json(path.with_name("card.json"))
    paths = record_files(dataset, card["sources"])
    file_N = read_columns(path, ["source"])["source"] if len(paths) > 1 else np.zeros(len(key_N), np.int64)
    images = _images(paths, file_N, (key_N, offset_N, length_N))
    size = "+".join(str(records.stat().st_size) for records in paths)
    # what was declared, or the labels say: bad records that `unpack` allowed are not among them
    num_classes = int(card["num_classes"])
    if label_N.min() < 0 or label_N.max() >= num_classes:
        raise InputError(
            f"{path}: labels should be in 0..{num_classes - 1}, got {label_N.min()} to {label_N.max()}: "
            f"run `dvc repro --force unpack@{dataset}`"
        )
    fingerprint = hashlib.sha256(f"{digest} {size} {num_classes}".encode()).hexdigest()
    names = [source.get("dataset", dataset) for source in card["sources"]] if len(paths) > 1 else []
    of_sources = {name: np.flatnonzero(file_N == number) for number, name in enumerate(names)}
    return Records(images, key_N, label_N, num_classes, fingerprint, of_sources)


def _positions(path: Path) -> positions.Columns:
    """Return keys, positions and labels of a manifest, whose images have all the right size."""
    columns = read_columns(path, [*POSITIONS, "width", "height"])
    key_N, width_N, height_N = columns["key"], columns.pop("width"), columns.pop("height")
    if not len(key_N):
        raise InputError(f"{path} lists no good record, so there are no training images")
    wrong_N = (width_N != SIDE) | (height_N != SIDE)
    if wrong_N.any():
        n = int(np.argmax(wrong_N))
        raise InputError(
            f"{path}: {wrong_N.sum()} images are not aligned to {SIDE} x {SIDE}, the first is record "
            f"{key_N[n]} with {width_N[n]} x {height_N[n]}: align them"
        )
    return columns


def _images(
    files: Sequence[Path], file_N: NDArray[np.int64], column_3N: tuple[NDArray[np.int64], ...]
) -> RecordImages | ManyRecordImages:
    if len(files) == 1:
        return RecordImages(files[0], *column_3N)
    parts = [
        RecordImages(records, *(column_N[file_N == number] for column_N in column_3N))
        for number, records in enumerate(files)
    ]
    return ManyRecordImages(parts, file_N)


def order_of(records: Records, config: Config, rank: int, world_size: int) -> Order:
    """Return the order of a training run's images: all of them shuffled, or each source with its share of a batch.

    Raises:
        ValueError: a batch cannot be shared evenly among processes, or a source would have no image in it.
    """
    plain = Order(len(records.key_N), config.schedule.batch_size, config.seed, rank, world_size)
    if config.shares is None:
        return plain
    if config.shares.keys() != records.positions.keys():
        there = ", ".join(records.positions) or "none, it is a single one"
        given = ", ".join(config.shares)
        raise InputError(f"shares: wanted one for each source of {config.dataset} ({there}), got {given}")
    counts = counts_of(config.shares, plain.size)
    of_sources = [records.positions[name] for name in config.shares]
    return MixedOrder(plain.num_samples, plain.batch_size, plain.seed, rank, world_size, of_sources, counts)


def record_files(dataset: str, sources: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Return the record files that a data card names; a person's are checked to be as they were unpacked.

    The images of a folder of people were written into one by `unpack`.
    """
    if all(source.get("people") for source in sources):
        return [artifacts.unpacked_folder(dataset) / source["records"] for source in sources]
    pin.checked(dataset)
    folders = merged.training_folders(dataset)
    return [
        (artifacts.unpacked_folder(dataset) if source.get("people") else folders[source.get("dataset", dataset)])
        / source["records"]
        for source in sources
    ]


def read_columns(path: Path, names: list[str]) -> dict[str, NDArray[np.int64]]:
    """Return columns of a manifest by name."""
    found = {}
    with pq.ParquetFile(path, pre_buffer=False) as manifest:
        for name in names:  # one at a time: with 42 million records a column has 340 MB
            table = manifest.read([name], use_threads=False)
            # neither `read_table` nor `to_numpy`: they import pandas, for ten times as long as all else takes
            found[name] = np.from_dlpack(table[name].combine_chunks()).astype(np.int64)
    return found


class Samples:
    """Batches of (epoch, position) -> images uint8 (V, B, 112, 112, 3), blue first, labels (B,), maybe qualities (B,).

    An image is drawn from the seed, the epoch, the position and the view alone.

    Args:
        records: of a training set.
        probabilities: of the augmentation.
        seed: of the training.
        views: of each image.
        low: probabilities of the view `low`.
        brisque: computes the quality of the first view of each image, as it is drawn; None: none is wanted.

    Raises:
        LookupError: ``views`` names one that there is not (stages/core/images/augment_views.py).
    """

    def __init__(
        self,
        records: Records,
        probabilities: augment.Probabilities,
        seed: int,
        views: tuple[str, ...],
        low: low_view.Probabilities | None = None,
        brisque: Regression | None = None,
    ) -> None:
        self.records, self.streams, self.brisque = records, Streams(seed), brisque
        self.views = Views(views, probabilities, low or low_view.Probabilities())

    def shape(self, num_images: int) -> tuple[int, ...]:
        """Return the shape of a batch of images."""
        return (len(self.views), num_images, SIDE, SIDE, 3)

    def fill(self, image_VBHW3: augment.Image, items: Items) -> tuple[NDArray[Any], ...]:
        """Draw a batch into an existing array; return its labels and, where they are wanted, qualities, shape (B,).

        Raises:
            ValueError: an image cannot be decoded, or has another size.
        """
        for row, (epoch, position) in enumerate(items):
            image_HW3 = image_VBHW3[0, row]
            self._decode(image_HW3, position)
            # the first view last: the others are drawn from what is decoded in its place
            for v in reversed(range(len(self.views))):
                drawn_HW3 = self.views.draw(v, image_HW3, self.streams.at(epoch, position, self.views.streams[v]))
                if drawn_HW3 is not image_HW3 or v:
                    image_VBHW3[v, row] = drawn_HW3
        label_B = self.records.label_N[[position for _, position in items]]
        # here, because here it is done by the loader processes: it takes a millisecond of a CPU for each image
        return (label_B,) if self.brisque is None else (label_B, brisque_model.qualities(image_VBHW3[0], self.brisque))

    def _decode(self, image_HW3: augment.Image, position: int) -> None:
        size = decoding.decode_into(image_HW3, self.records.images.image_bytes(position))
        if size != (SIDE, SIDE):
            came = f"{size[1]} x {size[0]}" if size else "bytes that are no image"
            record = f"record {self.records.key_N[position]}"
            raise InputError(f"{record}: wanted an image of {SIDE} x {SIDE}, got {came}; `unpack` lists all")


def load(samples: Samples, order: Order, first_step: int, num_steps: int, device: torch.device) -> Iterator[Batch]:
    """Yield this rank's part of the batches of a range of steps, on the device.

    Raises:
        ValueError: FACET_LOADER_WORKERS is not a number, or an image cannot be decoded.
    """
    workers = num_workers(device)
    # stages run side by side: OpenCV's own threads would take the cores of another
    cv2.setNumThreads(1)
    steps = order.batches(first_step, num_steps)
    shape = samples.shape(order.local_size)
    for image_VBHW3, facts in batches(samples.fill, steps, shape, workers):
        yield to_device(image_VBHW3, device), *(to_device(torch.from_numpy(fact_B), device) for fact_B in facts)


def num_workers(device: torch.device) -> int:
    """Return how many processes decode for one that trains: ``FACET_LOADER_WORKERS``.

    By default none on a CPU, which has work enough, else 4 or as many as there are cores.
    """
    usual = 0 if device.type == "cpu" else min(4, devices.num_cores())
    given = os.environ.get("FACET_LOADER_WORKERS", str(usual))
    if not given.isdigit():
        raise InputError(f"FACET_LOADER_WORKERS should be the number of loader processes, got {given!r}")
    return int(given)
