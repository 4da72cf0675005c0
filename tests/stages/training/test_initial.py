"""Training that starts from weights: what goes on, what is new, what stays as it is, and what does not fit."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages import initial as stage
from stages import train_backbone
from stages.config.training import Config
from stages.models import model_files
from stages.runtime import artifacts, devices, initial_folders, program
from stages.training import initial, loop
from stages.training.checkpoints import Checkpoints
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from stages.training.initial import Start
from tests.stages import ranks, small_training, training_data
from tests.stages.small_training import config, same, weights

KEPT = {"model": "base", "head": "keep"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training set, and the run `base` that was trained on it."""
    devices.prepare(1)
    small_training.prepare(tmp_path, monkeypatch, ["FACET_LOADER_WORKERS"])
    # what a program is exported to is tested elsewhere, and takes seconds
    monkeypatch.setattr(model_files, "save_program", lambda path, *_, **__: path.write_bytes(b""))
    train_backbone.train("base", config(epochs=1), Processes())
    return tmp_path


def tuned(fields: dict[str, Any] | None = None, seed: int = 9, **more: Any) -> Config:
    """Return a run that starts from `base`, with another seed."""
    tree = config(**more).model_dump(mode="json")
    return Config.model_validate({**tree, "seed": seed, "initial": {"model": "base", **(fields or {})}})


def begun(of: Config, folder: str = "runs/base/backbone", run: str = "tuned") -> Start:
    """Return the weights of a run after the stage that copies them."""
    stage.main(stage.parser().parse_args([run, folder]))
    start = initial.read(run, of, open_records(of.dataset).num_classes)
    assert start is not None
    return start


def training(of: Config, ours: Processes | None = None) -> loop.Training:
    return loop.Training(of, open_records(of.dataset), ours, start=begun(of))


def trained(of: Config, key: str) -> loop.Training:
    made = training(of)
    made.run(Checkpoints(key), "train")
    return made


def base() -> dict[str, Tensor]:
    tree = model_files.read_weights(Path("runs/base/backbone"))
    return {**tree["backbone"], **{f"head.{name}": value for name, value in tree["head"].items()}}


def unlike(made: loop.Training, wanted: dict[str, Tensor]) -> set[str]:
    return {name for name, value in weights(made).items() if not torch.equal(value, wanted[name])}


def test_the_backbone_goes_on_and_a_new_head_is_drawn_from_the_seed(project: Path):
    drawn = weights(loop.Training(config().model_copy(update={"seed": 9}), open_records("tiny")))
    made = training(tuned())
    assert unlike(made, base()) == {"head.weight", "head.batch_mean", "head.batch_std"}
    assert all(torch.equal(weights(made)[name], drawn[name]) for name in drawn if name.startswith("head."))


def test_a_kept_head_goes_on_with_its_centres_and_statistics(project: Path):
    assert unlike(training(tuned(KEPT)), base()) == set()
    # statistics are of one head and one measure of quality
    other = tuned(KEPT).model_copy(update={"head": {"name": "adaface", "margin": 0.4, "h": 0.3, "proxy": "p_true_class"}})
    assert unlike(training(other), base()) == {"head.batch_mean", "head.batch_std"}
    assert unlike(training(tuned(KEPT, head="arcface")), base()) == set()  # it has none


def test_a_frozen_part_and_the_statistics_of_its_batch_norms_stay_to_the_bit(project: Path):
    made = trained(tuned({"frozen": ["backbone.input_layer", "backbone.body.0"]}, epochs=2), "frozen")
    frozen = {name for name in base() if name.startswith(("input_layer.", "body.0."))}
    assert any("running_mean" in name for name in frozen)
    assert unlike(made, base()) == set(base()) - frozen
    # and they normalise by these statistics, as they will when the model is used
    part = made.networks.backbone.get_submodule("body.0")
    image_BCHW = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not part.training
    first, second = part(image_BCHW), part(image_BCHW[:2])
    torch.testing.assert_close(first[:2], second, rtol=1e-6, atol=1e-6)


def test_with_the_backbone_frozen_the_head_alone_learns_on_features_without_dropout(project: Path):
    made = trained(tuned({"frozen": ["backbone"]}, dropout=0.5, epochs=4), "head")
    assert unlike(made, base()) == {"head.weight", "head.batch_mean", "head.batch_std"}
    assert made.history[-1]["loss"] < made.history[0]["loss"]
    made.stepper.advance(0, *batch())
    assert not any(module.training for module in made.networks.backbone.modules())


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image_VBHW3 = torch.randint(0, 256, (1, 8, 112, 112, 3), generator=generator, dtype=torch.uint8)
    return image_VBHW3, torch.arange(8) % training_data.IDENTITIES


def test_frozen_centres_stay_while_the_backbone_learns(project: Path):
    made = trained(tuned({**KEPT, "frozen": ["head"]}, epochs=1), "centres")
    changed = unlike(made, base())
    assert "head.weight" not in changed
    assert "body.0.res_layer.1.weight" in changed


def test_the_backbone_has_a_learning_rate_of_its_own(project: Path):
    plain = {"momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.04}
    moved: dict[str, dict[str, Tensor]] = {}
    for name, fields in (("one", KEPT), ("two", {**KEPT, "backbone_learning_rate": 0.01})):
        made = training(tuned(fields, dropout=0.0, **plain))
        made.stepper.advance(0, *batch())
        moved[name] = {key: value - base()[key] for key, value in weights(made).items() if "running" not in key}
        assert made.stepper.optimiser.param_groups[0]["lr"] == 0.04  # the one that is reported is the schedule's
    torch.testing.assert_close(moved["two"]["head.weight"], moved["one"]["head.weight"], rtol=0, atol=0)
    # a quarter of it, up to the rounding of a weight that is near 1
    kernel = "body.0.res_layer.1.weight"
    torch.testing.assert_close(moved["two"][kernel], moved["one"][kernel] / 4, rtol=1e-3, atol=2e-7)


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint_and_not_from_the_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    of = tuned({**KEPT, "frozen": ["backbone.input_layer"], "backbone_learning_rate": 0.01})
    wanted = trained(of, "whole")
    halted = training(of)
    advance = halted.advance

    def terminated(*given: Tensor) -> Any:
        if halted.step == 5:
            signal.raise_signal(signal.SIGTERM)
        return advance(*given)

    monkeypatch.setattr(halted, "advance", terminated)
    with pytest.raises(program.Terminated):
        halted.run(Checkpoints("halted"), "train")
    # whatever the weights are by now
    start = begun(of)
    zeros = {part: {key: torch.zeros_like(value) for key, value in state.items()} for part, state in start.state.items()}
    resumed = loop.Training(of, open_records("tiny"), start=replace(start, state=zeros))
    resumed.run(Checkpoints("halted"), "train")
    assert same(wanted, resumed)
    assert resumed.history == wanted.history
    assert unlike(wanted, base()) >= {"body.0.res_layer.1.weight"}


def test_checkpoints_are_of_the_weights_that_a_training_started_from(project: Path):
    of, records = tuned(KEPT), open_records("tiny")
    start = begun(of)
    keys = {train_backbone.open_checkpoints(of, records, Processes(), one).folder.name
            for one in (start, replace(start, sha256="0" * 64))}  # fmt: skip
    assert len(keys) == 2


def test_the_results_tell_the_weights_and_how_many_centres_went_on(project: Path):
    begun(tuned(KEPT, epochs=1))
    train_backbone.train("tuned", tuned(KEPT, epochs=1), Processes())
    found = artifacts.read_json(Path("results/tuned/train.json"))
    assert found["initial_weights_sha256"] == artifacts.sha256(Path("runs/base/backbone/weights.pt"))
    assert found["initial_classes_kept"] == training_data.IDENTITIES
    assert "initial_weights_sha256" not in artifacts.read_json(Path("results/base/train.json"))


def test_a_network_that_does_not_fit_is_refused_with_its_keys_and_with_what_would(project: Path):
    of = tuned()
    other = of.model_copy(update={"backbone": {**of.backbone, "units": [2, 1, 1, 1], "widths": [4, 4, 8, 12]}})
    with pytest.raises(ValueError, match=r"initial.model base: its weights are not those") as raised:
        training(other)
    message = str(raised.value)
    assert "missing: body.3.shortcut_layer.0.weight, " in message
    assert "output_layer.0.weight (8,) instead of (12,)" in message
    assert "The run needs backbone: {name: iresnet, units: [1, 1, 1, 1], widths: [4, 4, 8, 8]" in message
    kind = of.model_copy(update={"backbone": {**of.backbone, "style": "insightface"}})
    with pytest.raises(ValueError, match=r"base is another network than the run's\. The run needs backbone: \{name"):
        training(kind)


@pytest.mark.parametrize(
    ("fields", "change", "words"),
    [
        ({}, {"color_order": "RGB"}, r"base takes BGR in -1 to 1, and this run would show it RGB .* set color_order: BGR"),
        ({}, {"value_range": (0, 1)}, r"would show it BGR in 0 to 1: set .* value_range: \[-1, 1\]"),
        ({"frozen": ["backbone.body.7"]}, {}, r"no part 'backbone.body.7': within backbone.body there is backbone.body.0, "),
        ({"frozen": ["backbone.layer1"]}, {}, r"within backbone there is backbone.input_layer, backbone.output_layer, "),
        ({"frozen": ["backbone", "head"]}, {}, "backbone, head is all there is, nothing is left to train"),
    ],
)
def test_what_does_not_fit_is_one_sentence(fields: dict[str, Any], change: dict[str, Any], words: str, project: Path):
    with pytest.raises(ValueError, match=words):
        training(tuned(fields).model_copy(update=change))


def test_centres_that_are_not_there_or_are_of_others_are_refused(project: Path):
    training_data.write_manifest(project, "tiny", keys=[1, 2, 9, 10], labels=[0, 0, 1, 1], num_classes=2)
    with pytest.raises(ValueError, match=r"base has 4 classes where tiny has 2; without names, which tiny lacks, they must"):
        training(tuned(KEPT))
    tree = model_files.read_weights(Path("runs/base/backbone"))
    torch.save({**tree, "head": {}}, "runs/base/backbone/weights.pt")
    about = artifacts.read_json(Path("runs/base/backbone/model.json"))
    about["weights_sha256"] = artifacts.sha256(Path("runs/base/backbone/weights.pt"))
    artifacts.write_json(Path("runs/base/backbone/model.json"), about)
    with pytest.raises(ValueError, match="head: keep, and base has no class centres: import it with its head"):
        training(tuned(KEPT))


def test_weights_that_are_not_there_or_were_changed_are_refused(project: Path):
    with pytest.raises(FileNotFoundError, match=r"initial/tuned/initial.json is missing: the stage initial@tuned writes it"):
        initial.read("tuned", tuned(), 4)
    begun(tuned())
    (artifacts.initial_folder("tuned") / initial_folders.WEIGHTS).write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights.pt is not what the stage initial@tuned wrote: run `dvc repro` again"):
        initial.read("tuned", tuned(), 4)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [["backbone.input_layer"], ["backbone"]])
def test_two_processes_start_where_one_does_and_end_where_it_ends(frozen: list[str], project: Path):
    of = tuned(
        {**KEPT, "frozen": frozen, "backbone_learning_rate": 0.01}, dropout=0.0, epochs=1,
        compute={"precision": "fp64", "sync_batch_norm": True},
    )  # fmt: skip
    alone = training(of)
    alone.run(Checkpoints("alone"), "train")

    def both(ours: Processes) -> None:
        start = initial.read("tuned", of, training_data.IDENTITIES)
        loop.Training(of, open_records("tiny"), ours, start=start).run(Checkpoints("both", processes=ours), "train")

    ranks.run(2, both)
    assert small_training.distance(small_training.last("alone"), small_training.last("both")) < 1e-9
