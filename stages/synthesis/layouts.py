"""Writes synthetic test sets in their official layouts: IJB-B, IJB-C, TinyFace and SCface.

IJB-S, Adience and XQLFW are written by ``layouts_more``, the ``.rec`` and ``.bin`` files by datasets/.

File names, columns, line ends and number formats are those that the published sets have.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import scipy.io

from stages.core.images.alignment import TEMPLATE_52
from stages.synthesis.plan import Ijb, Listed, Template
from stages.synthesis.rendering import Drawn

ALIGNED = "aligned_pad_0.1_pad_high"
_CSV_HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT"
_MAT_TEXT_BYTES = 116  # of a MATLAB 5 file's header; scipy writes the date there


def write_ijb(
    folder: Path, plan: Ijb, drawn: Sequence[Drawn], galleries: tuple[str, str] = ("S1", "S2")
) -> list[str]:
    """Write ``loose_crop/`` and ``meta/``; return the path of each image, relative to ``folder``: IJBB or IJBC."""
    stem = folder.name.lower()
    crops, meta = folder / "loose_crop", folder / "meta"
    crops.mkdir(parents=True)
    meta.mkdir()
    for one in drawn:
        (crops / f"{one.slot + 1}.jpg").write_bytes(one.jpeg)
    write_lines(meta / f"{stem}_name_5pts_score.txt", [_landmark_line(one) for one in drawn])
    write_lines(meta / f"{stem}_face_tid_mid.txt", [
        f"{slot + 1}.jpg {template.number} {medium}"
        for template in plan.templates
        for slot, medium in zip(template.slots, template.media, strict=True)
    ])  # fmt: skip
    write_lines(meta / f"{stem}_template_pair_label.txt", [
        f"{a.number} {b.number} {int(a.subject == b.subject)}" for a, b in combinations(plan.templates, 2)
    ])  # fmt: skip
    half = (plan.templates[-1].subject + 1) // 2
    gallery = [template for template in plan.templates if template.is_gallery]
    halves = [t for t in gallery if t.subject < half], [t for t in gallery if t.subject >= half]
    for name, templates in zip(galleries, halves, strict=True):
        _write_csv(meta / f"{stem}_1N_gallery_{name}.csv", templates)
    _write_csv(meta / f"{stem}_1N_probe_mixed.csv", [t for t in plan.templates if not t.is_gallery])
    return [f"loose_crop/{one.slot + 1}.jpg" for one in drawn]


def _landmark_line(one: Drawn) -> str:
    places = " ".join(f"{value:.3f}" for value in one.landmarks_52.ravel())
    return f"{one.slot + 1}.jpg {places} {one.detector_score:.6f}"


def _write_csv(path: Path, templates: Sequence[Template]) -> None:
    rows = [
        f"{template.number},{template.subject + 1},img/{slot + 1}.jpg,{medium},0,0,100,100"
        for template in templates
        for slot, medium in zip(template.slots, template.media, strict=True)
    ]
    write_lines(path, [_CSV_HEADER, *rows], end="\r\n")


def write_tinyface(folder: Path, plan: Listed, drawn: Sequence[Drawn]) -> list[str]:
    """Write TinyFace: originals, lists and aligned faces; return the path of each aligned image."""
    testing = folder / "tinyface" / "Testing_Set"
    for part in ("Probe", "Gallery_Match", "Gallery_Distractor"):
        (testing / part).mkdir(parents=True)
        (folder / ALIGNED / part).mkdir(parents=True)
    for one, name in zip(drawn, plan.names, strict=True):
        assert one.small_jpeg is not None
        (testing / f"{name}.jpg").write_bytes(one.small_jpeg)
        (folder / ALIGNED / f"{name}.jpg").write_bytes(one.jpeg)
    for part, list_name, key in (
        ("Probe", "probe_img_ID_pairs", "probe"), ("Gallery_Match", "gallery_match_img_ID_pairs", "gallery"),
    ):  # fmt: skip
        files = [f"{Path(name).name}.jpg" for name in plan.names if name.startswith(f"{part}/")]
        _write_mat(testing / f"{list_name}.mat", key, files)
    return [f"{ALIGNED}/{name}.jpg" for name in plan.names]


def _write_mat(path: Path, key: str, files: Sequence[str]) -> None:
    """Write names as a cell array and subjects as numbers, without the date a MATLAB file begins with."""
    cells = np.empty((len(files), 1), object)
    cells[:, 0] = files
    ids = np.array([[int(file.split("_")[0])] for file in files], np.uint16)
    stream = io.BytesIO()
    scipy.io.savemat(stream, {f"{key}_ids": ids, f"{key}_set": cells})
    text = b"MATLAB 5.0 MAT-file".ljust(_MAT_TEXT_BYTES)
    path.write_bytes(text + stream.getvalue()[_MAT_TEXT_BYTES:])


def write_scface(folder: Path, plan: Listed, drawn: Sequence[Drawn]) -> list[str]:
    """Write SCface into ``folder``: ``all.txt`` and ``aligned/``; return the path of each image."""
    (folder / "aligned").mkdir(parents=True)
    for one, name in zip(drawn, plan.names, strict=True):
        (folder / "aligned" / f"{name}.jpg").write_bytes(one.jpeg)
    # SCface gives both eyes, the nose and the middle of the mouth
    points_42 = np.concatenate([TEMPLATE_52[:3], TEMPLATE_52[3:].mean(axis=0, keepdims=True)])
    places = "\t".join(str(round(value)) for value in points_42.ravel())
    write_lines(folder / "all.txt", [f"{name}\t{places}" for name in plan.names])
    return [f"aligned/{name}.jpg" for name in plan.names]


def write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> None:
    """Write lines with their line ends, the same bytes on any system."""
    path.write_text("".join(line + end for line in lines), encoding="ascii", newline="")
