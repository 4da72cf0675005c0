"""Inspects a verification ``.bin``, a protocol folder, a folder of images or a single image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.core.errors import InputError
from stages.core.formats.mat_cells import read_lists
from stages.core.images import decoding
from stages.core.metrics.processing import Failure
from stages.datasets import ijb, ijbs, pair_list, scface, tinyface, verification_bin
from stages.inspection.catalogue import KNOWN, Known, own
from stages.inspection.check import examine_at
from stages.inspection.facts import Sight, describe_groups, describe_images, describe_pixels, spread
from stages.inspection.findings import SWAPPED
from stages.io.packed_images import is_packed

Protocol = ijb.IjbSet | ijbs.IjbsSet | tinyface.TinyFaceSet | scface.ScfaceSet | pair_list.PairSet


def see_bin(path: Path, *, everything: bool = False) -> Sight:
    """Inspect a verification set."""
    stored, sight = verification_bin.load(path), Sight("verification set (InsightFace .bin)")
    genuine = int(stored.is_same.sum())
    sight.facts["pairs"] = f"{stored.is_same.size:,}: {genuine:,} genuine, {stored.is_same.size - genuine:,} impostor"
    sight.facts["folds"] = "ten equal ones" if stored.is_same.size % 10 == 0 else "not ten equal ones"
    sight.facts["images"] = len(stored.images)
    sight.facts["stored as"] = _counted(Counter(type(image).__name__ for image in stored.images))
    rows = range(len(stored.images)) if everything else spread(range(len(stored.images)))
    sight.facts["checked"] = f"{len(rows):,} images decoded"
    describe_images(((f"image {row}", bytes(stored.images[row])) for row in rows), sight)
    pairs = [*spread(np.flatnonzero(stored.is_same), 16), *spread(np.flatnonzero(~stored.is_same), 16)]
    for pair in pairs:
        for row in (2 * pair, 2 * pair + 1):
            image = decoding.decode(bytes(stored.images[row]))
            if image is not None:
                sight.tiles.append((f"{pair} {'same' if stored.is_same[pair] else 'other'}", image))
    return sight


def see_protocol(folder: Path, known: Known, chosen: Protocol) -> Sight:
    """Inspect a folder in the layout of a protocol, already read as ``chosen``."""
    sight = Sight(f"{known.title}: {known.place.rstrip('/').removeprefix('eval/')}")
    found = examine_at(folder, known, one_to_n=False)
    for what, count in found.counts.items():
        published = known.counts.get(what)
        other = f" (published: {published:,})" if published is not None and published != count else ""
        sight.facts[what] = f"{count:,}{other}"
    sight.facts["layout"] = ("packed (images.rec); " if chosen.packed else "") + _switches(chosen)
    # what the colours say comes below, of more images
    sight.problems += [found.unusable] if found.unusable else [odd for odd in found.odd if odd != SWAPPED]
    images = [(row, chosen.image(row)) for row in spread(range(len(chosen.names)))]
    pixels = [image for _, image in images if not isinstance(image, Failure)]
    sight.facts["aligned faces"] = f"{len(pixels)} of {len(images)} tried can be used"
    describe_pixels(pixels, sight)
    sight.tiles = [
        (Path(chosen.names[row]).stem[:20], image) for row, image in images if not isinstance(image, Failure)
    ]
    return sight


def _switches(chosen: Protocol) -> str:
    if isinstance(chosen, ijb.IjbSet):
        return "loose crops, aligned here by five landmarks; detector scores " + (
            f"{chosen.detector_score_N.min():.3f} to {chosen.detector_score_N.max():.3f}"
        )
    if isinstance(chosen, ijbs.IjbsSet):
        return "; ".join(f"{name}: {rows.size} probes" for name, rows in chosen.probes.items())
    if isinstance(chosen, scface.ScfaceSet):
        return f"cameras 1 to 5; {chosen.num_left_out} images of cameras 6 to 8 left out"
    if isinstance(chosen, tinyface.TinyFaceSet):
        return f"subjects from file names, aligned faces in {chosen.aligned.name}"
    return "pairs by name; min quality of a pair decides what is discarded"


def see_list(path: Path) -> Sight:
    """Inspect one of TinyFace's MATLAB lists."""
    for key in ("probe", "gallery"):
        try:
            lists = read_lists(path.read_bytes(), frozenset({f"{key}_set", f"{key}_ids"}))
        except ValueError:
            continue
        sight = Sight("TinyFace list (MATLAB 5)")
        names, ids = lists[f"{key}_set"], lists[f"{key}_ids"]
        sight.facts = {
            f"{key}_set": f"{len(names):,} names, {names[:3]}", f"{key}_ids": f"{len(set(ids)):,} subjects"
        }  # fmt: skip
        return sight
    raise InputError(f"{path} is a MATLAB file, but has no probe_set or gallery_set with ids")


def see_images(folder: Path, files: Sequence[Path], *, everything: bool = False) -> Sight:
    """Inspect a folder of images, one folder for each identity or all in one."""
    sight = Sight("folder of images")
    groups = Counter(path.parent.relative_to(folder).as_posix() for path in files)
    people = sorted(groups)
    sight.facts["images"] = len(files)
    if people != ["."]:
        sight.facts["identities (folders)"] = len(people)
        row_of = {name: row for row, name in enumerate(people)}
        labels = [row_of[path.parent.relative_to(folder).as_posix()] for path in files]
        describe_groups(np.array(labels, dtype=np.int64), sight)
    rows = range(len(files)) if everything else spread(range(len(files)))
    sight.facts["checked"] = f"{len(rows):,} images decoded"
    describe_images(((str(files[row].relative_to(folder)), files[row].read_bytes()) for row in rows), sight)
    for row in spread(range(len(files))):
        image = decoding.decode(files[row].read_bytes())
        if image is not None:
            sight.tiles.append((files[row].relative_to(folder).as_posix()[-20:], image))
    return sight


def see_image(path: Path) -> Sight:
    """Inspect one image."""
    sight, data = Sight("image"), path.read_bytes()
    describe_images([(path.name, data)], sight)
    image = decoding.decode(data)
    if image is not None:
        sight.tiles.append((path.name, image))
        corner = image[0, 0].tolist()
        sight.facts["first pixel, blue green red"] = corner
    return sight


def recognise(folder: Path) -> tuple[Known, Protocol] | None:
    """Return the protocol whose layout a folder has, with its data; None if it has none.

    Raises:
        FileNotFoundError: it has the layout, but files are missing.
        ValueError: it has the layout, but a list cannot be used.
    """
    if (folder / "meta").is_dir() and list((folder / "meta").glob("*_name_5pts_score.txt")):
        name = next((folder / "meta").glob("*_name_5pts_score.txt")).name.split("_")[0].upper()
        if name in KNOWN and folder.name == name:
            return KNOWN[name], ijb.load(folder.parent, name)
        raise InputError(f"{folder} has the lists of {name}: rename the folder to {name}, as its readers require")
    if (folder / "protocols" / ijbs.METADATA).is_file():
        return KNOWN["ijbs"], ijbs.load(folder)
    if (folder / "tinyface" / "Testing_Set").is_dir():
        return KNOWN["tinyface"], tinyface.load(folder)
    if (folder / "all.txt").is_file() and ((folder / scface.ALIGNED).is_dir() or is_packed(folder)):
        return KNOWN["scface"], scface.load(folder)
    if (folder / pair_list.OWN_PAIRS).is_file():
        return own(folder.name, f"eval/{folder.name}/"), pair_list.load(folder)
    if (folder / pair_list.PUBLISHED_PAIRS).is_file():
        return KNOWN["xqlfw"], pair_list.load(folder)
    if (folder / pair_list.PAIRS).is_file():
        return KNOWN["xqlfw" if folder.name.lower() == "xqlfw" else "adience"], pair_list.load(folder)
    return None


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counter.most_common())
