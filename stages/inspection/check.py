"""Examines one data set: files, counts, images that are missing, empty, of another size, or with swapped channels.

Every set is read by the reader that evaluation uses, so what passes here goes through there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stages.core.metrics.features import Image
from stages.core.metrics.processing import Failure
from stages.datasets import ijb, ijbs, pair_list, scface, tinyface, verification_bin
from stages.inspection import training_sets
from stages.inspection.catalogue import KNOWN, TRAIN, Known, own
from stages.inspection.facts import seem_swapped, spread
from stages.inspection.findings import SAMPLE, SWAPPED, Found
from stages.io import text
from stages.io.packed_images import PackedImages, is_packed
from stages.runtime import places


def examine(root: Path, known: Known, *, one_to_n: bool = True) -> Found:
    """Examine a set of the data set in a folder, in either layout.

    Args:
        root: the data set's folder.
        known: the set.
        one_to_n: whether lists that only the protocol 1:N needs are missing if they are not there.
    """
    place = places.locate(root, known.place)
    found = examine_at(place, known, one_to_n=one_to_n)
    found.where = os.path.relpath(place, root) + ("/" if known.place.endswith("/") else "")
    return found


def examine_at(place: Path, known: Known, *, one_to_n: bool = True) -> Found:
    """Examine a set whose file or folder is ``place``."""
    found, is_training = Found(), known.name == TRAIN.name
    wanted = [] if is_training else [one for one in _wanted(place, known) if one_to_n or one not in known.one_to_n]
    if is_packed(place):
        wanted = [one for one in wanted if not one.endswith("/")]
    found.missing = [f"{known.place}{file}" for file in wanted if not _there(place, file)]
    if found.missing:
        return found
    try:
        _look_of(known)(place, found)
    except (OSError, ValueError, LookupError) as error:
        if is_training and isinstance(error, FileNotFoundError):
            found.missing = [f"{known.place}{file}" for file in known.files]
        else:
            found.unusable = str(error)
    return found.readable()


def own_sets(root: Path) -> Iterator[Known]:
    """Yield the test sets in a data set's folder under other than published names: NAME.bin, and folders of pairs."""
    place = places.find(root, "eval")
    for path in sorted(place.folder.iterdir()) if place.folder.is_dir() else ():
        if path.stem in KNOWN or not place.holds(path.name):
            continue
        if path.suffix == ".bin" and path.is_file():
            yield own(path.stem, f"eval/{path.name}")
        elif path.name not in places.TEST_SETS and path.is_dir() and pair_list.is_layout(path):
            yield own(path.name, f"eval/{path.name}/")


def _wanted(place: Path, known: Known) -> Sequence[str]:
    if (place / pair_list.OWN_PAIRS).is_file():
        return (pair_list.OWN_PAIRS,)
    if known.name == "xqlfw" and (place / "images").is_dir():
        return ("images/", "pair_list.txt")  # CR-FIQA's layout of it
    return known.files


def _there(place: Path, file: str) -> bool:
    path = place / file if file else place
    return path.is_dir() if file.endswith("/") else path.is_file()


def _look_bin(place: Path, found: Found) -> None:
    stored = verification_bin.load(place)
    found.counts = {"pairs": int(stored.is_same.size), "genuine": int(stored.is_same.sum())}
    if stored.is_same.size % 10:
        found.odd.append(f"{stored.is_same.size:,} pairs do not make ten equal folds")
    failures: list[Failure] = []
    images: list[Image] = []
    for index in spread(range(len(stored.images)), SAMPLE):
        try:
            images.append(verification_bin.decode(stored.images[index]))
        except ValueError as error:
            failures.append(Failure.of(f"image {index}", error))
    _note_failures(failures, len(stored.images), found)
    if seem_swapped(images):
        found.odd.append(SWAPPED)


def _look_ijb(place: Path, found: Found) -> None:
    chosen = ijb.load(place.parent, place.name)
    found.counts = {
        "images": len(chosen.names), "templates": int(np.unique(chosen.template_N).size),
        "pairs": int(chosen.is_same_P.size), "genuine": int(chosen.is_same_P.sum()),
    }  # fmt: skip
    _note_files(_sizes(chosen.crops, chosen.packed, ijb.CROPS), chosen.names, found)
    _note_sample(chosen, found)
    if all(_there(place, file) for file in KNOWN[place.name].one_to_n):
        _look_search(place, chosen, found)
    else:
        found.notes.append("no 1:N lists: it can be measured 1:1 alone")


def _look_search(place: Path, chosen: ijb.IjbSet, found: Found) -> None:
    search = ijb.load_search(place.parent, place.name)
    found.counts |= {
        "1:N gallery": int(search.gallery_template_G.size), "1:N probes": int(search.probe_template_P.size)
    }  # fmt: skip
    unmated = int(np.sum(~np.isin(search.probe_subject_P, search.gallery_subject_G)))
    if unmated:
        found.odd.append(f"{unmated:,} 1:N probes have no mate in the galleries")
    listed = np.concatenate([search.gallery_template_G, search.probe_template_P])
    empty = int(np.sum(~np.isin(listed, chosen.template_N)))
    if empty:
        found.odd.append(f"{empty:,} templates of the 1:N lists have no image")


def _look_ijbs(place: Path, found: Found) -> None:
    chosen = ijbs.load(place)
    videos = {name.partition(":")[2] for name in chosen.template_name_T if ":videos" in name}
    found.counts = {"faces": len(chosen.names), "templates": chosen.subject_T.size}
    lines = text.read_lines(place / "protocols" / ijbs.METADATA)
    pairs = {tuple(line.split(",")[:2]) for line in lines if ",videos" in line}
    found.counts |= {"videos": len({video for _, video in pairs}), "subject and video": len(pairs)}
    empty = chosen.subject_T.size - np.unique(chosen.frame_template[1]).size
    if empty:
        found.odd.append(f"{empty:,} templates have no face (not aligned?)")
    if chosen.num_unused:
        found.odd.append(f"{chosen.num_unused:,} faces belong to no template")
    if not videos:
        found.odd.append("no template of a video")
    _note_files(_sizes(chosen.aligned, chosen.packed, ijbs.ALIGNED), chosen.names, found, others_allowed=True)
    _note_sample(chosen, found)


def _look_tinyface(place: Path, found: Found) -> None:
    chosen = tinyface.load(place)
    others = int(np.sum(chosen.subject_N == tinyface.NOBODY))
    mates = len(chosen.names) - chosen.num_probes - others
    found.counts = {"probes": chosen.num_probes, "mates": mates, "distractors": others}
    probes, gallery = chosen.subject_N[: chosen.num_probes], chosen.subject_N[chosen.num_probes :]
    unmated = int(np.sum(~np.isin(probes, gallery)))
    if unmated:
        found.odd.append(f"{unmated:,} probes have no mate")
    names = [f"{name}.jpg" for name in chosen.names]
    _note_files(_sizes(chosen.aligned, chosen.packed, tinyface.ALIGNED), names, found)
    _note_sample(chosen, found)


def _look_scface(place: Path, found: Found) -> None:
    chosen = scface.load(place)
    found.counts = {"gallery": int(np.sum(chosen.distance_N == 0))}
    found.counts |= {f"d{distance}": int(np.sum(chosen.distance_N == distance)) for distance in scface.DISTANCES}
    unmated = set(chosen.subject_N.tolist()) - set(chosen.subject_N[chosen.distance_N == 0].tolist())
    if unmated:
        found.odd.append(f"{len(unmated):,} subjects have no frontal image")
    names = [f"{name}.jpg" for name in chosen.names]
    _note_files(_sizes(place / scface.ALIGNED, chosen.packed, scface.ALIGNED), names, found, others_allowed=True)
    _note_sample(chosen, found)


def _look_pairs(place: Path, found: Found) -> None:
    chosen = pair_list.load(place)
    found.counts = {
        "images": len(chosen.names), "pairs": int(chosen.is_same_P.size), "genuine": int(chosen.is_same_P.sum())
    }  # fmt: skip
    stems = [PurePosixPath(name).stem.split("_") for name in chosen.names]
    if all(len(parts) == 4 and parts[0] == "p" for parts in stems):
        found.counts["subjects"] = len({parts[1] for parts in stems})
    _note_files(_sizes(chosen.folder, chosen.packed, ""), chosen.names, found, others_allowed=True)
    _note_sample(chosen, found)


_LOOK: dict[str, Callable[[Path, Found], None]] = {
    "train": training_sets.look,
    **dict.fromkeys(("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp", "crlfw"), _look_bin),
    **dict.fromkeys(("IJBB", "IJBC"), _look_ijb),
    "ijbs": _look_ijbs,
    "tinyface": _look_tinyface,
    "scface": _look_scface,
    **dict.fromkeys(("adience", "xqlfw"), _look_pairs),
}


def _look_of(known: Known) -> Callable[[Path, Found], None]:
    return _LOOK.get(known.name) or (_look_bin if known.place.endswith(".bin") else _look_pairs)


def _sizes(folder: Path, packed: PackedImages | None, under: str) -> dict[str, int]:
    """Return the bytes of each image file in a folder, or of each packed image that was there, by name."""
    if packed is not None:
        return packed.sizes(under)
    paths = [Path(path, entry) for path, _, files in os.walk(folder) for entry in files]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def _note_files(
    there: Mapping[str, int], names: Iterable[str], found: Found, *, others_allowed: bool = False
) -> None:
    """Note listed images that are missing or empty, and (if the lists are complete) unlisted files."""
    hidden = [path for path in there if any(part.startswith(".") for part in PurePosixPath(path).parts)]
    if hidden:
        found.notes.append(f"{len(hidden):,} hidden files are passed over, such as {hidden[0]}")
    hidden_set = set(hidden)
    there = {path: size for path, size in there.items() if path not in hidden_set}
    wanted = [_spelled(name, there) for name in names]
    missing = [name for name in wanted if name not in there]
    if missing:
        found.odd.append(f"{len(missing):,} of {len(wanted):,} images are missing, such as {missing[0]}")
    empty = [name for name in wanted if not there.get(name, 1)]
    if empty:
        found.odd.append(f"{len(empty):,} images are empty, such as {empty[0]}")
    extra = len(there) - (len(set(wanted)) - len(set(missing)))
    if extra and not others_allowed:
        found.odd.append(f"{extra:,} files are not listed")


def _spelled(name: str, there: Mapping[str, int]) -> str:
    """Return a listed name as the file system has it."""
    if name.isascii() or name in there:
        return name
    return next((other for other in text.spellings(name) if other in there), name)


def _note_sample(
    chosen: ijb.IjbSet | ijbs.IjbsSet | tinyface.TinyFaceSet | scface.ScfaceSet | pair_list.PairSet, found: Found
) -> None:
    """Decode some images; note those that fail, and whether red and blue seem swapped."""
    images = [chosen.image(row) for row in spread(range(len(chosen.names)), SAMPLE)]
    _note_failures([image for image in images if isinstance(image, Failure)], len(chosen.names), found)
    if seem_swapped([image for image in images if not isinstance(image, Failure)]):
        by_scripts = "red and blue seem swapped, as by CR-FIQA's scripts: set `stored_swapped: true`"
        found.odd.append(by_scripts if isinstance(chosen, pair_list.PairSet) else SWAPPED)


def _note_failures(failures: Sequence[Failure], num_images: int, found: Found) -> None:
    if failures:
        first = failures[0]
        found.odd.append(
            f"{len(failures)} of {min(SAMPLE, num_images)} sampled images cannot be used: {first.name}: {first.reason}"
        )
