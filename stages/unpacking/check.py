"""Checks every image of a training set: reads, decodes and, on request, exports it, on all cores.

Shapes: N images, C columns of the manifest.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images.image_format import extension
from stages.core.recordio.reader import RecordError
from stages.datasets.insightface_rec import TrainSet
from stages.runtime import program
from stages.runtime.progress import Progress

BLOCK = 256  # images a worker checks at a time: about 30 ms
COLUMNS = {"key": "i8", "offset": "i8", "length": "i4", "label": "i4", "width": "i4", "height": "i4"}


@dataclass
class Checked:
    """Result of checking a block of records; ``row_NC`` has one row per good image, in the order of COLUMNS."""

    row_NC: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, len(COLUMNS)), np.int64))
    formats: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, Any]] = field(default_factory=list)
    suspect: list[dict[str, Any]] = field(default_factory=list)


def check_all(train: TrainSet, images: Path | None, side: int | None = None) -> Checked:
    """Read and decode every image on all cores.

    Args:
        train: the training set.
        images: folder to export to; None: nothing is exported.
        side: width and height in pixels that an image must have; None: any.
    """
    begins = range(0, len(train), BLOCK)
    # a fork shares this process's pages; elsewhere than on Linux it is not safe
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    workers = min(num_cores(), len(begins))
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(train, images, side))
    progress = Progress("unpack", len(train), "images")
    found: list[Checked] = []
    try:
        with program.closing(pool):
            for checked in pool.map(check_block, begins, [begin + BLOCK for begin in begins]):
                found.append(checked)
                progress.advance(min(BLOCK, len(train) - progress.done))
    except BrokenProcessPool as error:
        key = train.keys[begins[len(found)]]
        raise OSError(f"{train.reader.rec_path}: a worker process died at key {key} or later") from error
    return Checked(
        np.concatenate([checked.row_NC for checked in found], dtype=np.int64),
        sum((checked.formats for checked in found), Counter()),
        [record for checked in found for record in checked.bad],
        [record for checked in found for record in checked.suspect],
    )


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Worker:
    """State of a worker process: its own opened training set, and a file that captures its stderr."""

    train: TrainSet
    images: Path | None
    side: int | None
    complaints: Any


def start_worker(train: TrainSet, images: Path | None, side: int | None) -> None:
    """Prepare a worker process: libjpeg reports damage on stderr only, so stderr goes to a file.

    A forked one has the opened training set of its parent, which may have walked the file for its index.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program.die_with_parent()
    Worker.train, Worker.images, Worker.side = train, images, side
    Worker.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
    os.dup2(Worker.complaints.fileno(), 2)


def check_block(begin: int, end: int) -> Checked:
    """Check the images from ``begin`` to ``end``, in the order of the index, in a worker."""
    checked, rows = Checked(), []
    for key in Worker.train.keys[begin:end].tolist():
        offset = Worker.train.reader.offset(key)
        try:
            label, image = Worker.train.label_of(key), Worker.train.image_bytes(key)
            (width, height), complaint = decode(image)
            if Worker.side not in (None, width) or Worker.side not in (None, height):
                raise InputError(f"it is {width} x {height}: wanted a face aligned to {Worker.side} x {Worker.side}")
        except ValueError as error:
            problem = error.problem if isinstance(error, RecordError) else str(error)
            checked.bad.append({"key": key, "offset": offset, "problem": problem})
            continue
        suffix = extension(image)
        if Worker.images is not None:
            write_once(Worker.images / str(label) / f"{key}.{suffix}", image)
        if complaint:
            checked.suspect.append({"key": key, "offset": offset, "problem": complaint})
        checked.formats[suffix] += 1
        rows.append((key, offset, len(image), label, width, height))
    checked.row_NC = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
    return checked


def decode(image: memoryview) -> tuple[tuple[int, int], str]:
    """Decode an image; return its width and height, and the decoder's complaint, if any.

    Raises:
        ValueError: it cannot be decoded to its end.
    """
    told = os.fstat(2).st_size
    try:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"its {len(image)} bytes cannot be decoded: {error.err}") from None
    new_bytes = os.fstat(2).st_size - told
    complaint = os.pread(2, min(new_bytes, 300), told).decode("utf-8", "replace").strip() if new_bytes else ""
    if pixels is None:
        reason = f" ({complaint})" if complaint else ""
        raise InputError(f"its {len(image)} bytes are not an image, or are truncated{reason}")
    return (pixels.shape[1], pixels.shape[0]), complaint


def write_once(path: Path, image: memoryview) -> None:
    """Write an image unless it exists completely: creating a file costs far more than reading one."""
    try:
        if path.stat().st_size == len(image) and path.read_bytes() == image:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
