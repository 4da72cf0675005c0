"""Each way of spoiling alone: which images are spoiled, and the rate that is counted."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from benchmarks.studies import harder_faces, spoiled_ways
from stages.core.metrics import features
from stages.datasets import ijb
from stages.embedding.embedder import Embedder
from tests.stages import small_sets


@pytest.fixture
def eval_folder(tmp_path: Path) -> Path:
    small_sets.write_ijb(tmp_path / "eval/ijb", num_templates=6, images_each=2)
    (tmp_path / harder_faces.PROBES).write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n2,1,img/3.jpg\n2,1,img/4.jpg\n")
    return tmp_path / "eval"


@pytest.mark.parametrize("way", harder_faces.WAYS)
def test_images_of_mixed_probes_alone_are_spoiled(way: str, eval_folder: Path) -> None:
    chosen = ijb.load(eval_folder / "ijb", "IJBB")
    assert harder_faces.mixed_probes(eval_folder.parent) == {"3.jpg", "4.jpg"}
    probe_N = np.array([name in {"3.jpg", "4.jpg"} for name in chosen.names])
    before = spoiled_ways.images(chosen, probe_N, spoiled_ways.AS_IT_IS)
    after = spoiled_ways.images(chosen, probe_N, way)
    assert ((before != after).any(axis=(1, 2, 3)) == probe_N).all()


@pytest.mark.parametrize(("shift", "wanted"), [(0, 1.0), (1, 0.0)])
def test_the_rate_is_that_of_pairs_of_one_person(shift: int, wanted: float, eval_folder: Path) -> None:
    chosen = ijb.load(eval_folder / "ijb", "IJBB")
    group_N = (chosen.template_N + shift) // 2  # templates 2k and 2k + 1 are one person's
    told = np.eye(8, dtype=np.float32)[group_N]
    embed = cast(Embedder, lambda images: features.Features(told, told))
    assert spoiled_ways.rate(chosen, embed, np.zeros((12, 112, 112, 3), np.uint8)) == wanted
