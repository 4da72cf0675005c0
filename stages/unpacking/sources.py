"""Opens a training set of any layout as a record file; the images of a folder of people are written into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import InputError
from stages.core.images import decoding
from stages.core.images.alignment import SIZE
from stages.datasets import insightface_rec, people
from stages.datasets.insightface_rec import TrainSet
from stages.datasets.people import PeopleFolder
from stages.runtime import places
from stages.runtime.progress import Progress, say
from stages.unpacking.check import Checked, check_all

SAMPLE = 64  # images of a folder of people that are looked at before all are read
READERS, AHEAD = 8, 512  # threads that read small files, and how many files they read ahead


@dataclass(frozen=True)
class Source:
    """One record file with images to train on."""

    dataset: str
    train: TrainSet
    people: PeopleFolder | None = None
    """Whose image files are in the record file; None: it is a person's own record file."""

    @property
    def path(self) -> Path:
        """What the person gave."""
        return self.people.folder if self.people else self.train.reader.rec_path

    def check(self, images: Path | None) -> Checked:
        """Check every image, and export it to ``images`` if that is given; bad image files are named."""
        checked = check_all(self.train, images, SIZE if self.people else None)
        if self.people:
            for record in (*checked.bad, *checked.suspect):
                record["name"] = self.people.names[record["key"] - 1]
        return checked

    def describe(self, within: Path) -> dict[str, Any]:
        """Return what the data card says of it.

        Args:
            within: the folder that is unpacked into.
        """
        records, index = self.train.reader.rec_path, self.train.reader.idx_path
        if self.people:
            passed_over = {reason: len(paths) for reason, paths in self.people.passed_over.items()}
            return {"people": True, "records": str(records.relative_to(within)), "passed_over": passed_over}
        return {
            "records": records.name,
            "index": None if index is None else index.name,
            "num_classes": "largest label plus one" if self.train.declared_classes is None else "property",
        }


def find(folder: Path) -> Path | PeopleFolder:
    """Return the record file to train on in a folder, or the folder of people that it is.

    Raises:
        FileNotFoundError: there is no training set.
        ValueError: it is unclear which file it is.
    """
    records = places.record_file(folder)
    if records is not None:
        return records
    home = places.people_folder(folder)
    if home is None:
        raise FileNotFoundError(
            f"{folder} holds no training set: wanted train.rec, another NAME.rec, or a folder of images for each person"
        )
    return people.load(home)


def open_source(dataset: str, found: Path | PeopleFolder, aside: Path) -> Source:
    """Open a training set, and say what it lacks and what is passed over.

    Args:
        dataset: its name.
        found: as ``find`` returns it.
        aside: where the record file of a folder of people goes.

    Raises:
        ValueError: it cannot be read, or is a folder of people whose images are not aligned.
    """
    if isinstance(found, PeopleFolder):
        return Source(dataset, write_records(found, aside), found)
    train = TrainSet.open(found)
    if train.reader.idx_path is None:
        say(
            f"{found}: no index {found.stem}.idx, so its {len(train.reader):,} records were walked: "
            f"whether the file was cut short between two records cannot be told"
        )
    if train.declared_classes is None:
        say(f"{found.parent}: no property, so the number of identities is the largest label plus one")
    return Source(dataset, train)


def write_records(found: PeopleFolder, folder: Path) -> TrainSet:
    """Write the bytes of all image files, as they are, into a record file: training reads that.

    Raises:
        ValueError: most images are not aligned.
    """
    for line in found.describe_passed_over():
        say(f"{found.folder}: passed over {line}")
    refuse_pictures(found)
    progress = Progress("read", len(found.names), "images")
    images = zip(progress.over(_all_bytes(found)), found.label_N.tolist(), strict=True)
    insightface_rec.write(folder, images, len(found.identities), names=found.names)
    return TrainSet.open(folder)


def refuse_pictures(found: PeopleFolder) -> None:
    """Refuse a folder before it is read whole if most of a sample are not aligned faces."""
    sizes: Counter[tuple[int, int]] = Counter()
    for n in np.unique(np.linspace(0, len(found.names) - 1, SAMPLE).round().astype(int)).tolist():
        data = found.image_bytes(n)
        image = decoding.decode(data)
        if image is not None:
            sizes[image.shape[1], image.shape[0]] += 1
    others = sum(count for size, count in sizes.items() if size != (SIZE, SIZE))
    if 2 * others > sizes.total():
        (width, height), _ = max(sizes.items(), key=lambda item: (item[0] != (SIZE, SIZE), item[1]))
        raise InputError(
            f"{found.folder}: {others} of {sizes.total()} images tried are not {SIZE} x {SIZE}, many are {width} x "
            f"{height}: training wants faces aligned to {SIZE} x {SIZE}; `facet pack {found.folder} TARGET` aligns them"
        )


def _all_bytes(found: PeopleFolder) -> Iterator[bytes]:
    """Yield the bytes of every file in order, read ahead by several threads."""
    total = len(found.names)
    with ThreadPoolExecutor(READERS) as pool:
        for begin in range(0, total, AHEAD):
            yield from pool.map(found.image_bytes, range(begin, min(begin + AHEAD, total)))
