from __future__ import annotations

from pipeline.board.grouping import Place, places
from pipeline.execution.graph import Graph, Stage

NEEDS = {
    "resolve": (), "unpack@demo": ("resolve",),
    "train_backbone@a": ("unpack@demo",), "evaluate_hq@a": ("train_backbone@a",), "summary@a": ("evaluate_hq@a",),
    "train_backbone@b": ("unpack@demo",),
    "row@heads-a": ("evaluate_hq@a",), "tabulate@heads": ("row@heads-a",), "tabulate@other": ("row@heads-a",),
    "tabulate@alone": ("evaluate_hq@a",), "report": ("tabulate@heads",),
}  # fmt: skip


def test_all_stages_of_a_run_stand_under_one_table_also_those_that_no_table_needs() -> None:
    graph = Graph({name: Stage(name, name, needed, ("new",)) for name, needed in NEEDS.items()})
    assert places(graph) == {
        "resolve": Place("data"), "unpack@demo": Place("data"),
        "train_backbone@a": Place("heads", "a"), "evaluate_hq@a": Place("heads", "a"), "summary@a": Place("heads", "a"),
        "train_backbone@b": Place("runs", "b"),
        "row@heads-a": Place("results"), "tabulate@heads": Place("heads"), "tabulate@other": Place("other"),
        "tabulate@alone": Place("alone"), "report": Place("results"),
    }  # fmt: skip
