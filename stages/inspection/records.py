"""Inspects a RecordIO file: record 0, identities, images, damage; with our reader, and optionally with mxnet."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images import decoding
from stages.core.metrics.features import Image
from stages.core.recordio.reader import RecordError, RecordReader
from stages.datasets.insightface_rec import TrainSet
from stages.inspection.catalogue import TRAINING_SETS
from stages.inspection.facts import Sight, describe_groups, describe_images, spread

FRAMING_LIMIT = 500_000  # records whose framing is looked at, unless all are asked for
_MXNET_TIMEOUT_S = 600


def see(path: Path, *, everything: bool = False) -> Sight:
    """Inspect a ``.rec`` file.

    Args:
        path: the file; its index is read where it stands beside it.
        everything: check and decode every record, not a sample.

    Raises:
        RecordError: index, file and record 0 do not fit together: nothing can be read.
        ValueError: ``property`` or a label cannot be used.
    """
    index = path.with_suffix(".idx")
    reader = RecordReader(path, index if index.is_file() else None)
    train, sight = TrainSet(path.parent, reader), Sight("training set in RecordIO (InsightFace .rec)")
    sight.facts["records"] = len(reader)
    sight.facts["index"] = index.name if index.is_file() else "none: keys are ordinals, and training needs train.idx"
    sight.facts["record 0"] = _record_0(reader, train)
    key_N, label_N = _labels(train, sight)
    first = reader.entry(int(key_N[0]))[0]
    sight.facts["label of an image"] = (
        "one number" if first.flag == 0 else f"{first.flag} numbers: {np.asarray(first.label).tolist()}"
    ) + f" (key {int(key_N[0])})"
    num_classes = train.declared_classes or int(label_N.max()) + 1
    sight.facts["identities"] = num_classes
    sight.facts["images"] = len(train)
    name = TRAINING_SETS.get((num_classes, len(train)))
    if name:
        sight.facts["by its counts"] = name
    describe_groups(label_N, sight)
    if len(np.unique(label_N)) < num_classes:
        sight.problems.append(f"{num_classes - len(np.unique(label_N)):,} identities have no image")
    keys = key_N if everything else key_N[:: max(1, len(key_N) // FRAMING_LIMIT)]
    sight.problems += _framing(train, keys)
    tried = keys.tolist() if everything else spread(key_N)
    sight.facts["checked"] = f"framing of {len(keys):,} records, {len(tried):,} images decoded"
    describe_images(_images(train, tried), sight)
    sight.tiles = _tiles(train, key_N, label_N)
    return sight


def _labels(train: TrainSet, sight: Sight) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return keys and identities of the images; records with an unreadable label are reported and left out.

    Raises:
        ValueError: not one can be read.
    """
    try:
        return train.keys, train.labels
    except RecordError:
        pass  # one record at a time, to name them all
    sound: list[tuple[int, int]] = []
    for key in train.keys.tolist():
        try:
            sound.append((key, train.label_of(key)))
        except RecordError as error:
            sight.problems.append(f"record {key} at byte {train.reader.offset(key)}: {error.problem}")
    if not sound:
        raise InputError(f"{train.reader.rec_path}: no record can be read; first error: {sight.problems[0]}")
    table = np.array(sound, dtype=np.int64)
    return table[:, 0], table[:, 1]


def _record_0(reader: RecordReader, train: TrainSet) -> str:
    if train.header is None:
        return "an image: the file has no header (im2rec.py or shuffle_rec.py)"
    end, last = (int(value) for value in train.header[:2])
    return (
        f"header, flag {reader.entry(0)[0].flag}, label [{end}, {last}]: images are keys 1 to {end - 1}, "
        f"identities keys {end} to {last - 1}"
    )


def _framing(train: TrainSet, keys: NDArray[np.int64]) -> list[str]:
    problems = []
    for key in keys.tolist():
        try:
            train.image_bytes(key)
        except RecordError as error:
            problems.append(f"record {key} at byte {train.reader.offset(key)}: {error.problem}")
    return problems


def _images(train: TrainSet, keys: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for key in keys:
        try:
            yield f"record {int(key)}", bytes(train.image_bytes(int(key)))
        except RecordError:
            continue  # its framing is a problem already


def _tiles(train: TrainSet, key_N: NDArray[np.int64], label_N: NDArray[np.int64]) -> list[tuple[str, Image]]:
    """Return up to eight images each of up to eight identities, spread over the file."""
    tiles: list[tuple[str, Image]] = []
    for identity in spread(np.unique(label_N), 8):
        for key in key_N[label_N == identity][:8].tolist():
            try:
                image = decoding.decode(bytes(train.image_bytes(key)))
            except RecordError:
                image = None
            if image is not None:
                tiles.append((f"id {identity} key {key}", image))
    return tiles


def beside_mxnet(path: Path, sight: Sight) -> None:
    """Read the same file with mxnet, in its own interpreter, and add whether both agree.

    Raises:
        ValueError: ``FACET_MXNET_PYTHON`` is not set, or mxnet there cannot read the file.
    """
    python = os.environ.get("FACET_MXNET_PYTHON")
    if not python:
        raise InputError(
            "--engine mxnet needs FACET_MXNET_PYTHON, the Python of an environment with mxnet 1.9.1: "
            "`make test-mxnet` creates .venv-mxnet/bin/python"
        )
    index = path.with_suffix(".idx")
    if not index.is_file():
        raise InputError(f"--engine mxnet needs the index {index}, which is missing")
    reader = RecordReader(path, index)
    keys = spread(reader.keys)
    script = Path(__file__).with_name("mxnet_reader.py")
    command = [python, str(script), str(index), str(path), json.dumps(keys)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MXNET_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"FACET_MXNET_PYTHON={python} cannot be used: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"mxnet cannot read {path}: {last}")
    theirs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sight.facts["mxnet"] = f"{theirs['version']}, {theirs['records']:,} records"
    if theirs["records"] != len(reader):
        sight.problems.append(f"mxnet reads {theirs['records']:,} records, our reader {len(reader):,}")
    differ = [key for key, told in zip(keys, theirs["seen"], strict=True) if told != _digest(reader, key)]
    sight.facts["mxnet and our reader agree"] = f"on {len(keys) - len(differ)} of {len(keys)} records tried"
    sight.problems += [f"record {key}: mxnet and our reader disagree" for key in differ]


def _digest(reader: RecordReader, key: int) -> list[Any]:
    header, image = reader.entry(key)
    return [np.atleast_1d(np.asarray(header.label, np.float64)).tolist(), hashlib.sha256(image).hexdigest()]
