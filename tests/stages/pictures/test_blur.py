"""Models side by side under blur: nearest match, who it is, and rates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.core.metrics.features import Features, Image
from stages.datasets import verification_bin
from stages.pictures import blur, detect
from stages.pictures.blur import Gallery, Matcher, Probe
from tests.stages.small_sets import embed, encoded, face

GALLERY = Gallery(["1", "2", "5"], [face(1), face(2), face(5)])


def blind(images: list[Image]) -> Features:
    """A model that sees nothing."""
    feature_ND = np.ones((len(list(images)), 4), np.float32)
    return Features(feature_ND, feature_ND)


def test_the_nearest_is_found_and_counted_where_the_person_is_known() -> None:
    matches = Matcher(embed, GALLERY)([Probe(face(2, 7), "2"), Probe(face(5, 7), "1"), Probe(face(5, 7), None)])
    assert [match.index for match in matches] == [1, 2, 2]
    assert [match.correct for match in matches] == [True, False, None]
    assert matches[0].cosine > 0.9
    assert Matcher(embed, GALLERY)([]) == []


def test_of_equal_cosines_the_first_is_taken() -> None:
    (match,) = Matcher(blind, GALLERY)([Probe(face(5), "5")])
    assert match.index == 0


def test_rates_are_shares_of_probes() -> None:
    probes = [Probe(face(n, 3), str(n)) for n in (1, 2, 5)]
    rates = blur.true_match_rates({"sees": Matcher(embed, GALLERY), "blind": Matcher(blind, GALLERY)}, probes, [0, 2])
    assert rates == {"sees": [1.0, 1.0], "blind": [1 / 3, 1 / 3]}
    with pytest.raises(ValueError, match="needs probes of known people"):
        blur.true_match_rates({}, [Probe(face(1), None)], [0])


def test_blur_takes_detail_away_and_none_is_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    assert blur.blurred(noise, 0) is noise
    deviations = [blur.blurred(noise, sigma).std() for sigma in (0, 1, 2, 4)]
    assert deviations == sorted(deviations, reverse=True)


def test_frames_come_one_by_one_with_every_level() -> None:
    probes = [Probe(face(n % 3, n), None) for n in range(5)]
    shown = list(blur.match_frames({"a": Matcher(embed, GALLERY)}, iter(probes), [0, 1, 2], batch_size=2))
    assert [probe for probe, _ in shown] == probes
    assert all(len(found["a"]) == 3 for _, found in shown)


def test_embedded_people_are_matched_by_their_best_two_pictures(tmp_path: Path) -> None:
    images = [encoded(n % 4, n) for n in range(16)]
    images[4] = images[0]  # person 0: the same picture twice
    verification_bin.write(tmp_path / "lfw.bin", images, [True] * 8)
    rows = [("lfw", str(n), n % 4, 1 - n / 20) for n in range(16)]
    pd.DataFrame(rows, columns=["set", "image", "identity", "quality"]).to_parquet(tmp_path / "truth.parquet")
    gallery, probes = blur.synthetic(tmp_path)
    assert gallery.names == ["0", "1", "2", "3"] == [probe.name for probe in probes]
    for n in range(4):
        assert np.array_equal(gallery.images[n], face(n, n))
        assert np.array_equal(probes[n].image, face(n, 8 if n == 0 else n + 4))
    with pytest.raises(FileNotFoundError, match="only synthetic sets have known identities"):
        blur.synthetic(tmp_path / "elsewhere")


def test_a_gallery_is_a_folder_of_people(tmp_path: Path) -> None:
    for name, identity in (("ann", 1), ("bob", 2)):
        (tmp_path / f"{name}.png").write_bytes(encoded(identity))
    gallery = blur.gallery_of(tmp_path, detect.as_aligned)
    assert gallery.names == ["ann", "bob"]
    with pytest.raises(ValueError, match=r"no face found in .*ann.png"):
        blur.gallery_of(tmp_path, lambda image: [])
    (tmp_path / "ann.png").unlink()
    with pytest.raises(ValueError, match="at least two people, one each, got 1"):
        blur.gallery_of(tmp_path, detect.as_aligned)


def test_a_video_gives_the_frames_that_hold_a_face(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (112, 112))
    for n in range(6):
        writer.write(face(1) if n % 2 else np.zeros((112, 112, 3), np.uint8))
    writer.release()

    def not_black(image: Image) -> list[detect.Face]:
        return detect.as_aligned(image) if image.max() > 30 else []

    probes = list(blur.video_probes(str(path), not_black, "ann", 5))
    assert [probe.name for probe in probes] == ["ann", "ann"]
    assert np.abs(probes[0].image.astype(int) - face(1)).mean() < 12
    with pytest.raises(ValueError, match="cannot be opened as a video"):
        list(blur.video_probes(str(tmp_path / "none.mp4"), not_black, None, 5))
