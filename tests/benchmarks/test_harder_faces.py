"""The third witness: what is spoiled, how, and that the source stays as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import harder_faces
from stages.core.images.degrade import encode
from tests.support import ROOT

FACE = np.random.default_rng(3).integers(0, 256, (112, 112, 3)).astype(np.uint8)
SPOILED = {"eval/tinyface/aligned_pad_0.1_pad_high/Probe/1_2.jpg", "eval/scface/aligned/001_cam5_1.jpg", "eval/ijb/IJBB/loose_crop/2.jpg"}
KEPT = {
    "eval/tinyface/aligned_pad_0.1_pad_high/Gallery_Match/1_1.jpg", "eval/scface/aligned/001_frontal.jpg",
    "eval/scface/aligned/001_cam6_1.jpg", "eval/ijb/IJBB/loose_crop/1.jpg", "train/train.rec",
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in (*SPOILED, *KEPT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(FACE, 95))
    (folder / harder_faces.PROBES).parent.mkdir(parents=True)
    (folder / harder_faces.PROBES).write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,1,img/2.jpg\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, ROOT / "benchmarks/studies/harder_faces.py", source, target]
    return subprocess.run(program, text=True, capture_output=True, check=False)


def test_low_quality_probes_alone_are_spoiled_each_time_alike(source: Path, tmp_path: Path) -> None:
    before = contents(source)
    first, second = run(source, tmp_path / "one"), run(source, tmp_path / "two")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    made = contents(tmp_path / "one")
    assert {name for name in before if made[name] != before[name]} == SPOILED
    assert made.keys() == before.keys()
    assert made == contents(tmp_path / "two")
    assert contents(source) == before


def test_a_folder_that_is_there_is_not_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = run(source, tmp_path / "mine")
    assert done.returncode == 1
    assert "is there already: name a new folder" in done.stderr
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("way", harder_faces.WAYS)
def test_each_way_changes_the_image_and_keeps_its_size(way: str) -> None:
    spoiled = harder_faces.WAYS[way](FACE, np.random.default_rng(1))
    assert (spoiled.shape, spoiled.dtype) == (FACE.shape, FACE.dtype)
    assert np.abs(spoiled.astype(int) - FACE).mean() > 5


def test_the_name_decides_the_way() -> None:
    ways = {harder_faces.spoil(FACE, f"eval/{number}.jpg")[1] for number in range(40)}
    assert ways == set(harder_faces.WAYS)
    assert all((harder_faces.spoil(FACE, "a.jpg")[0] == harder_faces.spoil(FACE, "a.jpg")[0]).ravel())
