"""Positions of records: one file of them is mapped by all processes of a machine; a process keeps no other's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.losses.sampler import Order
from stages.datasets import insightface_rec
from stages.training import dataset, positions
from stages.training.dataset import Samples, load, open_records
from stages.training.distributed import Processes
from tests.stages import ranks, training_data
from tests.stages.small_training import PROCESS_VARIABLES, prepare


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch, PROCESS_VARIABLES)


def mapped() -> list[str]:
    """Return the files of positions that this process maps."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split()[-1] for line in lines if "/positions/" in line})


def test_processes_read_the_manifest_once_and_map_one_file_of_each_column(project: Path):
    alone = open_records("tiny")

    def both(ours: Processes) -> None:
        read = dataset._positions

        def noted(path: Path) -> positions.Columns:
            with (project / "reads").open("a") as stream:
                stream.write(f"{ours.rank}\n")
            return read(path)

        dataset._positions = noted  # type: ignore[assignment]
        records = open_records("tiny", shared=True)
        assert [Path(path).name for path in mapped()] == ["key.npy", "label.npy", "length.npy", "offset.npy"]
        assert records.fingerprint == alone.fingerprint
        order = Order(len(records.key_N), 8, 5)
        batches = [
            list(load(Samples(one, dataset.augment.Probabilities(0, 0, 0, 0), 5, ("training",)), order, 0, 4, ours.device))
            for one in (records, alone)
        ]
        for (image, label), (image_alone, label_alone) in zip(*batches, strict=True):
            assert (image == image_alone).all()
            assert (label == label_alone).all()

    ranks.run(2, both)
    assert len((project / "reads").read_text().split()) == 1


def test_one_process_writes_none(project: Path):
    open_records("tiny")
    assert not (project / ".facet/positions").exists()


def test_positions_of_another_manifest_are_never_taken_and_the_old_ones_go(project: Path):
    before = open_records("tiny", shared=True)
    assert before.label_N.tolist() == [n // training_data.IMAGES for n in range(32)]
    training_data.write_manifest(project, "tiny", list(range(1, 33)), [0] * 32)
    assert open_records("tiny", shared=True).label_N.tolist() == [0] * 32
    assert len(list((project / ".facet/positions/tiny").glob("*/label.npy"))) == 1
    # those that are mapped still are what they were
    assert before.label_N.tolist() == [n // training_data.IMAGES for n in range(32)]


def test_positions_that_were_cut_short_are_written_again(project: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*of: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(np, "save", full)
        open_records("tiny", shared=True)
    assert len(open_records("tiny", shared=True).key_N) == 32


def test_wrong_images_and_labels_are_refused_as_by_one_process(project: Path):
    training_data.write_manifest(project, "tiny", [1, 2], [0, 9])
    with pytest.raises(ValueError, match="labels should be in"):
        open_records("tiny", shared=True)
    training_data.write_manifest(project, "tiny", [1, 2], [0, 1], side=100)
    with pytest.raises(ValueError, match="2 images are not aligned"):
        open_records("tiny", shared=True)


def test_a_process_keeps_its_own_part_of_an_epochs_order():
    orders = [Order(1003, 40, 7, rank, 4) for rank in range(4)]
    for order in orders:
        own_SB = order._own(2)
        assert own_SB.base is None  # a view would keep all of it
        assert own_SB.shape == (25, 10)
    whole = list(Order(1003, 40, 7).batches(25, 60))
    parts = zip(*(order.batches(25, 60) for order in orders), strict=True)
    assert [[item for part in of_step for item in part] for of_step in parts] == whole


def test_a_file_that_is_shorter_than_any_position_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch):
    from stages.core.recordio import images

    monkeypatch.setattr(images, "_BLOCK", 5)
    path = project / "data/tiny/train/train.rec"
    last = int(open_records("tiny").images.offset_N[-1])  # type: ignore[union-attr]
    path.write_bytes(path.read_bytes()[: last + 40])
    with pytest.raises(insightface_rec.RecordError, match="truncated or replaced"):
        open_records("tiny", shared=True)
