"""Collects what MLflow should hold, from files: an experiment per table, one of training runs, one of reports."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.workspace import Workspace
from pipeline.tracking import collect_tables, lineage, live_files, metric_columns
from pipeline.tracking.desired import (
    REPORTS,
    TRAINING_KEY,
    TRAININGS,
    Experiment,
    Look,
    Record,
    Scope,
    Wanted,
    scope_of,
)
from pipeline.tracking.lineage import Entry
from pipeline.tracking.locked_results import Finished, flatten, read_json, read_yaml
from stages.runtime import measurements

NOTES = {
    TRAININGS: "Every training run, with its curves and its model. The tag `facet.run` of a table row names its run.",
    REPORTS: (
        "The report of every table: open `table.html` under Artifacts. `tau` is Kendall's tau between the published "
        "and the measured order of rows: +1 is the same order, 0 none, -1 the reverse."
    ),
}
SHOWN_PARAMS = 12
"""Maximum number of parameters shown in the list of training runs; only those that differ between runs."""


def collect(root: Path, workspace: Workspace | None = None) -> Wanted:
    """Return the finished results: what DVC locked and the workspace still holds unchanged.

    Args:
        root: of the project.
        workspace: beside it, to collect its tables in place of the project's.

    Raises:
        ValueError: MLflow could not tell the columns of a table apart.
    """
    scope = Scope() if workspace is None else scope_of(workspace)
    project = Finished(workspace.folder if workspace else root, scope, root)
    folder = project.root / "resolved"
    tables = {path.stem: read_yaml(path) for path in sorted((folder / "tables").glob("*.yaml"))}
    runs = [path.stem for path in sorted((folder / "runs").glob("*.yaml"))]
    experiments = [one for name, tree in tables.items() for one in collect_tables.experiments(project, name, tree)]
    for kind, found, look in (
        (TRAININGS, [_training(project, run) for run in runs], look_of_trainings),
        (REPORTS, [_report(project, name) for name in tables], look_of_reports),
    ):
        records = tuple(record for record in found if record is not None)
        experiments.append(
            Experiment(
                scope.key(kind), scope.name(kind), NOTES[kind], records, look(records), whole=workspace is None
            )
        )
    locked = frozenset(project.fingerprints)
    return Wanted(tuple(experiments), project.waiting, locked, whole=workspace is None, scope=scope)


def _training(project: Finished, run: str) -> Record | None:
    metrics_path, curve_path = f"results/{run}/train.json", f"results/{run}/train.csv"
    where = f"{TRAININGS}/{run}"
    found = project.entry(f"train_backbone@{run}", [metrics_path, curve_path], where)
    if found is None:
        return None
    entry, identity = found
    metrics = read_json(project.root / metrics_path)
    weights = str(metrics.pop("weights_sha256", ""))
    params = {key: value for tree in entry.params.values() for key, value in flatten(tree.get("train", {}))}
    tags = {"facet.run": run, "facet.weights_sha256": weights, "facet.dataset": params.get("dataset", "")}
    tags |= _environment(project.root / "runs" / run / "backbone" / "environment.json")
    by_step = _by_step(project, run, entry)
    if by_step is not None:
        tags[TRAINING_KEY] = str(measurements.read(by_step)[0].get("key", ""))
    common = project.common(entry)
    named = {
        metric_columns.metric_name(key): value for key, value in metrics.items() if isinstance(value, float)
    }
    trained_on = [(name, digest) for name, digest, purpose in common["datasets"] if purpose == lineage.TRAINING]
    measured = [name for name in named if not name.removeprefix("best_").startswith("validation_")]
    return Record(
        kind="training",
        fingerprint=identity,
        name=run,
        where=where,
        metrics=named,
        measured_on=dict.fromkeys(measured, trained_on[0]) if len(trained_on) == 1 else {},
        # counts are facts about the training, and no curves: images, classes
        params={key: str(value) for key, value in metrics.items() if isinstance(value, int)} | params,
        curve=project.root / curve_path,
        measurements=by_step,
        under_way=live_files.is_running(project.root, run),
        model=project.model(run, weights),
        **{**common, "tags": tags | common["tags"]},
    )


def _by_step(project: Finished, run: str, entry: Entry) -> Path | None:
    """Return the file with a training's curve by step, if it is here as DVC locked it."""
    folder = Path("results", run, "train")
    if not lineage.matches(project.root / folder, entry.outs.get(folder.as_posix(), "")):
        return None
    path = project.root / folder / measurements.FILE
    return path if path.is_file() else None


def _environment(path: Path) -> dict[str, str]:
    """Return what a training was computed with, as tags; nothing of one that was recorded by an older facet."""
    said = read_json(path) if path.is_file() else {}
    return {f"environment.{name}": str(value) for name, value in said.items() if value is not None}


def _report(project: Finished, table: str) -> Record | None:
    folder, where = f"results/tables/{table}/report", f"{REPORTS}/{table}"
    found = project.entry(f"tabulate@{table}", [folder], where)
    if found is None:
        return None
    entry, identity = found
    tree = read_json(project.root / folder / "table.json")
    taus = dict(_taus("tau", tree["agreement"]))
    for column in tree["columns"]:
        taus |= _taus(f"tau.{column['name']}", column["agreement"])
    tags = {"facet.table": table, "facet.profile": tree["profile"], "mlflow.note.content": tree["verdict"]}
    common = project.common(entry)
    return Record(
        kind="report",
        fingerprint=identity,
        name=tree["title"],
        where=where,
        metrics={metric_columns.metric_name(key): tau for key, tau in taus.items()},
        artifacts=project.root / folder,
        **{**common, "tags": tags | common["tags"]},
    )


def _taus(name: str, agreement: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield an agreement as metrics: tau, and its interval over seeds if it has one."""
    for key, end in (("tau", ""), ("low", ".low"), ("high", ".high")):
        if agreement.get(key) is not None:
            yield name + end, float(agreement[key])


def look_of_trainings(records: Sequence[Record]) -> Look:
    """Return the view of the list of training runs: the parameters that distinguish them, and their results."""
    params = dict.fromkeys(key for record in records for key in record.params)
    differ = [key for key in params if len({record.params.get(key) for record in records}) > 1]
    metrics = sorted({metric for record in records for metric in record.metrics})
    chosen = (differ or ["dataset", "head.name"])[:SHOWN_PARAMS]
    return Look(shown=(*(("params", key) for key in chosen), *(("metrics", metric) for metric in metrics)))


def look_of_reports(records: Sequence[Record]) -> Look:
    """Return the view of the list of tables: tau, its interval, and the verdict in words."""
    there = {metric for record in records for metric in record.metrics}
    metrics = tuple(("metrics", one) for one in ("tau", "tau.low", "tau.high") if one in there)
    return Look(shown=(*metrics, ("attributes", "Description")), columns=("tau",) if metrics else ())


def read_curve(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield epoch, name and value of each number in a training curve; empty fields are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            epoch = int(float(line.pop("epoch")))
            yield from ((epoch, metric_columns.metric_name(key), float(text)) for key, text in line.items() if text)
