"""Names of the classes of a data set: of a folder of people the names of its folders; a record file has none.

They stand beside a trained model's weights, so that a run that starts from it knows who is who.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.io.class_names import ENCODING, ERRORS, UNKNOWN, unambiguous
from stages.runtime import artifacts


def of_dataset(dataset: str) -> list[str] | None:
    """Return the name of each class of an unpacked data set, or None if it knows no names.

    Of a merged set, the classes of its record files have no name.
    """
    folder = artifacts.unpacked_folder(dataset)
    card = artifacts.read_json(folder / "card.json")
    sources = card.get("sources", [])
    if not any(source.get("people") for source in sources):
        return None
    key_N, label_N, source_N = _columns(folder / "manifest.parquet", len(sources) > 1)
    names = [UNKNOWN] * int(card["num_classes"])
    for number, source in enumerate(sources):
        if source.get("people"):
            identities = list(_identities((folder / source["records"]).with_suffix(".lst")))
            label_L, first_L = np.unique(label_N[source_N == number], return_index=True)
            for label, key in zip(label_L.tolist(), key_N[source_N == number][first_L].tolist(), strict=True):
                names[label] = names[label] or identities[key - 1]
    return unambiguous(names)


def _columns(manifest: Path, has_sources: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return key, label and number of the source of each image."""
    with pq.ParquetFile(manifest, pre_buffer=False) as file:
        table = file.read(["key", "label", *(["source"] if has_sources else [])], use_threads=False)
    found = [np.from_dlpack(column.combine_chunks()).astype(np.int64) for column in table.columns]
    return found[0], found[1], found[2] if has_sources else np.zeros_like(found[0])


def _identities(path: Path) -> Iterator[str]:
    """Yield the identity of each image of a list: the folder it was in."""
    with path.open(encoding=ENCODING, errors=ERRORS, newline="") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")[1].partition("/")[0]
