"""Stage `unpack`: reads every record of a training set, checks it, and writes a manifest and a data card.

    python -m stages.unpack demo

data/unpacked/NAME/manifest.parquet has a row per sound image in the order of the index: `key`, `offset`
(where its record begins), `length` (bytes of the image alone), `label`, `width`, `height`. A
stage that trains takes its keys and labels from there, so bad records that were allowed stay out. card.json
has counts, images per identity and bad records. With `export: folder`, images/IDENTITY/KEY.jpg are the bytes
as they are stored, never re-encoded.
"""

from __future__ import annotations

import argparse
import os
import shutil
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
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.data_card import describe_images, ranges_that_disagree
from stages.core.images.image_format import extension
from stages.core.recordio.reader import RecordError
from stages.datasets.insightface_rec import Config, TrainSet
from stages.runtime import artifacts, pin, places, program
from stages.runtime.progress import Progress, say

BLOCK = 256  # images a worker checks at a time: about 30 ms
COLUMNS = {"key": "i8", "offset": "i8", "length": "i4", "label": "i4", "width": "i4", "height": "i4"}


@dataclass
class Checked:
    """Result of checking a block of records; ``row_NC`` has one row per good image, in the order of COLUMNS."""

    row_NC: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, len(COLUMNS)), np.int64))
    formats: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, Any]] = field(default_factory=list)
    suspect: list[dict[str, Any]] = field(default_factory=list)


def main(arguments: argparse.Namespace) -> None:
    """Check, export on request, and write manifest and card."""
    name = arguments.name
    config = artifacts.read_section(artifacts.RESOLVED / "datasets" / f"{name}.yaml", "unpack", Config)
    train = open_records(pin.checked(name, "train"))
    aside = begin_aside(artifacts.unpacked_folder(name), train, config.export)
    checked = check_all(train, aside / "images" if config.export == "folder" else None)
    ranges = check_ranges(train, checked)
    refuse_bad(checked, config.max_bad_records, name, train)
    write_manifest(aside / "manifest.parquet", checked.row_NC)
    artifacts.write_json(aside / "card.json", {"dataset": name, **make_card(train, checked, ranges)})
    finish_aside(aside, artifacts.unpacked_folder(name))


def open_records(folder: Path) -> TrainSet:
    """Open the record file of a folder, and say what it lacks.

    Raises:
        FileNotFoundError: there is no training set.
        ValueError: it is unclear which file it is, or it cannot be read.
    """
    path = places.record_file(folder)
    if path is None:
        raise FileNotFoundError(f"{folder} holds no training set: wanted train.rec or another NAME.rec")
    train = TrainSet.open(path)
    if train.reader.idx_path is None:
        say(f"{path}: no index {path.stem}.idx, so its {len(train.reader):,} records were walked: "
            f"whether the file was cut short between two records cannot be told")
    if train.declared_classes is None:
        say(f"{folder}: no property, so the number of identities is the largest label plus one")
    return train


def check_all(train: TrainSet, images: Path | None) -> Checked:
    """Read and decode every image on all cores; export it to ``images`` if that is given."""
    begins = range(0, len(train), BLOCK)
    # a fork shares this process's pages; elsewhere than on Linux it is not safe
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    workers = min(num_cores(), len(begins))
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(train, images))
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
    complaints: Any


def start_worker(train: TrainSet, images: Path | None) -> None:
    """Prepare a worker process: libjpeg reports damage on stderr only, so stderr goes to a file.

    A forked one has the opened training set of its parent, which may have walked the file for its index.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program.die_with_parent()
    Worker.train, Worker.images = train, images
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


def check_ranges(train: TrainSet, checked: Checked) -> dict[str, int] | None:
    """Compare identity records with labels; None without a header. Damaged ones count as bad records."""
    if train.header is None:
        return None
    ranges = []
    for key in train.range_keys.tolist():
        try:
            begin, end = np.asarray(train.reader.entry(key)[0].label).tolist()[:2]
            ranges.append((int(begin), int(end)))
        except (RecordError, TypeError, ValueError) as error:
            problem = (
                error.problem if isinstance(error, RecordError) else "wanted the range of an identity's keys"
            )
            checked.bad.append({"key": key, "offset": train.reader.offset(key), "problem": problem})
    range_R2 = np.array(ranges, np.int64).reshape(-1, 2)
    key_N, label_N = checked.row_NC[:, 0], checked.row_NC[:, 3]
    wrong = ranges_that_disagree(range_R2[:, 0], range_R2[:, 1], key_N, label_N)
    if wrong:
        say(f"warning: {wrong} of {len(ranges)} identity ranges disagree with the labels of their images")
    return {"declared": int(train.header[1] - train.header[0]), "found": len(ranges), "disagree": wrong}


def refuse_bad(checked: Checked, limit: int, name: str, train: TrainSet) -> None:
    """Fail if more records are bad than the user allows, or all; the message names a file that lists them."""
    bad = checked.bad
    if len(bad) <= limit and len(checked.row_NC):
        return
    path = artifacts.STATE / "unpack" / f"{name}-bad.json"
    artifacts.write_json(path, {"file": str(train.reader.rec_path), "bad_records": bad})
    first = "; ".join(f"record {one['key']} at byte {one['offset']}: {one['problem']}" for one in bad[:5])
    raise InputError(
        f"{train.reader.rec_path}: {len(bad)} bad records of {len(train.reader)}; max_bad_records of data "
        f"set {name} allows {limit}. {first}{'; ...' if len(bad) > 5 else ''}. All of them are in {path}"
    )


def write_manifest(path: Path, row_NC: NDArray[np.int64]) -> None:
    """Write one row per good image; the same rows give the same bytes."""
    columns = {name: row_NC[:, c].astype(kind) for c, (name, kind) in enumerate(COLUMNS.items())}
    pq.write_table(pa.table(columns), path, compression="zstd")


def make_card(train: TrainSet, checked: Checked, ranges: dict[str, int] | None) -> dict[str, Any]:
    """Return the data card: the same files give the same card."""
    _, _, length_N, label_N, width_N, height_N = checked.row_NC.T
    declared = train.declared_classes
    index = train.reader.idx_path
    return {
        "sources": [
            {
                "records": train.reader.rec_path.name,
                "index": None if index is None else index.name,
                "num_classes": "largest label plus one" if declared is None else "property",
            }
        ],
        "records": len(train.reader),
        "num_classes": declared if declared is not None else int(label_N.max(initial=-1)) + 1,
        **describe_images(label_N, length_N, width_N, height_N),
        "formats": dict(sorted(checked.formats.items())),
        "layout": {
            "header": None if train.header is None else list(train.header),
            "label_numbers": max(train.reader.entry(int(train.keys[0]))[0].flag, 1),
            "identity_ranges": ranges,
        },
        "bad_records": checked.bad,
        "suspect_records": checked.suspect,
    }


def begin_aside(target: Path, train: TrainSet, export: str) -> Path:
    """Return the temporary folder to fill; images of a killed run on the same record file stay there.

    It stands beside the output and not in it, because DVC removes outputs before it runs a stage.
    """
    aside, stat = target.with_name(target.name + ".partial"), train.reader.rec_path.stat()
    source = {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns, "export": export}
    if not (aside / "source.json").is_file() or artifacts.read_json(aside / "source.json") != source:
        shutil.rmtree(aside, ignore_errors=True)
        artifacts.write_json(aside / "source.json", source)
    return aside


def finish_aside(aside: Path, target: Path) -> None:
    """Move the finished files to their place."""
    (aside / "source.json").unlink()
    if target.exists():
        shutil.rmtree(target)
    aside.replace(target)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("name", help="name under `datasets` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
