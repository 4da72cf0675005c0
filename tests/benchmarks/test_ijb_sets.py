"""The study of two IJB sets: what needs no network, and that it can be kept as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.studies import ijb_sets
from stages.datasets import ijb
from tests.stages import small_sets


def test_a_set_is_described_as_it_was_written_and_kept_as_json(tmp_path: Path) -> None:
    small_sets.write_ijb(tmp_path / "ijb", num_templates=6, images_each=3)
    chosen = ijb.load(tmp_path / "ijb", "IJBB")
    image_NHW3 = np.stack([image for image in chosen.images() if isinstance(image, np.ndarray)])
    found = json.loads(json.dumps(ijb_sets.of_set(chosen, ijb_sets.looks(image_NHW3))))
    assert (found["templates"], found["images"], found["images a template, largest"]) == (6, 18, 3)
    assert (found["genuine pairs"], found["people"], found["media a template, mean"]) == (2, 4, 2)
    assert found["landmarks off the template, px, 95 %"] < 0.01
