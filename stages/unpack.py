"""Stage `unpack`: reads every record of a training set, checks it, and writes a manifest and a data card.

    python -m stages.unpack demo

data/unpacked/NAME/manifest.parquet has a row per sound image in the order of the index: `key`, `offset`
(where its record begins), `length` (bytes of the image alone), `label`, `width`, `height`. A
stage that trains takes its keys and labels from there, so bad records that were allowed stay out. card.json
has counts, images per identity and bad records, and under `sources` the record files. With `export: folder`,
images/IDENTITY/KEY.jpg are the bytes as they are stored, never re-encoded.

The images of a folder of people are first written, as they are, into train.rec beside the manifest. Of a merged set the
manifest has a column `source`, the number of the record file in `sources`, and labels of one space.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.formats.data_card import describe_images, ranges_that_disagree
from stages.core.recordio.reader import RecordError
from stages.datasets.insightface_rec import Config, TrainSet
from stages.datasets.people import PeopleFolder
from stages.runtime import artifacts, files, merged, pin, places, program
from stages.runtime.progress import say
from stages.unpacking import labels
from stages.unpacking.check import COLUMNS, Checked
from stages.unpacking.sources import Source, find, open_source

LABEL = list(COLUMNS).index("label")


def main(arguments: argparse.Namespace) -> None:
    """Check, export on request, and write manifest and card."""
    name = arguments.name
    config = artifacts.read_section(artifacts.RESOLVED / "datasets" / f"{name}.yaml", "unpack", Config)
    pin.checked(name)
    if merged.of(name) is None and not places.of(name, "train").is_filled():
        write_nothing(name)
        return
    found = {source: find(folder) for source, folder in merged.training_folders(name).items()}
    if config.export == "folder" and len(found) > 1:
        raise InputError(f"data set {name}: `export: folder` is for a single set: unpack its sources")
    aside = begin_aside(artifacts.unpacked_folder(name), state_of(found, config.export))
    sources = [
        open_source(source, one, aside if len(found) == 1 else aside / source) for source, one in found.items()
    ]
    checked = [source.check(aside / "images" if config.export == "folder" else None) for source in sources]
    ranges = [check_ranges(source.train, one) for source, one in zip(sources, checked, strict=True)]
    refuse_bad(sources, checked, config.max_bad_records, name)
    num_classes = merge_labels(sources, checked, merged.of(name))
    write_manifest(aside / "manifest.parquet", [one.row_NC for one in checked])
    card = make_card(sources, checked, ranges, aside)
    artifacts.write_json(aside / "card.json", {"dataset": name, "num_classes": num_classes, **card}, ascii_only=True)
    finish_aside(aside, artifacts.unpacked_folder(name))


def write_nothing(name: str) -> None:
    """Write the manifest and the card of a data set that has test sets alone; a training on it is refused."""
    say(f"data set {name} has no training set: nothing to unpack")
    with artifacts.write_folder(artifacts.unpacked_folder(name)) as folder:
        write_manifest(folder / "manifest.parquet", [np.empty((0, len(COLUMNS)), np.int64)])
        artifacts.write_json(folder / "card.json", {"dataset": name, "num_classes": 0, "records": 0})


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


def refuse_bad(sources: Sequence[Source], checked: Sequence[Checked], limit: int, name: str) -> None:
    """Fail if more records or image files are bad than the user allows, or all; the message names a file with them."""
    bad = [
        {"source": source.dataset, **record}
        for source, one in zip(sources, checked, strict=True)
        for record in one.bad
    ]
    if len(bad) <= limit and all(len(one.row_NC) for one in checked):
        return
    path = artifacts.STATE / "unpack" / f"{name}-bad.json"
    where = ", ".join(str(source.path) for source in sources)
    artifacts.write_json(path, {"file": where, "bad_records": bad}, ascii_only=True)
    first = "; ".join(
        f"{one.get('name') or 'record ' + str(one['key']) + ' at byte ' + str(one['offset'])}: {one['problem']}"
        for one in bad[:5]
    )
    total = sum(len(source.people.names) if source.people else len(source.train.reader) for source in sources)
    raise InputError(
        f"{where}: {len(bad)} bad {'files' if sources[0].people else 'records'} of {total}; "
        f"datasets.{name}.unpack.max_bad_records of params.yaml allows {limit}. {first}"
        f"{'; ...' if len(bad) > 5 else ''}. All of them are in {path}"
    )


def merge_labels(sources: Sequence[Source], checked: Sequence[Checked], both: merged.Merged | None) -> int:
    """Return the number of identities; those of several sources get the labels of one space, in place."""
    declared = [source.train.declared_classes for source in sources]
    counts = [
        count if count is not None else int(one.row_NC[:, LABEL].max(initial=-1)) + 1
        for count, one in zip(declared, checked, strict=True)
    ]
    known = {
        source.dataset: count if source.people is None else {who: k for k, who in enumerate(source.people.identities)}
        for source, count in zip(sources, counts, strict=True)
    }
    groups = labels.read_same(both.same, known) if both and both.same else []
    new, total = labels.merge(counts, groups)
    for one, label_I in zip(checked, new, strict=True):
        one.row_NC[:, LABEL] = label_I[one.row_NC[:, LABEL]]
    return total


def write_manifest(path: Path, tables: Sequence[NDArray[np.int64]]) -> None:
    """Write one row per good image; the same rows give the same bytes. Of several sources, `source` is the number."""
    row_NC = np.concatenate(tables)
    columns = {name: row_NC[:, c].astype(kind) for c, (name, kind) in enumerate(COLUMNS.items())}
    if len(tables) > 1:
        columns["source"] = np.repeat(np.arange(len(tables)), [len(table) for table in tables]).astype("i2")
    pq.write_table(pa.table(columns), path, compression="zstd")


def make_card(
    sources: Sequence[Source], checked: Sequence[Checked], ranges: Sequence[dict[str, int] | None], aside: Path
) -> dict[str, Any]:
    """Return the data card: the same files give the same card."""
    many = len(sources) > 1
    _, _, length_N, label_N, width_N, height_N = np.concatenate([one.row_NC for one in checked]).T
    described = [
        {**source.describe(aside), **({"dataset": source.dataset, "images": len(one.row_NC)} if many else {})}
        for source, one in zip(sources, checked, strict=True)
    ]
    layouts = [
        {
            "header": None if source.train.header is None else list(source.train.header),
            "label_numbers": max(source.train.reader.entry(int(source.train.keys[0]))[0].flag, 1),
            "identity_ranges": found,
        }
        for source, found in zip(sources, ranges, strict=True)
    ]
    which = [{"source": source.dataset} if many else {} for source in sources]
    return {
        "sources": described,
        "records": sum(len(source.train.reader) for source in sources),
        **describe_images(label_N, length_N, width_N, height_N),
        "formats": dict(sorted(sum((one.formats for one in checked), Counter()).items())),
        "layout": layouts if many else layouts[0],
        "bad_records": [where | bad for where, one in zip(which, checked, strict=True) for bad in one.bad],
        "suspect_records": [where | odd for where, one in zip(which, checked, strict=True) for odd in one.suspect],
    }


def state_of(found: Mapping[str, Path | PeopleFolder], export: str) -> dict[str, Any]:
    """Return what tells whether a run before, which was killed, was of the same record files."""
    files = {source: path.stat() for source, path in found.items() if isinstance(path, Path)}
    stated = {source: {"bytes": one.st_size, "modified_ns": one.st_mtime_ns} for source, one in files.items()}
    return {"export": export, "of_people": len(files) < len(found), "records": stated}


def begin_aside(target: Path, state: Mapping[str, Any]) -> Path:
    """Return the temporary folder to fill; images of a killed run on the same record files stay there.

    It stands beside the output and not in it, because DVC removes outputs before it runs a stage.
    """
    aside = target.with_name(target.name + ".partial")
    before = artifacts.read_json(aside / "source.json") if (aside / "source.json").is_file() else {}
    if before != state or state["of_people"]:
        shutil.rmtree(aside, ignore_errors=True)
        artifacts.write_json(aside / "source.json", state)
    return aside


def finish_aside(aside: Path, target: Path) -> None:
    """Move the finished files to their place."""
    (aside / "source.json").unlink()
    files.replace_folder(aside, target)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("name", help="name under `datasets` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
