"""Validation on sets of any suite, by epochs or steps: evaluation's numbers, in the points of a running training."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages import evaluate, train_backbone
from stages.config import evaluation
from stages.config.training import Config
from stages.config.validation import Validation
from stages.core.losses.class_parallel import of_processes
from stages.embedding.embedder import Embedder
from stages.models import model_files
from stages.packing import pictures, plan, write
from stages.runtime import artifacts, program, set_pins
from stages.training import loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import ranks, small_sets, training_data
from tests.stages.small_training import config, same

SUITES = {
    "ijb": {"sets": ["IJBB"], "protocols": ["1:1", "1:N"]},
    "lq": {"sets": ["tinyface", "scface"], "fusion": "none"},
    "fiqa": {"sets": ["lfw"], "fmr": [0.1]},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training set, and a set of every suite beside it: IJB-B and TinyFace packed."""
    training_data.write(tmp_path)
    folder, loose = tmp_path / "data/tiny/eval", tmp_path / "loose"
    small_sets.write_bin(folder / "lfw.bin")
    small_sets.write_scface(folder / "scface")
    small_sets.write_search(small_sets.write_ijb(loose / "ijb"))
    small_sets.write_tinyface(loose / "tinyface")
    (folder / "ijb").mkdir()
    for name in ("ijb/IJBB", "tinyface"):
        write.write(loose / name, folder / name, plan.of(loose / name), pictures.as_it_is)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path / ".facet")
    monkeypatch.setattr(model_files, "save_program", lambda path, *_, **__: path.write_bytes(b""))
    monkeypatch.setenv("FACET_LOG_FILE", str(tmp_path / "log.jsonl"))
    return tmp_path


def points() -> list[dict[str, Any]]:
    """Return the measurements of the log that MLflow is filled from while a training runs: those of validations."""
    lines = Path("log.jsonl").read_text().splitlines()
    return [point for point in map(json.loads, lines) if any(name.startswith("validation_") for name in point)]


def evaluated(run: str, suite: str, **switches: Any) -> dict[str, float]:
    """Return what `evaluate` measures of the weights that were written."""
    chosen = evaluation.SUITES[suite].model_validate({**SUITES.get(suite, {}), **switches})
    embedder = Embedder.load(artifacts.backbone_folder(run), torch.device("cpu"), flip=evaluation.uses_flip(chosen))
    return evaluate.measure(suite, Path("data/tiny/eval"), chosen, embedder, {}).metrics


def test_sets_of_every_suite_give_the_numbers_that_evaluate_gives_and_stand_in_the_points(project: Path):
    of = config(epochs=1, validation={"every_epochs": 1, "sets": ["lfw"], "suites": SUITES})
    train_backbone.train("all", of, Processes())
    wanted = {"lfw": evaluated("all", "hq", sets=["lfw"], fusion="none")["lfw"]}
    wanted["avg"] = wanted["lfw"]
    for suite in SUITES:
        wanted |= {f"{suite}.{name}": value for name, value in evaluated("all", suite).items()}
    assert {"ijb.ijbb_tar_at_far_1e-02", "ijb.ijbb_rank1", "lq.tinyface_rank1", "lq.scface_d1"} <= wanted.keys()
    (point,) = points()
    found = {name.removeprefix("validation_"): value for name, value in point.items() if name.startswith("validation_")}
    assert (found, point["step"]) == (wanted, 4)
    metrics = artifacts.read_json(Path("results/all/train.json"))
    assert {name: metrics[f"validation_{name}"] for name in wanted} == wanted
    header, line = Path("results/all/train.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["validation_lq.scface_d1"] == str(wanted["lq.scface_d1"])


def counted(values: Iterator[float]) -> loop.Validate:
    def validate(backbone: nn.Module) -> dict[str, float]:
        value = next(values)
        return {"lq.tinyface_rank1": value, "ijb.ijbb_rank1": 1 - value, "lq.scface_d1": 0.5}

    return validate


BY_STEPS = {"every_steps": 3, "suites": {"lq": {"sets": ["tinyface", "scface"]}}, "best_by": ["lq.tinyface_rank1", "lq.scface_d1"]}
VALUES = (0.2, 0.6, 0.1, 0.3)


def trained(of: Config, key: str) -> loop.Training:
    training = loop.Training(of, open_records("tiny"), validate=counted(iter(VALUES)))
    training.run(Checkpoints(key, kept=1), "train")
    return training


def test_every_so_many_steps_and_after_the_last_it_is_looked_and_the_best_columns_are_kept(project: Path):
    training = trained(config(epochs=3, validation={**BY_STEPS, "keep": "best"}), "steps")
    assert [(point["step"], point["validation_lq.tinyface_rank1"]) for point in points()] == list(zip((3, 6, 9, 12), VALUES, strict=True))
    # of 12 steps, 4 an epoch; the mean of the two columns decides
    assert (training.best["step"], training.best["epoch"], training.best["validation_best_by"]) == (6, 2, 0.55)
    assert Checkpoints("steps").steps() == [6, 12]
    # the curve has the last look of each epoch
    assert [row["validation_lq.tinyface_rank1"] for row in training.history] == [0.2, 0.6, 0.3]
    assert same(training, trained_plain())


def trained_plain() -> loop.Training:
    plain = loop.Training(config(epochs=3), open_records("tiny"))
    plain.run(Checkpoints("plain"), "train")
    return plain


def test_the_weights_of_the_best_step_are_the_ones_that_are_evaluated(project: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[Tensor] = []
    values = iter(VALUES)

    def validate(backbone: nn.Module) -> dict[str, float]:
        seen.append(backbone.state_dict()["input_layer.0.weight"].clone())
        return {"lq.tinyface_rank1": next(values), "lq.scface_d1": 0.5}

    monkeypatch.setattr(train_backbone, "validation", lambda _: validate)
    train_backbone.train("best", config(epochs=3, validation={**BY_STEPS, "keep": "best"}), Processes())
    assert torch.equal(model_files.read_weights(Path("runs/best/backbone"))["backbone"]["input_layer.0.weight"], seen[1])
    metrics = artifacts.read_json(Path("results/best/train.json"))
    assert (metrics["weights_are"], metrics["best_step"], metrics["best_validation_best_by"]) == ("best", 6, 0.55)


@pytest.mark.parametrize("stop", [6, 7, 10])
def test_a_training_stopped_between_looks_remembers_them(stop: int, project: Path, monkeypatch: pytest.MonkeyPatch):
    of = config(epochs=3, validation={**BY_STEPS, "keep": "best"})
    wanted = trained(of, "whole")
    halted = loop.Training(of, open_records("tiny"), validate=counted(iter(VALUES)))
    advance = halted.advance

    def terminated(*batch: Tensor) -> Any:
        if halted.step == stop:
            signal.raise_signal(signal.SIGTERM)
        return advance(*batch)

    monkeypatch.setattr(halted, "advance", terminated)
    with pytest.raises(program.Terminated):
        halted.run(Checkpoints("halted", kept=1), "train")
    resumed = loop.Training(of, open_records("tiny"), validate=counted(iter(VALUES[(stop + 1) // 3 :])))
    resumed.run(Checkpoints("halted", kept=1), "train")
    assert (resumed.history, resumed.best) == (wanted.history, wanted.best)
    assert same(resumed, wanted)


def test_lower_is_better_where_a_column_says_so():
    of = Validation.model_validate({"every_epochs": 1, "suites": SUITES, "best_by": ["-fiqa.lfw_feature_norm_edc_auc_fmr1e-01"]})
    name = "fiqa.lfw_feature_norm_edc_auc_fmr1e-01"
    assert (of.score({name: 0.25}), of.sets) == (-0.25, ())
    with pytest.raises(ValueError, match=r"best_by -fiqa\S+: there is no such number; there are avg"):
        of.score({"avg": 1.0})
    assert Validation.model_validate({"every_epochs": 1}).score({"avg": 0.5}) == 0.5
    assert Validation.model_validate({"every_epochs": 1, "suites": SUITES}).score({"ijb.ijbb_rank1": 1.0}) is None


def test_a_run_that_validates_as_before_has_the_parameters_of_before():
    assert set(Validation.model_validate({}).model_dump(mode="json")) == {"every_epochs", "sets", "fusion", "keep"}
    tree = Validation.model_validate({"every_steps": 5, "suites": {"ijb": {"sets": ["IJBC"]}}}).model_dump(mode="json")
    assert (tree["every_steps"], tree["sets"], tree["suites"]["ijb"]["sets"]) == (5, [], ["IJBC"])
    assert Validation.model_validate(tree).suites.ijb.sets == ("IJBC",)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"keep": "best", "every_steps": 5, "suites": SUITES}, "`keep: best` without `sets` of hq needs `best_by`"),
        ({"every_steps": 5, "sets": []}, "a validation needs a set"),
        ({"every_steps": 5, "suites": SUITES, "best_by": ["tinyface_rank1"]}, "best_by tinyface_rank1: wanted SUITE.METRIC of a set"),
        ({"every_steps": 5, "suites": SUITES, "best_by": ["hq.lfw"]}, "best_by hq.lfw: .* validated are ijb: IJBB; lq: tinyface, scf"),
        ({"every_steps": 5, "suites": SUITES, "best_by": ["lq.ijbs_x"]}, "best_by lq.ijbs_x: wanted"),
        ({"every_epochs": 1, "suites": {"fiqa": {"sets": ["lfw"], "methods": ["sharpness"]}}}, "fiqa has the feature norm alone"),
        ({"every_epochs": 1, "suites": {"ijb": {"sets": ["IJBX"]}}}, "suites.ijb.sets.0"),
    ],
)
def test_what_cannot_be_validated_is_refused_when_parameters_are_read(section: dict[str, Any], problem: str):
    with pytest.raises(ValueError, match=problem):
        Validation.model_validate(section)


def test_a_training_depends_on_the_sets_of_all_suites_that_it_is_validated_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    small_sets.write_bin(tmp_path / "mine/lfw.bin")
    small_sets.write_scface(tmp_path / "mine/scface")

    def pinned(**validation: Any) -> dict[str, str | None]:
        section = Validation.model_validate(validation).model_dump(mode="json")
        set_pins.write_all({"mine": tmp_path / "mine"}, {"r": {"train": {"dataset": "other", "validation": section}}})
        return set_pins.recorded("r", set_pins.VALIDATION)

    suites = {"lq": {"sets": ["scface"]}, "fiqa": {"sets": ["lfw"]}}
    found = pinned(every_steps=5, suites=suites, dataset="mine")
    assert set(found) == {"scface", "lfw", "truth"}
    assert found["scface"] is not None
    assert found["lfw"] is not None
    assert pinned(suites=suites, dataset="mine") == {}
    assert pinned(every_steps=5, suites=suites) == {}  # of the data set that is trained on, which is no folder


@pytest.mark.slow
def test_processes_share_the_images_of_every_suite_and_find_what_one_finds(project: Path):
    of = config(epochs=1, validation={"every_epochs": 1, "sets": ["lfw"], "suites": SUITES})

    def both(ours: Processes) -> None:
        model_files.save_program = lambda path, *_, **__: path.write_bytes(b"")  # as in the fixture
        call, numbers = Embedder.__call__, []

        def counting(self: Embedder, images: Any) -> Any:
            given = list(images)
            numbers.append(len(given))
            return call(self, given)

        Embedder.__call__ = counting  # type: ignore[method-assign]
        train_backbone.train("both", of, ours)
        (project / f"numbers-{ours.rank}").write_text(str(sum(numbers)))
        assert of_processes().world_size == 2

    ranks.run(2, both)
    shares = [int((project / f"numbers-{rank}").read_text()) for rank in range(2)]
    # half of the images each; who has not the first one of a set embeds it too
    assert abs(shares[0] - shares[1]) <= 10 < min(shares)
    found = artifacts.read_json(Path("results/both/train.json"))
    for suite in SUITES:
        for name, value in evaluated("both", suite).items():
            assert found[f"validation_{suite}.{name}"] == value
