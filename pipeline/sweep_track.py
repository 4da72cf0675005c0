"""Records a sweep in MLflow: an experiment of its variants, mean and spread, and one of its trainings.

The project's own records, and which of them are current, are `track`'s alone; neither touches the other's.

Run in the project as `python -m pipeline.sweep_track WORKSPACE`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import columns, lineage, store
from pipeline.lineage import Entry
from pipeline.wanted import SWEEPS, Experiment, Look, Record, Wanted, sweep_key

NOTE = "A sweep: mean of each variant over its seeds; `.std` is the standard deviation of single trainings."
SEEDS_NOTE = "Every training of a sweep, with its curve."


def collect(workspace: Path) -> Wanted:
    """Return what MLflow should hold of a finished sweep.

    Raises:
        FileNotFoundError: the sweep's table is not made yet.
    """
    path = workspace / "results/spread/table.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    columns.check(tree)
    sweep, common = workspace.name, _common(workspace)
    variants = tuple(_variant(sweep, position, one, tree, common) for position, one in enumerate(tree["variants"]))
    trainings = tuple(
        _training(workspace, sweep, one, run, tree, common) for one in tree["variants"] for run in one["runs"]
    )
    spreads = [(kind, f"{name}{end}") for kind, name in _shown(tree) for end in ("", ".std")]
    params = [("params", axis) for axis in tree["axes"]]
    names = tuple(name for _, name in _shown(tree))
    experiments = (
        Experiment(
            sweep_key(sweep), f"sweep {tree['title']}", NOTE, variants, Look((*params, *spreads), names),
            seeds=sweep_key(f"{sweep}.seeds"),
        ),
        Experiment(
            sweep_key(f"{sweep}.seeds"), f"sweep {tree['title']}: every training", SEEDS_NOTE, trainings,
            Look((*params, ("params", "seed"), *_shown(tree))),
        ),
    )  # fmt: skip
    return Wanted(experiments, {}, frozenset(), whole=False)


def _shown(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("metrics", columns.metric_name(column["name"])) for column in tree["columns"]]


def _common(workspace: Path) -> dict[str, str]:
    return {f"facet.git_{name}": value for name, value in lineage.git_state(workspace).items()}


def _variant(
    sweep: str, position: int, one: Mapping[str, Any], tree: Mapping[str, Any], common: Mapping[str, str]
) -> Record:
    metrics = {}
    for name, cell in one["cells"].items():
        for key, end in (("mean", ""), ("std", ".std"), ("low", ".min"), ("high", ".max")):
            if cell.get(key) is not None:
                metrics[columns.metric_name(name) + end] = float(cell[key])
    label = str(one["label"])
    return Record(
        kind="variant",
        fingerprint=lineage.fingerprint(Entry(label, "sweep"), sweep, one, tree["columns"]),
        name=label,
        where=f"sweep/{label}",
        tags={**common, "facet.sweep": sweep, "facet.position": f"{position:03d}"},
        metrics=metrics,
        params={axis: str(one["settings"][axis]) for axis in tree["axes"] if axis in one["settings"]}
        | {"seeds": str(len(one["runs"]))},
    )


def _training(
    workspace: Path, sweep: str, one: Mapping[str, Any], run: str, tree: Mapping[str, Any], common: Mapping[str, str]
) -> Record:
    values = {
        columns.metric_name(name): float(cell["values"][run])
        for name, cell in one["cells"].items()
        if cell["values"][run] is not None
    }
    curve = workspace / "results" / run / "train.csv"
    settings = {axis: str(one["settings"][axis]) for axis in tree["axes"] if axis in one["settings"]}
    seed = one["runs"][run]
    return Record(
        kind="seed",
        fingerprint=lineage.fingerprint(Entry(run, "sweep"), sweep, values, tree["columns"]),
        name=run,
        where=f"sweep/{run}",
        tags={**common, "facet.sweep": sweep, "facet.run": run, "facet.variant": str(one["label"])},
        metrics=values,
        params=settings | ({} if seed is None else {"seed": str(seed)}),
        curve=curve if curve.is_file() else None,
    )


def track(root: Path, workspace: Path) -> list[str]:
    """Record a finished sweep; return what is new."""
    tracking_uri = store.uri(root)
    with store.alone(root):
        wanted = collect(workspace)  # inside: results may change while another process holds the store
        found = store.recorded(tracking_uri, lambda key: key.startswith(SWEEPS)) or {}
        if all(
            [(run.status, run.current) for run in found.get(record.fingerprint, [])] == [("FINISHED", True)]
            for record in wanted.records
        ):
            return []
        store.prepare(tracking_uri)
        from pipeline.mlflow_runs import Writer  # imports MLflow

        return Writer(tracking_uri).write(wanted, lambda line: None)


def main() -> int:
    """Record, say where, and return the exit code."""
    workspace = Path(sys.argv[1])
    try:
        made = track(Path(), workspace)
    # MLflow raises what its server, its database and its client raise: all of it means the same here
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        sys.stderr.write(f"error: results are whole, but MLflow did not take them: {lines[0]}; run the sweep again\n")
        return 1
    sys.stdout.write(f"MLflow: {len(made)} recorded\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
