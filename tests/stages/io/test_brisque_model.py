"""BRISQUE's trained numbers, read from files in the package's format; from the package itself where it is installed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.core.images import brisque
from stages.core.images.augment import Probabilities
from stages.core.losses.sampler import Order
from stages.io import brisque_model
from stages.runtime import devices
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import Samples, load, open_records
from tests.golden.make_brisque import KINDS, image
from tests.stages import training_data
from tests.stages.small_training import config
from tests.support import ROOT

SVM = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -40.5\nSV\n7 1:-0.5 36:1 \n-3 2:0.25 \n"


def write(folder: Path, svm: str = SVM, ranges: object = None) -> Path:
    (folder / "svm.txt").write_text(svm)
    ranges = {"min_": [0.0] * 36, "max_": [2.0] * 36} if ranges is None else ranges
    (folder / "normalize.pickle").write_bytes(pickle.dumps(ranges))
    return folder


def test_vectors_weights_and_ranges_are_read(tmp_path: Path):
    made = brisque_model.read(write(tmp_path))
    assert made.vector_SF.shape == (2, 36)
    assert (made.vector_SF[0, 0], made.vector_SF[0, 35], made.vector_SF[1, 1]) == (-0.5, 1.0, 0.25)
    assert made.weight_S.tolist() == [7, -3]
    assert (made.kernel_gamma, made.offset) == (0.05, -40.5)
    at_middle = 7 * np.exp(-0.05 * 1.25) - 3 * np.exp(-0.05 * 0.0625) + 40.5
    assert made.score(np.ones(36)) == pytest.approx(at_middle)


def test_qualities_lie_between_zero_and_one(tmp_path: Path):
    made = brisque_model.read(write(tmp_path))
    quality_B = brisque_model.qualities(np.stack([image(kind) for kind in KINDS]), made)
    assert quality_B.shape == (3,)
    assert ((quality_B >= 0) & (quality_B <= 1)).all()


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="would run code"):
        brisque_model.read(write(tmp_path, ranges=Path("x")))


@pytest.mark.parametrize(("svm", "ranges"), [("svm_type c_svc\nkernel_type rbf\nSV\n", None), (SVM, {"min_": [1.0]})])
def test_other_files_are_refused(tmp_path: Path, svm: str, ranges: object):
    with pytest.raises(ValueError, match="wanted"):
        brisque_model.read(write(tmp_path, svm, ranges))


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps brisque"):
        brisque_model.installed()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_packages(kind: str):
    try:
        folder = brisque_model.installed()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    wanted = json.loads((ROOT / "tests/golden/brisque.json").read_text())[kind]["score"]
    made = brisque_model.read(folder)
    assert made.score(brisque.features(image(kind)[..., ::-1])) == pytest.approx(wanted, rel=1e-5)


def test_a_training_follows_each_images_brisque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training_data.write(tmp_path)
    devices.prepare(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / ".facet")
    (tmp_path / "model").mkdir()
    # scores within the range, so that images differ
    folder = write(tmp_path / "model", SVM.replace("-40.5", "-50"))
    monkeypatch.setattr(brisque_model, "installed", lambda: folder)
    plain = config("adaface", epochs=1)
    asked = plain.model_copy(update={"head": plain.head | {"proxy": "one_minus_brisque"}})
    training = loop.Training(asked, open_records("tiny"))
    training.run(Checkpoints("key"), "train")
    head = training.networks.head
    assert head.quality_of_batch_B is not None
    assert head.quality_of_batch_B.std() > 0
    assert float(head.get_buffer("batch_mean")) != 0.5
    assert training.history[-1]["proxy_std"] < 1


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_scores_are_computed_where_images_are_loaded(workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training_data.write(tmp_path)
    (tmp_path / "model").mkdir()
    made = brisque_model.read(write(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACET_LOADER_WORKERS", workers)
    monkeypatch.setattr(brisque, "quality", lambda image_HW3, regression: float(os.getpid() % 4096))
    samples = Samples(open_records("tiny"), Probabilities(0, 0, 0, 0), 1, ("training",), brisque=made)
    for _, label_B, quality_B in load(samples, Order(32, 8, 1), 0, 4, torch.device("cpu")):
        assert label_B.shape == quality_B.shape == (8,)
        assert (quality_B == os.getpid() % 4096).all() == (workers == "0")
