"""What MLflow should hold, from files alone: one experiment per table, one of trainings, one of reports.

A record is one MLflow run as it should be; its fingerprint says when it is another one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipeline import columns, lineage
from pipeline.lineage import Entry

TRAININGS, REPORTS, SWEEPS = "runs", "reports", "sweep."
NOTES = {
    TRAININGS: "Every training, with its curves and its model. Rows of tables name theirs in `facet.run`.",
    REPORTS: "Every table as it was reported: open `table.html` under Artifacts.",
}


@dataclass(frozen=True)
class Record:
    """One MLflow run as it should be."""

    kind: str  # row, training or report
    fingerprint: str
    name: str
    where: str  # for messages: heads/AdaFace
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    curve: Path | None = None  # CSV, one line an epoch
    model: Path | None = None  # folder with program.pt2 and model.json
    artifacts: Path | None = None  # folder whose files are uploaded
    made_of: Mapping[str, Any] = field(default_factory=dict)  # uploaded as lineage.json
    datasets: tuple[tuple[str, str, str], ...] = ()  # name, MD5, what for


@dataclass(frozen=True)
class Experiment:
    """One MLflow experiment; ``key`` is its identity, so that a table's new title only renames it."""

    key: str
    name: str
    note: str
    records: tuple[Record, ...]
    shown: tuple[tuple[str, str], ...] = ()  # kind and name of the columns that make it the table


@dataclass(frozen=True)
class Wanted:
    """Everything that MLflow should hold now, and what is not finished, with the reason."""

    experiments: tuple[Experiment, ...]
    waiting: Mapping[str, str]
    locked: frozenset[str]  # fingerprints that dvc.lock has, whether or not their files are here
    whole: bool = True  # all that the project has; False: a sweep, beside it

    @property
    def records(self) -> list[Record]:
        """All records."""
        return [record for experiment in self.experiments for record in experiment.records]


def sweep_key(sweep: str) -> str:
    """Return the identity of a sweep's experiment, which `track` lets alone."""
    return f"{SWEEPS}{sweep}"


def table_key(table: str) -> str:
    """Return the identity of a table's experiment."""
    return f"table.{table}"


def collect(root: Path) -> Wanted:
    """Return what is finished: what DVC locked and the workspace still holds as it was locked."""
    project = _Project(root)
    tables = {path.stem: _read_yaml(path) for path in sorted((root / "resolved/tables").glob("*.yaml"))}
    runs = [path.stem for path in sorted((root / "resolved/runs").glob("*.yaml"))]
    experiments = [_table(project, name, tree) for name, tree in tables.items()]
    for key, records in (
        (TRAININGS, [_training(project, run) for run in runs]),
        (REPORTS, [_report(project, name) for name in tables]),
    ):
        finished = tuple(record for record in records if record is not None)
        experiments.append(Experiment(key, key, NOTES[key], finished))
    return Wanted(tuple(experiments), project.waiting, frozenset(project.fingerprints))


class _Project:
    """What is read once: lock files, state of git; and what turned out to be unfinished."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locked = lineage.read(root)
        self.waiting: dict[str, str] = {}
        self.fingerprints: set[str] = set()

    @cached_property
    def git(self) -> dict[str, str]:
        return lineage.git_state(self.root)

    def finished(self, stage: str, paths: Sequence[str], where: str, *more: Any) -> tuple[Entry, str] | None:
        """Return what DVC locked for a stage and its fingerprint, if its files are here; else note why not."""
        entry = self.locked.entries.get(stage)
        if entry is None:
            self.waiting[where] = f"{stage} is not in dvc.lock"
            return None
        identity = lineage.fingerprint(entry, *more)
        self.fingerprints.add(identity)
        for path in paths:
            if not lineage.matches(self.root / path, entry.outs.get(path, "")):
                self.waiting[where] = f"{path} is not what dvc.lock says"
                return None
        return entry, identity

    def model(self, run: str, weights_sha256: str) -> Path | None:
        """Return the folder of a run's model, if it is here and is the one that was measured."""
        folder = self.root / "runs" / run / "backbone"
        if not (folder / "program.pt2").is_file() or not (folder / "model.json").is_file():
            return None
        return folder if _read_json(folder / "model.json").get("weights_sha256") == weights_sha256 else None

    def common(self, entry: Entry) -> dict[str, Any]:
        """Return the fields of a record that come from its lineage."""
        tags = {"facet.stage": entry.name, "mlflow.source.name": f"dvc repro {entry.name}"}
        tags |= {f"facet.git_{name}": value for name, value in self.git.items()}
        if commit := self.git.get("commit"):
            tags["mlflow.source.git.commit"] = commit
        tags |= {f"dvc.{path}": md5 for path, md5 in lineage.hashes(self.locked, entry).items()}
        made_of, datasets = lineage.tree(self.locked, entry), lineage.datasets(self.locked, entry)
        return {"tags": tags, "made_of": made_of, "datasets": datasets}


def _table(project: _Project, name: str, tree: Mapping[str, Any]) -> Experiment:
    table, records = tree["table"], []
    columns.check(table)
    for position, (key, row) in enumerate(table["rows"].items()):
        tags = {"facet.table": name, "facet.row": key, "facet.position": f"{position:02d}"}
        tags["facet.profile"] = tree["scale"]["profile"]
        make = _row if row["run"] is not None else _published_only
        record = make(project, f"{name}-{key}", row, table, tags)
        if record is not None:
            records.append(record)
    metrics = {metric for record in records for metric in record.metrics}
    shown = tuple(columns.shown(table, metrics))
    note = "\n\n".join(text.strip() for text in (table["note"], f"Published: {table['source']}") if text)
    return Experiment(table_key(name), table["title"], note, tuple(records), shown)


def _row(
    project: _Project, full_name: str, row: Mapping[str, Any], table: Mapping[str, Any], tags: dict[str, str]
) -> Record | None:
    name = tags["facet.table"]
    path, where = f"results/tables/{name}/rows/{full_name}.json", f"{name}/{row['label']}"
    # what the table says of a row is part of its identity: another published number is another record
    said = (row, table["columns"], table["ablation"])
    found = project.finished(f"row@{full_name}", [path], where, *said)
    if found is None:
        return None
    entry, identity = found
    gathered = _read_json(project.root / path)
    weights, parameters = gathered["weights_sha256"], gathered["parameters"]
    measured = columns.measured(table, gathered)
    names = [columns.metric_name(column["name"]) for column in table["columns"]]
    tags |= {"facet.run": row["run"], "facet.weights_sha256": weights}
    tags["facet.dataset"] = str(parameters.get("dataset", ""))
    if missing := [column for column in names if column not in measured]:
        tags["facet.not_measured"] = ", ".join(missing)
    common = project.common(entry)
    return Record(
        kind="row",
        fingerprint=identity,
        name=row["label"],
        where=where,
        metrics=measured | columns.published(table, row),
        params={key: str(parameters[key]) for key in table["ablation"] if key in parameters},
        model=project.model(row["run"], weights),
        **{**common, "tags": tags | common["tags"]},
    )


def _published_only(
    project: _Project, full_name: str, row: Mapping[str, Any], table: Mapping[str, Any], tags: dict[str, str]
) -> Record:
    """Return a row that no run of ours measures, marked so."""
    entry = Entry(full_name, "published only")
    where = f"{tags['facet.table']}/{row['label']}"
    tags["facet.published_only"] = "true"
    identity = lineage.fingerprint(entry, row, table["columns"])
    return Record("row", identity, row["label"], where, tags, columns.published(table, row))


def _training(project: _Project, run: str) -> Record | None:
    metrics_path, curve_path = f"results/{run}/train.json", f"results/{run}/train.csv"
    where = f"{TRAININGS}/{run}"
    found = project.finished(f"train_backbone@{run}", [metrics_path, curve_path], where)
    if found is None:
        return None
    entry, identity = found
    metrics = _read_json(project.root / metrics_path)
    weights = str(metrics.pop("weights_sha256", ""))
    params = {key: value for tree in entry.params.values() for key, value in _flatten(tree.get("train", {}))}
    tags = {"facet.run": run, "facet.weights_sha256": weights, "facet.dataset": params.get("dataset", "")}
    common = project.common(entry)
    return Record(
        kind="training",
        fingerprint=identity,
        name=run,
        where=where,
        metrics={columns.metric_name(key): value for key, value in metrics.items() if isinstance(value, float)},
        # counts are facts about the training, and no curves: images, classes
        params={key: str(value) for key, value in metrics.items() if isinstance(value, int)} | params,
        curve=project.root / curve_path,
        model=project.model(run, weights),
        **{**common, "tags": tags | common["tags"]},
    )


def _report(project: _Project, table: str) -> Record | None:
    folder, where = f"results/tables/{table}/report", f"{REPORTS}/{table}"
    found = project.finished(f"tabulate@{table}", [folder], where)
    if found is None:
        return None
    entry, identity = found
    tree = _read_json(project.root / folder / "table.json")
    taus = {"tau": tree["agreement"]["tau"]}
    taus |= {f"tau.{column['name']}": column["agreement"]["tau"] for column in tree["columns"]}
    tags = {"facet.table": table, "facet.profile": tree["profile"], "mlflow.note.content": tree["verdict"]}
    common = project.common(entry)
    return Record(
        kind="report",
        fingerprint=identity,
        name=tree["title"],
        where=where,
        metrics={columns.metric_name(key): tau for key, tau in taus.items() if tau is not None},
        artifacts=project.root / folder,
        **{**common, "tags": tags | common["tags"]},
    )


def read_curve(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield epoch, name and value of each number in a training curve; empty fields are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            epoch = int(float(line.pop("epoch")))
            yield from ((epoch, columns.metric_name(key), float(text)) for key, text in line.items() if text)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def _read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
