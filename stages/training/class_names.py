"""Names of the classes of a data set: of a folder of people the names of its folders; a record file has none.

They stand beside a trained model's weights, so that a run that starts from it knows who is who.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.io.class_names import ENCODING, ERRORS, UNKNOWN, unambiguous
from stages.runtime import artifacts
from stages.training.dataset import read_columns


def of_dataset(dataset: str) -> list[str] | None:
    """Return the name of each class of an unpacked data set, or None if it knows no names.

    Of a merged set, the classes of its record files have no name.
    """
    folder = artifacts.unpacked_folder(dataset)
    card = artifacts.read_json(folder / "card.json")
    sources = card.get("sources", [])
    if not any(source.get("people") for source in sources):
        return None
    many = len(sources) > 1
    found = read_columns(folder / "manifest.parquet", ["key", "label", *(["source"] if many else [])])
    key_N, label_N = found["key"], found["label"]
    source_N = found["source"] if many else np.zeros_like(key_N)
    names = [UNKNOWN] * int(card["num_classes"])
    for number, source in enumerate(sources):
        if source.get("people"):
            identities = list(_identities((folder / source["records"]).with_suffix(".lst")))
            label_L, first_L = np.unique(label_N[source_N == number], return_index=True)
            for label, key in zip(label_L.tolist(), key_N[source_N == number][first_L].tolist(), strict=True):
                names[label] = names[label] or identities[key - 1]
    return unambiguous(names)


def _identities(path: Path) -> Iterator[str]:
    """Yield the identity of each image of a list: the folder it was in."""
    with path.open(encoding=ENCODING, errors=ERRORS, newline="") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")[1].partition("/")[0]
