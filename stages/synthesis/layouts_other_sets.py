"""Writes IJB-S, Adience and XQLFW in the published layouts (Adience: that of CR-FIQA's scripts)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.synthesis.layouts import write_lines
from stages.synthesis.plan import NUM_FOLDS
from stages.synthesis.plan_other_sets import XQLFW_EACH, Ijbs, NamedPairs, person_name
from stages.synthesis.rendering import Drawn

_METADATA_HEADER = "SUBJECT_ID,FILENAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,FRAME_NUM"
_FILES = {
    "metadata": "cs6_metadata",
    "single": "cs6_surveillance_to_single-booking_probe",
    "surveillance": "cs6_surveillance_to_surveillance_probe",
    "uav": "cs6_uav_to_single-booking_probe",
}


def write_ijbs(folder: Path, plan: Ijbs, drawn: Sequence[Drawn]) -> list[str]:
    """Write NIST's lists and the aligned faces; return the path of each face, as the reader names it."""
    protocols = folder / "protocols"
    (protocols / "galleries").mkdir(parents=True)
    for key, rows in plan.lists.items():
        file = _FILES.get(key, key.replace("galleries/", "galleries/cs6_surveillance_to_"))
        header = f"TEMPLATE_ID,{_METADATA_HEADER}" if key.startswith("galleries/") else "FILENAME"
        write_lines(protocols / f"{file}.csv", [_METADATA_HEADER if key == "metadata" else header, *rows])
    for one, name in zip(drawn, plan.names, strict=True):
        path = folder / "aligned" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.jpeg)
    return [f"{name}.jpg" for name in plan.names]


def write_adience(folder: Path, plan: NamedPairs, drawn: Sequence[Drawn]) -> list[str]:
    """Write ``images/``, ``pair_list.txt`` and ``image_path_list.txt``; return the path of each image.

    Red and blue are where they belong; CR-FIQA's scripts swap them.
    """
    (folder / "images").mkdir(parents=True)
    for one, name in zip(drawn, plan.names, strict=True):
        (folder / "images" / f"{name}.jpg").write_bytes(one.jpeg)
    write_lines(folder / "pair_list.txt", [
        f"{plan.names[a]} {plan.names[b]} {int(drawn[a].identity == drawn[b].identity)}" for a, b in plan.pairs
    ])  # fmt: skip
    write_lines(folder / "image_path_list.txt", [f"quality_data/{folder.name}/images/{n}.jpg" for n in plan.names])
    return [f"images/{name}.jpg" for name in plan.names]


def write_xqlfw(folder: Path, plan: NamedPairs, drawn: Sequence[Drawn]) -> list[str]:
    """Write ``xqlfw_aligned_112/`` and ``xqlfw_pairs.txt``; return the path of each image."""
    paths = [
        f"xqlfw_aligned_112/{person_name(slot // XQLFW_EACH)}/{name}.jpg" for slot, name in enumerate(plan.names)
    ]
    for one, path in zip(drawn, paths, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(one.jpeg)
    lines = [f"{NUM_FOLDS}\t{len(plan.pairs) // (2 * NUM_FOLDS)}"]
    for first, second in plan.pairs:
        (a, k), (b, m) = divmod(first, XQLFW_EACH), divmod(second, XQLFW_EACH)
        other = "" if a == b else f"{person_name(b)}\t"
        lines.append(f"{person_name(a)}\t{k + 1}\t{other}{m + 1}")
    write_lines(folder / "xqlfw_pairs.txt", lines)
    return paths
