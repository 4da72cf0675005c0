"""Plans of packing: which images of a folder go into the record file, in which order, and what is known of each.

A layout is read by the reader that evaluation uses, so images are in the order in which they are embedded, and what
passes here goes through there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.datasets import ijb, ijbs, pair_list, people, scface, tinyface
from stages.runtime import places

PAIRS = pair_list.OWN_PAIRS


@dataclass(frozen=True)
class Plan:
    """Images by path, relative to the folder, in the order of their records."""

    title: str
    paths: Sequence[str]
    lists: Sequence[str] = ()
    """Files that are copied as they are."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What is known of each image, in the order of ``paths``."""
    label: str = ""
    """Column that the header of a record has as its label; without it, the row."""
    align: bool = False
    """Pictures that are not 112 x 112 are searched for a face and aligned."""
    people: bool = False
    """A training set: one folder per identity."""
    passed_over: Sequence[str] = ()
    """What in the folder is no part of it, in words."""


def of(folder: Path) -> Plan:
    """Return the plan of packing a folder, by the layout that it is in.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in it that can be packed.
        ValueError: its lists cannot be used.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    for fits, plan in _LAYOUTS:
        if fits(folder):
            return plan(folder)
    raise FileNotFoundError(
        f"{folder} is in no layout that can be packed: wanted IJBB or IJBC (meta/, loose_crop/), IJB-S (protocols/, "
        f"aligned/), TinyFace ({tinyface.LISTS}/, {tinyface.ALIGNED}/), SCface (all.txt, aligned/), Adience or XQLFW "
        f"as in docs/datasets.md, pictures with {PAIRS}, a folder of images for each person, or one of such sets"
    )


def inside(folder: Path) -> list[str]:
    """Return the test sets in a folder that is none itself, such as ``eval``: their places in it; packed ones too."""
    if any(fits(folder) for fits, _ in _LAYOUTS):
        return []
    candidates = [*folder.iterdir(), *(folder / "ijb").glob("*")]
    tests = [fits for fits, plan in _LAYOUTS if plan is not _people]
    found = [path for path in candidates if path.is_dir() and any(fits(path) for fits in tests)]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _ijb(folder: Path) -> Plan:
    chosen = ijb.load(folder.parent, folder.name)
    columns = {
        "template": chosen.template_N, "media": chosen.media_N, "detector_score": chosen.detector_score_N,
        "landmarks": list(chosen.landmarks_N52.reshape(-1, 10)),
    }  # fmt: skip
    paths = [f"{ijb.CROPS}/{name}" for name in chosen.names]
    return Plan(folder.name, paths, _below(folder, "meta"), columns, "template")


def _ijbs(folder: Path) -> Plan:
    chosen = ijbs.load(folder)
    # faces that no template uses are counted by the evaluation
    names = [*chosen.names, *sorted(set(ijbs.faces(folder)) - set(chosen.names))]
    columns = {"subject": [name.split("/")[0] for name in names], "used": np.arange(len(names)) < len(chosen.names)}
    lists = [*_below(folder, "protocols"), *(path.name for path in sorted(folder.glob("image_list*.csv")))]
    return Plan("IJB-S", [f"{ijbs.ALIGNED}/{name}" for name in names], lists, columns)


def _tinyface(folder: Path) -> Plan:
    chosen = tinyface.load(folder)
    columns = {"subject": chosen.subject_N, "kind": [name.split("/")[0] for name in chosen.names]}
    lists = [path.relative_to(folder).as_posix() for path in sorted((folder / tinyface.LISTS).glob("*.mat"))]
    return Plan("TinyFace", [f"{tinyface.ALIGNED}/{name}.jpg" for name in chosen.names], lists, columns, "subject")


def _scface(folder: Path) -> Plan:
    chosen = scface.load(folder)
    columns = {"subject": chosen.subject_N, "distance": chosen.distance_N}
    return Plan("SCface", [f"{scface.ALIGNED}/{name}.jpg" for name in chosen.names], ["all.txt"], columns, "subject")


def _pair_list(folder: Path) -> Plan:
    chosen = pair_list.load(folder)
    lists = [name for name in (pair_list.PAIRS, pair_list.PUBLISHED_PAIRS) if (folder / name).is_file()]
    return Plan(f"pairs of {folder.name}", chosen.names, lists)


def _pairs_csv(folder: Path) -> Plan:
    chosen = pair_list.load(folder)
    return Plan(f"pairs of {folder.name}", chosen.names, [PAIRS], align=True)


def _people(folder: Path) -> Plan:
    home = places.people_folder(folder)
    assert home is not None, "it is in this layout"
    found = people.load(home)
    paths = [(home / name).relative_to(folder).as_posix() for name in found.names]
    persons = [name.split("/")[0] for name in found.names]
    notes = found.describe_passed_over()
    return Plan("people", paths, columns={"person": persons}, align=True, people=True, passed_over=notes)


def _below(folder: Path, name: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted((folder / name).rglob("*")) if path.is_file()]


_LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Plan]], ...] = (
    (lambda folder: folder.name in ijb.GALLERIES and (folder / "meta").is_dir(), _ijb),
    (lambda folder: (folder / "protocols" / ijbs.METADATA).is_file(), _ijbs),
    (lambda folder: (folder / tinyface.LISTS).is_dir(), _tinyface),
    (lambda folder: (folder / "all.txt").is_file(), _scface),
    (lambda folder: (folder / PAIRS).is_file(), _pairs_csv),
    (lambda folder: (folder / pair_list.PUBLISHED_PAIRS).is_file() or (folder / pair_list.PAIRS).is_file(), _pair_list),
    (lambda folder: any((folder / pair_list.IMAGES).glob("p_*_img_*")), _pair_list),
    (lambda folder: places.people_folder(folder) is not None, _people),
)
