"""Iterates AdaFace's own data set as its data.py does, and says what it cost; runs in an environment of its own.

    PYTHON benchmarks/official_adaface.py ADAFACE FOLDER WORKERS NUM_BATCHES BATCH_SIZE

PYTHON has mxnet 1.9.1, numpy 1.23.5, torch, torchvision, pandas and OpenCV (docs/training-data.md says how to make
it); ADAFACE is a checkout of mk-minchul/AdaFace; FOLDER holds train.rec and train.idx. Prints a line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import tempfile
import time
from typing import Any


def with_torchvision() -> None:
    """Make torchvision's Python importable where its compiled operators do not load (a CUDA build beside a CPU torch).

    Only their names are declared; the transforms of PIL images call none.
    """
    import torch

    if hasattr(with_torchvision, "library"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # kept: what a library defines goes with it
    with_torchvision.library = library  # type: ignore[attr-defined]
    import torchvision  # noqa: F401


def seconds() -> tuple[float, float]:
    """Return CPU seconds of this process and its ended children, and wall seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages), time.perf_counter()


def open_dataset(checkout: str, folder: str, output: str) -> Any:
    """Return the data set with the augmentation of AdaFace's scripts, each operation at 0.2."""
    with_torchvision()
    sys.path.insert(0, checkout)
    from dataset.record_dataset import AugmentRecordDataset
    from torchvision import transforms

    steps = [
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ]
    begin = seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = AugmentRecordDataset(folder, transforms.Compose(steps), 0.2, 0.2, 0.2, output_dir=output)
    return dataset, [now - then for now, then in zip(seconds(), begin, strict=True)]


def iterate(dataset: Any, workers: int, num_batches: int, batch_size: int) -> list[float]:
    """Return CPU and wall seconds of so many batches, the start and the end of the workers included."""
    from torch.utils.data import DataLoader, RandomSampler

    begin = seconds()
    sampler = RandomSampler(dataset, replacement=True, num_samples=num_batches * batch_size)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=workers, sampler=sampler)
    for image_B3HW, label_B in loader:
        assert image_B3HW.shape == (len(label_B), 3, 112, 112)
    del loader
    return [now - then for now, then in zip(seconds(), begin, strict=True)]


def main() -> None:
    """Open, iterate, print."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    checkout, folder = sys.argv[1:3]
    workers, num_batches, batch_size = map(int, sys.argv[3:6])
    with tempfile.TemporaryDirectory() as output:
        dataset, opened = open_dataset(checkout, folder, output)
        taken = iterate(dataset, workers, num_batches, batch_size)
    print(json.dumps({"open": opened, "load": taken, "images": num_batches * batch_size}))


if __name__ == "__main__":
    main()
