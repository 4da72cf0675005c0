"""Classes of two data sets that agree by name keep their centres; names are those of the folders of people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages import initial as stage
from stages import train_backbone, unpack
from stages.config.training import Config
from stages.models import model_files
from stages.runtime import artifacts, merged, pin
from stages.training import class_names, initial, loop
from stages.training.dataset import open_records
from stages.training.distributed import Processes
from tests.stages import small_sets, small_training
from tests.stages.small_training import config

MULLER = b"m\xfcller".decode("utf-8", "surrogateescape")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    small_training.prepare(tmp_path / "work", monkeypatch, ["FACET_LOADER_WORKERS"])
    monkeypatch.setattr(model_files, "save_program", lambda path, *_, **__: path.write_bytes(b""))
    return tmp_path


def people(work: Path, name: str, identities: Sequence[str]) -> None:
    """Write a folder of people, and unpack it."""
    for identity, person in enumerate(identities):
        for seed in range(4):
            path = work / name / person / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(small_sets.encoded(identity, seed))
    artifacts.write_yaml(Path(f"resolved/datasets/{name}.yaml"), {"unpack": {}, "root": str(work / name)})
    unpack.main(unpack.parser().parse_args([name]))


def of(dataset: str, fields: dict[str, Any] | None = None) -> Config:
    tree = config("arcface", epochs=1).model_dump(mode="json")
    more = {"initial": fields} if fields else {}
    return Config.model_validate({**tree, "dataset": dataset, **more})


def centres(run: str) -> Tensor:
    return model_files.read_weights(artifacts.backbone_folder(run))["head"]["weight"]


def begun(dataset: str) -> tuple[Tensor, str]:
    """Return the centres of a run on a data set that starts from the run `base`, and what it prints."""
    tuned = of(dataset, {"model": "base", "head": "keep"})
    stage.main(stage.parser().parse_args(["tuned", "runs/base/backbone"]))
    records = open_records(dataset)
    start = initial.read("tuned", tuned, records.num_classes)
    assert start is not None
    made = loop.Training(tuned, records, start=start)
    return made.networks.head.weight.detach(), start.note


def test_a_record_file_has_no_names_and_its_run_no_file_of_them(work: Path):
    assert class_names.of_dataset("tiny") is None
    train_backbone.train("plain", config(epochs=1), Processes())
    names = {path.name for path in artifacts.backbone_folder("plain").iterdir()}
    assert names == {"weights.pt", "model.json", "program.pt2", "environment.json"}


def test_classes_of_the_same_name_keep_their_centres_and_others_are_drawn(work: Path):
    people(work, "old", ["ann", "bo", "cy", MULLER])
    train_backbone.train("base", of("old"), Processes())
    people(work, "new", ["aa", "bo", MULLER])
    found_CD, note = begun("new")
    drawn_CD = loop.Training(of("new"), open_records("new")).networks.head.weight.detach()
    assert torch.equal(found_CD[1:], centres("base")[[1, 3]])
    assert torch.equal(found_CD[0], drawn_CD[0])
    assert note == f"starts from base; 2 of 3 classes keep their centres, by name (bo, {MULLER})"


def test_names_that_agree_in_none_are_refused(work: Path):
    people(work, "old", ["ann", "bo"])
    train_backbone.train("base", of("old"), Processes())
    people(work, "new", ["cy", "dee"])
    with pytest.raises(ValueError, match="none of the 2 classes of new has the name of one of the 2 of base: use head: new"):
        begun("new")


def test_without_names_on_one_side_the_number_of_classes_must_be_one(work: Path):
    train_backbone.train("base", config("arcface", epochs=1), Processes())  # tiny: four classes without names
    people(work, "four", ["ann", "bo", "cy", "dee"])
    found_CD, note = begun("four")
    assert torch.equal(found_CD, centres("base"))
    assert note == "starts from base; all 4 classes keep their centres, in their order"
    people(work, "five", ["ann", "bo", "cy", "dee", "eve"])
    with pytest.raises(ValueError, match="base has 4 classes where five has 5; without names, which base lacks"):
        begun("five")


def test_a_merged_set_has_names_where_its_sources_have_and_where_they_are_of_one_person(work: Path):
    people(work, "web", ["ann", "bo", "cy"])
    people(work, "crowd", ["bo", "dee"])
    (work / "same.csv").write_text("web,crowd\ncy,dee\n")
    roots = {name: {"root": str(work / name)} for name in ("web", "crowd")}
    tree = {"datasets": {**roots, "both": {"sources": ["web", "crowd"], "same": str(work / "same.csv")}}}
    pin.pin_all(tree)
    both = merged.described(tree)["both"]
    place = {"root": str(both.root), "sources": {name: str(root) for name, root in both.sources.items()}}
    artifacts.write_yaml(Path("resolved/datasets/both.yaml"), {"unpack": {}, **place, "same": str(both.same)})
    unpack.main(unpack.parser().parse_args(["both"]))
    # two people are called bo; cy is dee, and has the name that comes first
    assert class_names.of_dataset("both") == ["ann", "", "cy", ""]
