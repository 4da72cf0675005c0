"""Real faces in the official layouts, a published network, and what the authors' evaluation code gives on them.

The network is shared/models/foamliu_MobileFaceNet.onnx: RGB / 255, ImageNet mean and deviation, batch of one, no flip.
Its features are kept in pytest's cache by the content of the aligned image, so that a second run only reads, aligns and
evaluates. The first takes about a minute on one core.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from stages.core.metrics.suite_result import Measured

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Network:
    """The network as an ``Embed``; remembers the features of images it has seen."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.known: dict[bytes, np.ndarray] = {}

    def __call__(self, images) -> Features:
        return Features(np.stack([self.feature(image) for image in images]))

    def feature(self, image: np.ndarray) -> np.ndarray:
        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        if key not in self.known:
            pixels = (image[:, :, ::-1].astype(np.float32) / 255 - MEAN) / DEVIATION
            batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])
            self.known[key] = self.session.run(None, {"input0": batch})[0][0]
        return self.known[key]


@pytest.fixture(scope="module")
def network(shared: Path, pytestconfig: pytest.Config) -> Iterator[Network]:
    path = shared / "models/foamliu_MobileFaceNet.onnx"
    network = Network(path)
    version = hashlib.blake2b(path.read_bytes() + onnxruntime.__version__.encode(), digest_size=8).hexdigest()
    kept = pytestconfig.cache.mkdir("facet_known_answers") / f"{version}.npz"
    if kept.is_file():
        with np.load(kept) as arrays:
            network.known = dict(zip(map(bytes, arrays["keys"]), arrays["features"], strict=True))
    before = len(network.known)
    yield network
    if len(network.known) > before:
        keys = np.array([np.frombuffer(key, np.uint8) for key in network.known])
        aside = kept.with_suffix(".partial.npz")
        np.savez(aside, keys=keys, features=np.stack(list(network.known.values())))
        aside.replace(kept)


@pytest.fixture(scope="module")
def known(faces: Path) -> dict:
    return json.loads((faces / "known_answers.json").read_text())


def check_verification(measured: Measured, expected: dict) -> None:
    details = measured.details["sets"]["lfw"]
    assert measured.metrics["lfw"] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert details["accuracy_std"] == pytest.approx(expected["accuracy_std"], abs=1e-12)
    assert details["accuracy_per_fold"] == expected["accuracy_per_fold"]
    # theirs is a mean in float32
    assert details["mean_feature_norm"] == pytest.approx(expected["mean_feature_norm"], rel=1e-6)
    assert details["failed"] == 0


def test_verification_on_disjoint_identities(network, faces, known):
    switches = evaluation.Hq(sets=("lfw",), fusion="none")
    measured = evaluate.measure("hq", faces / "eval", switches, network)
    check_verification(measured, known["eval/lfw.bin"])


@pytest.mark.slow
def test_verification_on_the_official_lfw_pairs(network, faces, known):
    switches = evaluation.Hq(sets=("lfw",), fusion="none")
    measured = evaluate.measure("hq", faces / "lfw_official", switches, network)
    assert measured.details["sets"]["lfw"]["pairs"] == 6000
    check_verification(measured, known["lfw_official/lfw.bin"])


def test_scface_rank_1_at_each_distance(network, faces, known):
    switches = evaluation.Lq(sets=("scface",), fusion="none")
    measured = evaluate.measure("lq", faces / "eval", switches, network)
    expected = known["eval/scface"]
    for distance in (1, 2, 3):
        assert measured.metrics[f"scface_d{distance}"] == pytest.approx(expected[f"d{distance}_rank1"], abs=1e-7)
        details = measured.details["sets"]["scface"][f"d{distance}"]
        assert details["probes"] == expected["probes_per_distance"]


def test_ijbb_tar_at_each_far_with_unit_features(network, faces, known):
    switches = evaluation.Ijb(sets=("IJBB",), fusion="none", use_norm=False)
    measured = evaluate.measure("ijb", faces / "eval", switches, network)
    expected = known["eval/ijb/IJBB"]["unit_features"]
    assert len(expected) == 5
    assert measured.metrics == {
        f"ijbb_tar_at_far_{float(key.rpartition('_')[2]):.0e}": pytest.approx(value, abs=1e-12)
        for key, value in expected.items()
    }
    # 228,500 impostor pairs cannot tell one in a million
    assert "needs 1000000" in measured.details["sets"]["IJBB"]["tar_at_far"]["1e-06"]["reason"]
