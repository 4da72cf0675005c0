"""The shelf of embeddings: one pass for all, nothing stale, nothing lost by a kill, nothing broken by a bad file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.embedding import embedder, feature_cache
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts
from tests.stages.embedding.test_embedder import CPU, noise, write_model


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run, and a state folder of its own."""
    monkeypatch.setattr(artifacts, "STATE", tmp_path / "state")
    monkeypatch.setattr(embedder, "BATCH_SIZE", 16)
    write_model(tmp_path / "run")
    return tmp_path / "run"


def counted(run: Path, **more: bool) -> tuple[Embedder, list[int]]:
    """An embedder, and the batches that its network really computed."""
    made, batches = Embedder.load(run, CPU, keep=True, **more), []
    embed = made.embed
    made.embed = lambda image_BHW3: batches.append(len(image_BHW3)) or embed(image_BHW3)  # type: ignore[method-assign]
    return made, batches


def test_the_second_pass_computes_nothing_and_gives_the_same_bits(run):
    images = noise(20)
    first, batches = counted(run)
    once = first(images)
    # 20 images and their mirror images in batches of 16
    assert batches == [16, 16, 16]
    second, batches = counted(run)
    again = second(images)
    assert batches == []
    np.testing.assert_array_equal(again.feature_ND, once.feature_ND)
    np.testing.assert_array_equal(again.flipped_ND, once.flipped_ND)


def test_images_of_another_set_are_shared_in_any_order_and_only_new_ones_computed(run):
    images = noise(20)
    counted(run)[0](images)
    other, batches = counted(run)
    mixed = np.concatenate([images[10:3:-1], 255 - images[:1], images[:2]])
    features = other(mixed)
    assert batches == [16]
    plain = Embedder.load(run, CPU)(mixed)
    np.testing.assert_array_equal(features.feature_ND, plain.feature_ND)
    np.testing.assert_array_equal(features.flipped_ND, plain.flipped_ND)


def test_flips_that_were_not_wanted_before_are_all_that_is_added(run):
    images = noise(16)
    counted(run, flip=False)[0](images)
    both, batches = counted(run)
    assert both(images).flipped_ND is not None
    assert batches == [16]


def test_a_pass_that_is_killed_is_taken_up_where_it_was(run):
    images = noise(40)

    def until_killed():
        yield from images[:33]
        raise KeyboardInterrupt

    killed, batches = counted(run)
    with pytest.raises(KeyboardInterrupt):
        killed(until_killed())
    assert len(batches) == 4
    resumed, batches = counted(run)
    features = resumed(images)
    # 64 of 80 rows were there
    assert len(batches) == 1
    np.testing.assert_array_equal(features.feature_ND, Embedder.load(run, CPU)(images).feature_ND)


def test_features_have_the_same_bits_whatever_else_is_in_the_batch_and_with_any_number_of_threads(run):
    images, threads = noise(37), torch.get_num_threads()
    order_N = np.random.default_rng(0).permutation(37)
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            plain, mixed = (Embedder.load(run, CPU)(images[rows]).feature_ND for rows in (slice(None), order_N))
            np.testing.assert_array_equal(mixed, plain[order_N])
            found.append(plain)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[0], found[1])


def test_a_damaged_file_is_said_to_be_and_thrown_away(run, capsys):
    images = noise(8)
    counted(run)[0](images)
    (path,) = (artifacts.STATE / "embeddings").rglob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    again, batches = counted(run)
    features = again(images)
    assert batches == [16]
    assert "is damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(features.feature_ND, Embedder.load(run, CPU)(images).feature_ND)


def test_other_weights_colours_or_a_device_share_nothing(run, tmp_path):
    model = embedder.read_backbone(run)[1]
    plain = embedder.fingerprint(model, CPU)
    assert plain == embedder.fingerprint(model, CPU)
    for change in ({"weights_sha256": "0" * 64}, {"color_order": "RGB"}, {"value_range": (0.0, 1.0)}):
        assert embedder.fingerprint(model.model_copy(update=change), CPU) != plain


def test_what_was_not_used_for_longest_goes_first(run, monkeypatch):
    counted(run)[0](noise(8))
    folder = artifacts.STATE / "embeddings"
    (used,) = folder.iterdir()
    for name, age in (("older", 900), ("old", 1000)):
        (folder / name).mkdir()
        (folder / name / "1.npz").write_bytes(bytes(50_000))
        os.utime(folder / name, (age, age))
    monkeypatch.setenv("FACET_EMBEDDINGS_GB", "0.0000600")
    feature_cache.prune(used.name)
    assert {path.name for path in folder.iterdir()} == {used.name, "old"}
    monkeypatch.setenv("FACET_EMBEDDINGS_GB", "much")
    with pytest.raises(ValueError, match="a number of gigabytes, got 'much'"):
        feature_cache.prune(used.name)


def test_nothing_is_kept_where_no_bytes_are_granted(run, monkeypatch):
    monkeypatch.setenv("FACET_EMBEDDINGS_GB", "0")
    counted(run)[0](noise(3))
    assert not (artifacts.STATE / "embeddings").exists()
