"""Looks at training files as `unpack` finds them: a record file, or a folder of people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.images import decoding
from stages.core.images.alignment import SIZE
from stages.core.metrics.features import Image
from stages.datasets.insightface_rec import TrainSet
from stages.datasets.people import PeopleFolder
from stages.inspection.catalogue import TRAINING_SETS
from stages.inspection.facts import Sight, describe_groups, describe_images, seem_swapped, spread
from stages.inspection.findings import SAMPLE, SWAPPED, Found
from stages.unpacking.sources import find


def look(folder: Path, found: Found) -> None:
    """Add what is known of the training files in a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: it is unclear which they are, or they cannot be read.
    """
    one = find(folder)
    if isinstance(one, PeopleFolder):
        _look_people(one, found)
    else:
        _look_records(TrainSet.open(one), found)


def _look_records(train: TrainSet, found: Found) -> None:
    label_N = train.labels
    found.counts = {"identities": train.num_classes, "images": len(train)}
    sizes = np.bincount(label_N, minlength=train.num_classes)
    if (sizes == 0).any():
        found.odd.append(f"{int((sizes == 0).sum()):,} identities have no image")
    name = TRAINING_SETS.get((train.num_classes, len(train)))
    if name:
        found.notes.append(f"by its counts this is {name}")
    if train.reader.idx_path is None:
        found.notes.append("no index: the records are walked")
    if train.declared_classes is None:
        found.notes.append("no property: identities are the largest label plus one")
    keys = {f"record {key}": key for key in spread(train.keys, SAMPLE)}
    _note_images(list(keys), lambda name: bytes(train.image_bytes(keys[name])), "records", found)


def _look_people(people: PeopleFolder, found: Found) -> None:
    found.counts = {"identities": len(people.identities), "images": len(people.names)}
    found.notes.append("a folder of people: `unpack` writes one record file of it")
    found.odd += [f"passed over: {line}" for line in people.describe_passed_over()]
    names = [people.names[row] for row in spread(range(len(people.names)), SAMPLE)]
    _note_images(names, lambda name: (people.folder / name).read_bytes(), "images", found)


def _note_images(names: Sequence[str], read: Callable[[str], bytes], what: str, found: Found) -> None:
    """Decode a sample; note those that fail or have another size, and whether red and blue seem swapped."""
    images: list[Image] = []
    problems = []
    for name in names:
        try:
            data = read(name)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error}")
            continue
        image = decoding.decode(data)
        if image is None:
            problems.append(f"{name}: {len(data)} bytes are not an image, or are truncated")
        else:
            images.append(image)
    if problems:
        found.odd.append(f"{len(problems)} of {len(names)} sampled {what} cannot be decoded, such as {problems[0]}")
    others = [image.shape for image in images if image.shape != (SIZE, SIZE, 3)]
    if others:
        found.odd.append(
            f"{len(others)} of {len(names)} sampled {what} are not {SIZE} x {SIZE}, such as {others[0][1]} x "
            f"{others[0][0]}: training wants aligned faces (`facet pack`)"
        )
    if seem_swapped(images):
        found.odd.append(SWAPPED)


def see_people(people: PeopleFolder, *, everything: bool = False) -> Sight:
    """Inspect a folder of people."""
    sight = Sight("training set in a folder for each person")
    sight.facts["identities (folders)"] = len(people.identities)
    sight.facts["images"] = len(people.names)
    describe_groups(people.label_N, sight)
    rows = range(len(people.names)) if everything else spread(range(len(people.names)))
    sight.facts["checked"] = f"{len(rows):,} images decoded"
    describe_images(((people.names[row], people.image_bytes(row)) for row in rows), sight)
    found = Found()
    _look_people(people, found)
    sight.problems += [odd for odd in found.odd if "cannot be decoded" not in odd and odd != SWAPPED]
    sight.tiles = list(_tiles(people))
    return sight


def _tiles(people: PeopleFolder) -> Iterator[tuple[str, Image]]:
    first: NDArray[Any] = np.searchsorted(people.label_N, np.arange(len(people.identities)))
    for identity in spread(range(len(people.identities)), 8):
        for row in range(int(first[identity]), min(int(first[identity]) + 8, len(people.names))):
            if people.label_N[row] == identity:
                image = decoding.decode(people.image_bytes(row))
                if image is not None:
                    yield people.names[row][-20:], image
