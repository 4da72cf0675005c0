"""Comparison of faces: who is left out and why, cosines, and thresholds from what was evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core.metrics.features import Features, Image
from stages.pictures import compare, detect
from tests.stages.small_sets import embed, face


def write(path: Path, identity: int, seed: int = 0) -> Path:
    path.write_bytes(cv2.imencode(".png", face(identity, seed))[1].tobytes())
    return path


def two_or_none(image: Image) -> list[detect.Face]:
    """A stand-in for a detector: two faces on a picture wider than high, nobody on a higher one."""
    height, width = image.shape[:2]
    if height > width:
        return []
    return [detect.as_aligned(part)[0] for part in ((image[:, :112], image[:, 112:]) if width > height else (image,))]


def test_pictures_that_cannot_be_used_are_left_out_with_the_reason(tmp_path: Path) -> None:
    good = write(tmp_path / "good.png", 1)
    (tmp_path / "bad.png").write_bytes(b"bad")
    cv2.imwrite(str(tmp_path / "nobody.png"), np.zeros((20, 10, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "two.png"), np.hstack([face(1), face(2)]))
    paths = [good, tmp_path / "bad.png", tmp_path / "nobody.png", tmp_path / "two.png", tmp_path / "gone.png"]
    found = compare.find_faces(paths, two_or_none)
    assert [entry.name for entry in found.entries] == ["good.png", "two.png"]
    assert list(found.left_out) == ["bad.png", "nobody.png", "gone.png"]
    assert "not a readable picture" in found.left_out["bad.png"]
    assert found.left_out["nobody.png"].startswith("no face found in ")
    assert "10 x 20" in found.left_out["nobody.png"]
    assert found.notes == ["two.png: 2 faces, using the largest (--every-face uses all)"]
    every = compare.find_faces(paths, two_or_none, every_face=True)
    assert [entry.name for entry in every.entries] == ["good.png", "two.png", "two.png#2"]
    assert every.notes == []


def test_cosines_are_those_of_the_fused_embeddings(tmp_path: Path) -> None:
    images = [face(1), face(1, 1), face(5)]
    entries = [compare.Entry(str(n), detect.as_aligned(image)[0]) for n, image in enumerate(images)]
    comparison = compare.compare(entries, embed, {"twice": lambda features: 2 * features.feature_norm_N})
    features = embed(images)
    fused_ND = features.feature_ND + features.flipped_ND
    unit_ND = fused_ND / np.linalg.norm(fused_ND, axis=1, keepdims=True)
    assert np.allclose(comparison.similarity_NN, unit_ND @ unit_ND.T, atol=1e-6)
    assert np.allclose(comparison.quality["twice"], 2 * np.array(comparison.quality["feature_norm"]))
    assert [(a, b) for a, b, _ in comparison.pairs()] == [("0", "1"), ("0", "2"), ("1", "2")]
    assert comparison.pairs()[1][2] == comparison.similarity_NN[0, 2]


def test_one_face_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="comparing needs at least two faces, got 1"):
        compare.compare([compare.Entry("a", detect.as_aligned(face(1))[0])], embed, {})


def details(path: Path) -> Path:
    at = {
        "1e-03": {"nearest": None, "strict": None, "reason": "too few"},
        "1e-02": {"strict": {"tar": 0.74, "far_read": 0.01, "threshold": 0.37}},
        "1e-01": {"strict": {"tar": 0.88, "far_read": 0.1, "threshold": 0.25}},
    }
    none = {"1e-03": {"strict": None}}
    path.write_text(json.dumps({"sets": {"lfw": {"tar_at_far": at}, "tiny": {"tar_at_far": none}}}))
    return path


def test_the_threshold_is_the_evaluated_one(tmp_path: Path) -> None:
    path = details(tmp_path / "details.json")
    assert compare.calibration(path, "lfw", 0.1) == compare.Calibration(0.25, 0.1, 0.88, "lfw")
    # 1e-3 has no threshold: the next higher rate is taken, and said
    wanted = compare.Calibration(0.37, 0.01, 0.74, "lfw, which does not resolve an FMR of 0.001")
    assert compare.calibration(path, "lfw", 1e-3) == wanted
    with pytest.raises(LookupError, match="has no set 'ijb': there are lfw, tiny"):
        compare.calibration(path, "ijb", 1e-3)
    with pytest.raises(ValueError, match="tiny is too small to resolve a false match rate"):
        compare.calibration(path, "tiny", 1e-3)
    with pytest.raises(FileNotFoundError, match="evaluate the model, or give a --threshold"):
        compare.calibration(tmp_path / "none.json", "lfw", 1e-3)


def test_one_person_is_told_from_another_on_photographs(shared: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(shared / "models/foamliu_MobileFaceNet.onnx"))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def run(image: Image) -> np.ndarray:
        network = ((image[:, :, ::-1] / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
        return session.run(None, {session.get_inputs()[0].name: network})[0][0]

    def network(images: list[Image]) -> Features:
        images = list(images)
        return Features(np.stack([run(i) for i in images]), np.stack([run(i[:, ::-1]) for i in images]))

    paths = sorted((shared / "faces/compare").iterdir())
    found = compare.find_faces(paths, detect.YuNet(shared / "models/yunet_n_640_640.onnx"))
    cosines = {frozenset(pair): cosine for *pair, cosine in compare.compare(found.entries, network, {}).pairs()}
    same = cosines.pop(frozenset({"img1.jpeg", "img2.jpeg"}))
    assert same > 0.5
    assert max(cosines.values()) < 0.25
