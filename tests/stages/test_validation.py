"""A look at the HQ sets while it trains: last and best are both there, and it is said which one is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import train_backbone
from stages.core.losses.class_parallel import of_processes
from stages.core.metrics.processing import Failure, process
from stages.datasets import verification_bin
from stages.embedding.embedder import Embedder
from stages.embedding.shared_embed import SharedEmbed
from stages.models import model_files
from stages.runtime import artifacts, set_pins
from stages.suites import hq
from stages.training import loop
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import ranks, small_sets, training_data
from tests.stages.small_training import config

ACCURACIES = {1: 0.6, 2: 0.9, 3: 0.7}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    training_data.write(tmp_path)
    (tmp_path / "data/tiny/eval").mkdir()
    small_sets.write_bin(tmp_path / "data/tiny/eval/lfw.bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / ".facet")
    # what a program is exported to is tested elsewhere, and takes seconds
    monkeypatch.setattr("stages.models.model_files.save_program", lambda path, *_, **__: path.write_bytes(b""))
    return tmp_path


def trained(run: str, monkeypatch: pytest.MonkeyPatch, **validation: Any) -> dict[str, Any]:
    """Train with accuracies that peak at the second of three epochs; return train.json."""
    of = config(validation={"every_epochs": 1, "sets": ["lfw"], **validation})
    epochs = iter(ACCURACIES.values())
    monkeypatch.setattr(train_backbone, "validation", lambda _: lambda backbone: {"avg": next(epochs)})
    train_backbone.train(run, of, Processes())
    return artifacts.read_json(Path(f"results/{run}/train.json"))


def weights(run: str, name: str) -> dict[str, Any]:
    tree: dict[str, Any] = torch.load(f"runs/{run}/backbone/{name}", weights_only=True)
    return tree


def test_last_and_best_are_both_written_and_it_is_said_which_one_is_measured(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    last, best = trained("last", monkeypatch), trained("best", monkeypatch, keep="best")
    assert (last["weights_are"], best["weights_are"]) == ("last", "best")
    for metrics in (last, best):
        assert (metrics["best_epoch"], metrics["best_validation_avg"]) == (2, 0.9)
        assert metrics["validation_avg"] == 0.7
    # the same two sets of weights, by other names
    for one, other in (("weights.pt", "last.pt"), ("best.pt", "weights.pt")):
        for part in ("backbone", "head"):
            torch.testing.assert_close(weights("last", one)[part], weights("best", other)[part], rtol=0, atol=0)
    assert not torch.equal(weights("last", "weights.pt")["head"]["weight"], weights("last", "best.pt")["head"]["weight"])
    assert last["weights_sha256"] == artifacts.sha256(Path("runs/last/backbone/weights.pt"))


def test_the_curve_has_a_column_for_each_set_and_nothing_where_nobody_looked(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    of = config(epochs=3, validation={"every_epochs": 2, "sets": ["lfw"]})
    train_backbone.train("looked", of, Processes())
    header, *lines = (project / "results/looked/train.csv").read_text().splitlines()
    columns = header.split(",")
    assert {"validation_lfw", "validation_avg"} <= set(columns)
    looked = [line.split(",")[columns.index("validation_lfw")] for line in lines]
    assert looked[0] == ""
    assert all(0 <= float(cell) <= 1 for cell in looked[1:])
    # it is the accuracy that `evaluate` would find: measured again on the weights that were written
    model = artifacts.read_json(Path("results/looked/train.json"))
    assert model["weights_are"] == "last"
    backbone = loop.Training(of, open_records("tiny")).networks.backbone
    backbone.load_state_dict(weights("looked", "weights.pt")["backbone"])
    assert train_backbone.validation(of)(backbone)["lfw"] == float(looked[-1])


def test_a_set_that_is_not_there_stops_the_training_before_its_first_step(project: Path):
    of = config(validation={"every_epochs": 1, "sets": ["lfw", "calfw"]})
    with pytest.raises(FileNotFoundError, match=r"calfw\.bin is missing"):
        train_backbone.train("looked", of, Processes())
    assert not (project / ".facet").exists()


def test_a_set_of_a_person_that_changed_since_it_was_pinned_stops_the_training_too(project: Path, tmp_path: Path):
    of = config(validation={"every_epochs": 1, "sets": ["African"]})
    small_sets.write_bin(tmp_path / "faces/African.bin")
    artifacts.write_yaml(Path("resolved/datasets/tiny.yaml"), {"unpack": {}, "root": str(tmp_path / "faces")})
    for name in ("train.rec", "train.idx", "property"):
        (project / "data/tiny/train" / name).rename(tmp_path / "faces" / name)
    set_pins.write_all({"tiny": tmp_path / "faces"}, {"looked": {"train": of.model_dump(mode="json")}})
    small_sets.write_bin(tmp_path / "faces/African.bin", num_pairs=60)
    with pytest.raises(ValueError, match=r"faces, African: not what it was when it was listed, 1 files differ"):
        train_backbone.train("looked", of, Processes())
    assert not (project / ".facet/checkpoints").exists()


def test_looking_leaves_the_networks_memory_and_mode_as_they_are(project: Path):
    of = config(compute={"channels_last": False}, validation={"every_epochs": 1, "sets": ["lfw"]})
    training = loop.Training(of, open_records("tiny"))
    backbone = training.networks.backbone.train()
    train_backbone.validation(of)(backbone)
    assert backbone.training
    assert all(p.is_contiguous() for p in backbone.parameters())


def test_a_training_computes_as_it_asks_and_validates_as_evaluations_do(project: Path, monkeypatch: pytest.MonkeyPatch):
    def settings() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.are_deterministic_algorithms_enabled()

    seen: dict[str, tuple[bool, bool]] = {}
    advance, measure = loop.Training.advance, hq.measure
    monkeypatch.setattr(loop.Training, "advance", lambda *of: (seen.update(step=settings()), advance(*of))[1])
    monkeypatch.setattr(hq, "measure", lambda *of: (seen.update(look=settings()), measure(*of))[1])
    asked = {"matmul": "tf32", "deterministic": True}
    of = config(epochs=1, compute=asked, validation={"every_epochs": 1, "sets": ["lfw"]})
    train_backbone.train("asked", of, Processes())
    assert seen == {"step": (True, True), "look": (False, True)}
    assert settings() == (False, False)
    train_backbone.train("plain", config(epochs=1), Processes())
    # a CPU has no other kernels
    for part in ("backbone", "head"):
        torch.testing.assert_close(weights("asked", "weights.pt")[part], weights("plain", "weights.pt")[part], rtol=0, atol=0)


@pytest.mark.slow
def test_processes_share_the_images_and_find_what_one_finds_with_the_weights_that_are_written(project: Path):
    of = config(epochs=1, validation={"every_epochs": 1, "sets": ["lfw"], "fusion": "pre_norm_sum"})

    def both(ours: Processes) -> None:
        call, numbers = Embedder.__call__, []

        def counted(self: Embedder, images: Any) -> Any:
            given = list(images)
            numbers.append(len(given))
            return call(self, given)

        decode, decoded = verification_bin.decode, []
        verification_bin.decode = lambda image: (decoded.append(1), decode(image))[1]  # type: ignore[assignment]
        Embedder.__call__ = counted  # type: ignore[method-assign]
        model_files.save_program = lambda path, *_, **__: path.write_bytes(b"")  # as in the fixture
        train_backbone.train("both", of, ours)
        (project / f"numbers-{ours.rank}").write_text(repr([*numbers, len(decoded)]))

    ranks.run(2, both)
    # 40 pairs: each process decodes the images that it embeds, and no others
    assert [(project / f"numbers-{rank}").read_text() for rank in range(2)] == ["[40, 40]", "[40, 40]"]
    found = artifacts.read_json(Path("results/both/train.json"))["validation_lfw"]
    backbone = loop.Training(of, open_records("tiny")).networks.backbone
    backbone.load_state_dict(weights("both", "weights.pt")["backbone"])
    # batch norms differ between the processes: the first one's statistics are validated, and written
    assert train_backbone.validation(of)(backbone)["lfw"] == found


def test_a_share_of_images_gives_the_bits_that_all_of_them_give(project: Path):
    backbone = loop.Training(config(), open_records("tiny")).networks.backbone
    embedder = Embedder(backbone, "BGR", torch.device("cpu"))
    images = [small_sets.face(n, n) for n in range(7)]
    whole = embedder(images)

    def both(ours: Processes) -> None:
        for number in (7, 1):  # one image: the second process has no share
            shared = SharedEmbed(embedder, of_processes())(iter(images[:number]))
            assert np.array_equal(shared.feature_ND, whole.feature_ND[:number])
            assert np.array_equal(shared.flipped_ND, whole.flipped_ND[:number])

    ranks.run(2, both)


def test_processes_agree_on_images_that_cannot_be_read_whosever_they_are(project: Path):
    backbone = loop.Training(config(), open_records("tiny")).networks.backbone
    embedder = Embedder(backbone, "BGR", torch.device("cpu"))
    bad = {2, 3, 5}

    def image(number: int) -> Any:
        return Failure(f"image {number}", "cut short") if number in bad else small_sets.face(number, number)

    wanted = process("set", map(image, range(9)), 9, embedder, max_failed=0.5)

    def both(ours: Processes) -> None:
        shared = SharedEmbed(embedder, of_processes())
        found = shared.process("set", image, 9, max_failed=0.5, label="set")
        assert found.failures == wanted.failures
        assert np.array_equal(found.processed_N, wanted.processed_N)
        assert np.array_equal(found.features.feature_ND, wanted.features.feature_ND)
        assert np.array_equal(found.features.flipped_ND, wanted.features.flipped_ND)
        with pytest.raises(ValueError, match=r"set: 3 of 9 images cannot be processed.* the first is image 2: cut short"):
            shared.process("set", image, 9, max_failed=0.3, label="set")
        # the second process can read none of its share
        odd = lambda number: image(2) if number % 2 else image(0)  # noqa: E731
        assert shared.process("set", odd, 4, max_failed=0.5, label="set").processed_N.tolist() == [True, False] * 2
        with pytest.raises(ValueError, match="2 of 2 images cannot be processed"):
            shared.process("set", lambda number: image(2), 2, max_failed=1.0, label="set")

    ranks.run(2, both)


def test_a_validations_batch_is_what_a_step_has_room_for(project: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []
    made = Embedder.__init__
    monkeypatch.setattr(Embedder, "__init__", lambda self, *of, **named: (seen.append(named["most"]), made(self, *of, **named))[1])
    of = config(compute={"chunks": 2}, validation={"every_epochs": 1, "sets": ["lfw"]})
    train_backbone.validation(of)(loop.Training(of, open_records("tiny")).networks.backbone)
    assert seen == [of.schedule.batch_size // 2]
