"""Grouping of a graph's stages for people: under which table, and in the line of which training run, a stage stands."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.execution.graph import Graph, Stage

BEFORE, AFTER, NO_TABLE = "data", "results", "runs"
"""Headings of stages that no table alone needs: before the training runs, after them, and of runs in no table."""


@dataclass(frozen=True)
class Place:
    """Where a stage stands."""

    group: str
    run: str = ""
    """The training run that it belongs to; empty for others."""


def places(graph: Graph) -> dict[str, Place]:
    """Return the place of each stage by address; a run stands in the first table that needs one of its stages."""
    found: dict[str, Place] = {}
    needs_run: set[str] = set()
    table_of: dict[str, str] = {}
    for stage in graph.stages.values():
        for table in graph.tables_of(stage)[:1]:
            table_of.setdefault(graph.run_of(stage) or "", table)
    for address, stage in graph.stages.items():
        run = graph.run_of(stage)
        if run is not None or not needs_run.isdisjoint(stage.upstream):
            needs_run.add(address)
        if run is not None:
            found[address] = Place(table_of.get(run, NO_TABLE), run)
        else:
            found[address] = Place(_heading(graph, stage) if address in needs_run else BEFORE)
    return found


def _heading(graph: Graph, stage: Stage) -> str:
    tables = graph.tables_of(stage)
    return tables[0] if len(tables) == 1 else AFTER
