"""Methods that look at images or ask the network, beside the embedding of the same images."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from stages.config.evaluation import Fiqa
from stages.core.images.pixels import from_rows, to_network
from stages.core.metrics.features import Features
from stages.core.metrics.processing import Failure, process
from stages.embedding import scoring_embedder
from stages.embedding.embedder import BATCH_SIZE, Embedder
from stages.quality import ser_fiq, sharpness
from stages.runtime import plugins

NETWORK = {
    "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
    "stem_stride": 2, "feature_dim": 16, "dropout": 0.4,
}  # fmt: skip


def images(num: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(num)]


def embedder(network: str | None = None) -> Embedder:
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    backbone = module.build(module.Config.model_validate(NETWORK)).eval()
    return Embedder(backbone, "RGB", torch.device("cpu"), network=network)


def scorers(passes: int = 5):
    options = ser_fiq.Config.model_validate({"name": "ser_fiq", "passes": passes})
    return {"sharpness": sharpness.Scorer(), "ser_fiq": ser_fiq.Scorer(options)}


def test_features_are_those_without_anybody_looking_to_the_last_bit():
    plain = embedder()(images())
    watched = scoring_embedder.watched(embedder(), scorers())(images())
    assert np.array_equal(watched.feature_ND, plain.feature_ND)
    assert np.array_equal(watched.flipped_ND, plain.flipped_ND)


def test_every_method_scores_the_images_as_it_does_alone():
    features = scoring_embedder.watched(embedder(), scorers())(iter(images()))
    found = {name: score(features) for name, score in scoring_embedder.scores_of(scorers()).items()}
    looked = [sharpness.Scorer().look(image) for image in images()]
    assert found["sharpness"] == pytest.approx(looked, rel=1e-6)
    network = scorers()["ser_fiq"].network(embedder().backbone)
    with torch.no_grad():
        image_B3HW = to_network(from_rows(torch.from_numpy(np.stack(images()))), "RGB", (-1.0, 1.0))
        expected = network(image_B3HW)[:, 0].numpy()
    np.testing.assert_allclose(found["ser_fiq"], expected, rtol=1e-5)


def test_images_pass_once_and_in_batches(monkeypatch):
    monkeypatch.setattr(scoring_embedder, "AT_ONCE", 2)
    drawn = []

    def once():
        for image in images():
            drawn.append(image)
            yield image

    some = scoring_embedder.watched(embedder(), scorers())(once())
    assert len(drawn) == 5
    monkeypatch.undo()
    whole = scoring_embedder.watched(embedder(), scorers())(images())
    assert np.array_equal(some.seen["ser_fiq"], whole.seen["ser_fiq"])


def test_what_a_network_says_is_kept_and_for_other_options_asked_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = scoring_embedder.watched(embedder("net"), scorers())(images())
    asked = []
    plain = Embedder.embed
    monkeypatch.setattr(Embedder, "embed", lambda self, batch: asked.append(self.network) or plain(self, batch))
    again = scoring_embedder.watched(embedder("net"), scorers())(images())
    assert not asked
    assert np.array_equal(again.seen["ser_fiq"], first.seen["ser_fiq"])
    assert np.array_equal(again.feature_ND, first.feature_ND)
    other = scoring_embedder.watched(embedder("net"), scorers(passes=6))(images())
    assert len(asked) == 1
    assert asked[0].startswith("net-")
    assert not np.array_equal(other.seen["ser_fiq"], first.seen["ser_fiq"])


def test_where_nobody_has_to_look_the_embedder_stays_as_it_is():
    plain = embedder()
    assert scoring_embedder.watched(plain, scoring_embedder.untrained(["feature_norm"])) is plain


def test_an_image_that_failed_leaves_the_scores_of_others_where_they_belong():
    items = [images()[0], Failure("b", "torn"), *images()[1:]]
    processed = process("set", items, 6, scoring_embedder.watched(embedder(), scorers()), max_failed=0.5)
    looked = [sharpness.Scorer().look(image) for image in images()]
    assert processed.features.seen["sharpness"] == pytest.approx([looked[0], 0, *looked[1:]], rel=1e-6)


def test_a_runs_own_method_is_not_measured_a_second_time_with_other_options(tmp_path):
    (tmp_path / "quality.json").write_text('{"name": "ser_fiq", "passes": 7, "backbone_sha256": ""}')
    found = scoring_embedder.of_run(tmp_path, ["sharpness", "ser_fiq"])
    assert list(found) == ["ser_fiq", "sharpness"]
    assert found["ser_fiq"].config.passes == 7


def test_methods_without_training_are_listed_as_the_switches_allow_them():
    allowed = Fiqa.model_fields["methods"].annotation
    assert set(get_args(get_args(allowed)[0])) == set(scoring_embedder.UNTRAINED)


def test_scores_come_for_more_images_than_a_batch():
    features = scoring_embedder.watched(embedder(), scorers())(images(BATCH_SIZE + 3))
    assert isinstance(features, Features)
    assert features.seen["ser_fiq"].shape == features.seen["sharpness"].shape == (BATCH_SIZE + 3,)
