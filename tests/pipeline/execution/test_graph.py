from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.execution.fork_server import Forker
from pipeline.execution.graph import Graph, Stage
from tests.pipeline.dummy import Dummy
from tests.support import ROOT


def read(root: Path) -> Graph:
    with Forker(root) as forker:
        graph = forker.start("read_graph", {}).wait()
    assert isinstance(graph, Graph)
    return graph


def hand_made() -> Graph:
    stages = [
        Stage("resolve", "resolve", (), ()),
        Stage(
            "graph/train_backbone/dvc.yaml:train_backbone@a",
            "train_backbone@a",
            ("resolve",),
            ("x modified",),
        ),
        Stage("graph/train_backbone/dvc.yaml:train_backbone@b", "train_backbone@b", ("resolve",), ()),
        Stage("row@t-a", "row@t-a", ("graph/train_backbone/dvc.yaml:train_backbone@a",), ()),
        Stage("tabulate@t", "tabulate@t", ("row@t-a",), ()),
        Stage("tabulate@u", "tabulate@u", ("graph/train_backbone/dvc.yaml:train_backbone@b",), ()),
        Stage("track", "track", ("tabulate@t", "tabulate@u"), (), always=True),
    ]
    return Graph({stage.address: stage for stage in stages})


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("train_backbone@a", "train_backbone@a"),
        ("graph/train_backbone/dvc.yaml:train_backbone@a", "train_backbone@a"),
        ("train_backbone", "train_backbone@b"),
        ("tabulate@t", "tabulate@t"),
        ("t", "tabulate@t"),
    ],
)
def test_a_target_is_a_name_an_address_a_kind_or_a_table(target: str, last: str) -> None:
    chosen = names(hand_made().select([target]))
    assert chosen[0] == "resolve"
    assert chosen[-1] == last


def test_a_kind_means_all_of_its_stages() -> None:
    assert names(hand_made().select(["train_backbone"])) == [
        "resolve",
        "train_backbone@a",
        "train_backbone@b",
    ]


def test_no_target_means_everything() -> None:
    assert len(hand_made().select([])) == 7


def test_an_unknown_target_is_answered_with_similar_names() -> None:
    with pytest.raises(LookupError, match=r"no stage, table or run 'train_bakbone@a'.*train_backbone@a"):
        hand_made().select(["train_bakbone@a"])


def test_what_is_behind_a_stale_stage_is_stale_and_says_so() -> None:
    stale = hand_made().stale()
    assert stale["row@t-a"] == ("needs train_backbone@a",)
    assert stale["tabulate@t"] == ("needs row@t-a",)
    assert "tabulate@u" not in stale


def test_a_stage_that_always_runs_is_stale_only_behind_another() -> None:
    graph = hand_made()
    assert graph.stale()["track"] == ("needs tabulate@t",)
    fresh = Graph(
        {a: Stage(s.address, s.name, s.upstream, (), always=s.always) for a, s in graph.stages.items()}
    )
    assert fresh.stale() == {}


def test_staleness_of_a_part_counts_what_lies_outside() -> None:
    graph = hand_made()
    assert list(graph.stale([graph.stages["tabulate@t"]])) == ["tabulate@t"]


def test_tables_and_runs_of_a_stage() -> None:
    graph = hand_made()
    train = graph.stages["graph/train_backbone/dvc.yaml:train_backbone@a"]
    assert (graph.tables, graph.runs) == (["t", "u"], ["a", "b"])
    assert graph.tables_of(train) == ["t"]
    assert graph.tables_of(graph.stages["resolve"]) == ["t", "u"]
    assert graph.run_of(train) == "a"
    assert graph.run_of(graph.stages["tabulate@t"]) is None


def test_dvc_is_read_with_addresses_edges_and_reasons(make_dummy: Callable[..., Dummy]) -> None:
    graph = read(make_dummy(runs=2).path)
    train = graph.stages["graph/train_backbone/dvc.yaml:train_backbone@r1"]
    assert train.name == "train_backbone@r1"
    assert (train.kind, train.key) == ("train_backbone", "r1")
    assert train.upstream == ("resolve", "unpack")
    assert "data/unpacked.txt deleted" in train.reasons
    assert train.needs_device
    assert not graph.stages["unpack"].needs_device
    assert len(graph.stages) == len(graph.stale()) == 7
    position = {address: i for i, address in enumerate(graph.stages)}
    assert all(position[above] < position[a] for a, stage in graph.stages.items() for above in stage.upstream)


def test_a_file_and_a_parameter_that_changed_are_reasons_of_whom_they_concern(
    make_dummy: Callable[..., Dummy],
) -> None:
    project = make_dummy(3)
    project.run("dvc", "repro")
    (project.path / "data/unpacked.txt").write_text("other")
    (project.path / "resolved/runs/r1.yaml").write_text("train: {margin: 9}\n")
    stale = read(project.path).stale()
    trainings = {address.partition(":")[2]: why for address, why in stale.items() if "train_backbone" in address}
    assert all("data/unpacked.txt modified" in why for why in trainings.values())
    assert [name for name, why in trainings.items() if any("r1.yaml:train" in each for each in why)] == ["train_backbone@r1"]
    assert len(trainings) == 3


def test_an_edit_of_params_makes_only_resolve_stale_by_itself(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=2)
    project.run("dvc", "repro", "--all-pipelines", "-q")
    assert read(project.path).stale() == {}
    project.edit("r1", margin=0.7)
    changed = {name for name, stage in read(project.path).stages.items() if stage.reasons}
    assert changed == {"resolve"}
    project.run("dvc", "repro", "-q", "--single-item", "resolve")
    graph = read(project.path)
    train = "graph/train_backbone/dvc.yaml:train_backbone@r1"
    assert {name for name, stage in graph.stages.items() if stage.reasons} == {train}
    assert graph.stages[train].reasons == ("resolved/runs/r1.yaml:train modified",)
    evaluate = "graph/evaluate_hq/dvc.yaml:evaluate_hq@r1"
    assert set(graph.stale()) == {train, evaluate, "tabulate@heads"}


def test_a_changed_command_is_a_reason(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=1)
    project.run("dvc", "repro", "--all-pipelines", "-q")
    path = project.path / "dvc.yaml"
    path.write_text(path.read_text().replace("work.py unpack -", "./work.py unpack -"))
    assert read(project.path).stages["unpack"].reasons == ("changed command",)


def test_a_stage_at_work_is_seen_as_running(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=1, seconds={"unpack": 30})
    process = project.start_program("dvc", "repro", "--single-item", "unpack")
    try:
        project.wait_for("unpack")
        graph = read(project.path)
    finally:
        project.stop(process)
    assert [stage.name for stage in graph.stages.values() if stage.running] == ["unpack"]
    assert graph.stale()["unpack"] == ("is running now",)


def test_a_broken_graph_is_one_sentence(make_dummy: Callable[..., Dummy]) -> None:
    project = make_dummy(runs=1)
    (project.path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(ValueError, match=r"unable to read: 'dvc.yaml'.*while parsing") as caught:
        read(project.path)
    assert "\n" not in str(caught.value)


def test_our_own_graph_can_be_read() -> None:
    graph = read(ROOT)
    assert graph.tables
    assert {"resolve", "train_backbone"} <= {stage.kind for stage in graph.stages.values()}
    for table in graph.tables:
        kinds = {stage.kind for stage in graph.select([table])}
        assert {"resolve", "unpack", "train_backbone", "row", "tabulate"} <= kinds
