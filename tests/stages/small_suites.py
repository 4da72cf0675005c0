"""A folder with small sets of every suite, the options of their evaluation, and the evaluated backbone."""

from __future__ import annotations

from pathlib import Path

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from stages.datasets import verification_bin
from tests.stages import small_sets

SWITCHES = {
    "hq": evaluation.Hq(sets=("lfw", "cplfw")),
    "ijb": evaluation.Ijb(sets=("IJBB",)),
    "lq": evaluation.Lq(sets=("tinyface", "scface")),
    "fiqa": evaluation.Fiqa(sets=("lfw",), fmr=(0.1, 0.001)),
}


def write_sets(root: Path) -> Path:
    """Write a folder like data/NAME/eval; return it."""
    folder = root / "data/small/eval"
    small_sets.write_bin(folder / "lfw.bin")
    small_sets.write_bin(folder / "cplfw.bin", num_identities=5)
    small_sets.write_ijb(folder / "ijb")
    small_sets.write_tinyface(folder / "tinyface")
    small_sets.write_scface(folder / "scface")
    return folder


def measure(suite, folder, switches=None, **more):
    return evaluate.measure(suite, folder, switches or SWITCHES[suite], small_sets.embed, **more)


def darkness(features: Features):
    return -features.feature_ND[:, :3].sum(axis=1)


def images_of(path):
    return [verification_bin.decode(image) for image in verification_bin.load(path).images]
