"""Training images: what a batch holds, the same for any number of loader processes, ranks and resumes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.core.images.augment import Probabilities
from stages.core.images.augment_views import VIEWS
from stages.core.losses.sampler import Order
from stages.datasets import insightface_rec
from stages.training.dataset import Records, Samples, load, open_records
from tests.stages import training_data

CPU = torch.device("cpu")
NEVER, OFTEN = Probabilities(0, 0, 0, 0), Probabilities(0.5, 0.5, 0.5)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    training_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACET_LOADER_WORKERS", raising=False)
    return open_records("tiny")


def batches(
    records: Records, views: tuple[str, ...] = VIEWS, first: int = 0, rank: int = 0, world_size: int = 1
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    order = Order(len(records.key_N), 8, 5, rank, world_size)
    return list(load(Samples(records, OFTEN, 5, views), order, first, 7, CPU))


def same(left: list[tuple[torch.Tensor, torch.Tensor]], right: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, b) for batches in pairs for a, b in zip(*batches, strict=True))


def test_a_batch_is_the_stored_images_in_their_order(records: Records):
    order = Order(len(records.key_N), 8, 5)
    samples = Samples(records, NEVER, 5, ("training",))
    for items, (image_VBHW3, label_B) in zip(order.batches(0, 4), load(samples, order, 0, 4, CPU), strict=True):
        assert image_VBHW3.shape == (1, 8, 112, 112, 3)
        assert image_VBHW3.dtype == torch.uint8
        for row, (_, position) in enumerate(items):
            stored = np.frombuffer(records.images.image_bytes(position), np.uint8)
            assert np.array_equal(image_VBHW3[0, row], cv2.imdecode(stored, cv2.IMREAD_COLOR))
        assert label_B.tolist() == [int(records.label_N[position]) for _, position in items]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_the_same_beside_others(name: str, records: Records):
    alone = batches(records, (name,))
    for (whole_VBHW3, _), (image_VBHW3, _) in zip(batches(records), alone, strict=True):
        assert torch.equal(whole_VBHW3[VIEWS.index(name)], image_VBHW3[0])


def test_an_image_looks_different_in_every_view_and_epoch(records: Records):
    image_VBHW3 = batches(records, ("training", "low", "low"))[0][0]
    assert not torch.equal(image_VBHW3[0], image_VBHW3[1])
    assert not torch.equal(image_VBHW3[1], image_VBHW3[2])
    streams = Samples(records, OFTEN, 5, ("low",))
    first, second = (np.empty((1, 1, 112, 112, 3), np.uint8) for _ in range(2))
    streams.fill(first, [(0, 3)])
    streams.fill(second, [(1, 3)])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_loader_processes_change_no_pixel(workers: str, records: Records, monkeypatch: pytest.MonkeyPatch):
    alone = batches(records)
    monkeypatch.setenv("FACET_LOADER_WORKERS", workers)
    assert same(alone, batches(records))


@pytest.mark.parametrize("first", [1, 4, 6])
def test_starting_in_mid_epoch_gives_the_rest_of_the_same_batches(first: int, records: Records):
    assert same(batches(records)[first:], batches(records, first=first))


def test_ranks_share_the_batches_of_one_process(records: Records):
    parts = [batches(records, rank=rank, world_size=2) for rank in range(2)]
    joined = [
        (torch.cat([image for image, _ in ranks], dim=1), torch.cat([label for _, label in ranks]))
        for ranks in zip(*parts, strict=True)
    ]
    assert same(joined, batches(records))


def write_again(root: Path, encoded: bytes) -> None:
    """Replace all images by one, as if ``unpack`` had let it pass."""
    insightface_rec.write(root / "data" / "tiny" / "train", [(encoded, 0)] * 32, 1)
    training_data.write_manifest(root, "tiny", list(range(1, 33)), [0] * 32)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_record_that_is_no_image_is_named(
    workers: str, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FACET_LOADER_WORKERS", workers)
    write_again(tmp_path, b"no image")
    with pytest.raises(ValueError, match=r"^record \d+: wanted an image of 112 x 112, got bytes that are no image"):
        batches(open_records("tiny"))


def test_an_image_of_another_size_is_named(records: Records, tmp_path: Path):
    write_again(tmp_path, cv2.imencode(".jpg", np.zeros((100, 90, 3), np.uint8))[1].tobytes())
    with pytest.raises(ValueError, match="wanted an image of 112 x 112, got 90 x 100"):
        batches(open_records("tiny"))


def test_a_number_of_processes_that_is_none_is_refused(records: Records, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_LOADER_WORKERS", "many")
    with pytest.raises(ValueError, match="FACET_LOADER_WORKERS should be the number of loader processes, got 'many'"):
        batches(records)


def test_classes_are_those_that_unpack_wrote_down(records: Records, tmp_path: Path):
    # a label beyond them was allowed as a bad record: reading the labels of the record file again would fail
    (tmp_path / "data" / "tiny" / "train" / "property").unlink()
    training_data.write_manifest(tmp_path, "tiny", keys=[1, 2, 9, 10], labels=[0, 0, 1, 1], num_classes=3)
    assert open_records("tiny").num_classes == 3


def test_opening_reads_neither_the_index_nor_a_record(records: Records, tmp_path: Path):
    folder = tmp_path / "data" / "tiny" / "train"
    (folder / "train.idx").unlink()
    (folder / "train.rec").write_bytes(bytes((folder / "train.rec").stat().st_size))
    assert len(open_records("tiny").images) == len(records.key_N)


@pytest.mark.parametrize("change", ["labels", "classes", "file"])
def test_a_checkpoint_of_other_records_has_another_fingerprint(change: str, records: Records, tmp_path: Path):
    labels, classes = [0] * 32 if change == "labels" else records.label_N.tolist(), 4 + (change == "classes")
    if change == "file":
        with (tmp_path / "data" / "tiny" / "train" / "train.rec").open("ab") as stream:
            stream.write(bytes(4))
    else:
        training_data.write_manifest(tmp_path, "tiny", records.key_N.tolist(), labels, num_classes=classes)
    assert open_records("tiny").fingerprint != records.fingerprint


def test_an_empty_manifest_is_refused(records: Records, tmp_path: Path):
    training_data.write_manifest(tmp_path, "tiny", [], [])
    with pytest.raises(ValueError, match="lists no good record"):
        open_records("tiny")


@pytest.mark.parametrize("label", [-1, training_data.IDENTITIES])
def test_a_label_that_is_no_class_is_refused_before_the_first_step(label: int, tmp_path: Path, records: Records):
    training_data.write_manifest(tmp_path, "tiny", [1, 2, 3], [0, 1, label])
    with pytest.raises(ValueError, match=r"labels should be in 0\.\.3, got -?\d to \d: run `dvc repro --force unpack@tiny`"):
        open_records("tiny")
