"""Images that cannot be processed are counted; more than allowed stop the pass; nothing is lost in between."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.core.metrics.features import Features
from stages.core.metrics.processing import Failure, decode, decode_aligned, process


def image(level):
    return np.full((112, 112, 3), level, np.uint8)


def embed(images):
    feature_ND = np.array([[float(item[0, 0, 0]), 1.0] for item in images], np.float32)
    return Features(feature_ND, feature_ND + 1)


def test_features_stand_where_their_images_stood_and_zeros_where_one_failed():
    items = [Failure("a", "torn"), image(10), image(20), Failure("d", "empty"), image(30)]
    processed = process("set", items, 5, embed, max_failed=0.5)
    assert processed.features.feature_ND[:, 0].tolist() == [0, 10, 20, 0, 30]
    assert processed.features.flipped_ND is not None
    assert processed.features.flipped_ND[:, 0].tolist() == [0, 11, 21, 0, 31]
    assert processed.processed_N.tolist() == [False, True, True, False, True]
    assert [failure.name for failure in processed.failures] == ["a", "d"]


def test_the_mean_norm_is_that_of_the_processed_images():
    items = [Failure("a", "torn"), image(3), image(3)]
    processed = process("set", items, 3, lambda images: Features(embed(images).feature_ND), max_failed=0.5)
    assert processed.mean_feature_norm == pytest.approx(10**0.5)
    assert processed.features.flipped_ND is None


def test_more_failures_than_allowed_stop_before_the_rest_is_embedded():
    seen = []

    def items():
        for number in range(100):
            seen.append(number)
            yield Failure(f"{number}.jpg", "torn") if number in (3, 5) else image(number)

    with pytest.raises(
        ValueError, match=r"crops: 2 of the first 6 images cannot be processed; of all 100.*3\.jpg: torn"
    ):
        process("crops", items(), 100, embed, max_failed=0.01)
    assert len(seen) == 6


def test_a_set_without_one_readable_image_is_refused_without_asking_the_backbone():
    with pytest.raises(ValueError, match=r"none of 2 images can be processed; the first is a\.jpg: torn"):
        process("set", [Failure("a.jpg", "torn"), Failure("b.jpg", "torn")], 2, embed, max_failed=1)
    with pytest.raises(ValueError, match="none of 0 images"):
        process("set", [], 0, embed, max_failed=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        process(
            "set",
            [image(1)],
            1,
            lambda images: Features(np.full((len(list(images)), 2), bad, np.float32)),
            max_failed=0,
        )


def test_a_backbone_that_loses_an_image_is_refused():
    with pytest.raises(ValueError, match="wanted 2 features, one for each image, got 1"):
        process("set", [image(1), image(2)], 2, lambda images: Features(embed(images).feature_ND[:1]), max_failed=0)


def test_a_failure_tells_the_reason_without_the_path():
    assert Failure.of("a.jpg", FileNotFoundError(2, "No such file or directory", "/somewhere/a.jpg")) == Failure(
        "a.jpg", "No such file or directory"
    )
    assert Failure.of("a.jpg", ValueError("torn")).reason == "torn"


def test_a_red_image_comes_out_as_bgr():
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 255
    data = cv2.imencode(".png", red)[1].tobytes()
    assert decode_aligned(data)[50, 50].tolist() == [0, 0, 255]


@pytest.mark.parametrize("keep", [0, 10, 500, -20])
def test_a_jpeg_cut_short_is_no_image(keep):
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="not a complete JPEG or PNG"):
        decode(data[:keep])


def test_a_face_of_another_size_is_not_taken_for_an_aligned_one():
    data = cv2.imencode(".png", np.zeros((80, 100, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="112x112 pixels, this image has 100x80"):
        decode_aligned(data)
