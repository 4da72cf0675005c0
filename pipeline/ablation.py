"""What MLflow should hold: one experiment per table, one for trainings, one for reports. From files alone, no MLflow.

A record is one MLflow run as it should be; its fingerprint says when it is another one.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipeline import lineage
from pipeline.lineage import Entry, Locked

TRAININGS, REPORTS = "runs", "reports"


@dataclass(frozen=True)
class Record:
    """One MLflow run as it should be."""

    kind: str  # row, training or report
    fingerprint: str
    name: str
    where: str  # for messages: heads/AdaFace
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    curve: Path | None = None  # CSV with a column `epoch`
    model: Path | None = None  # folder with program.pt2 and model.json
    artifacts: Path | None = None  # folder whose files are uploaded
    made_of: Mapping[str, Any] = field(default_factory=dict)  # uploaded as lineage.json
    datasets: tuple[tuple[str, str, str], ...] = ()  # name, MD5, what for


@dataclass(frozen=True)
class Experiment:
    """One MLflow experiment; ``key`` is its identity, so that a new title renames it."""

    key: str
    name: str
    note: str
    records: tuple[Record, ...]
    columns: tuple[str, ...] = ()  # of the view that shows it as a table: metrics.LFW, params.head.margin


@dataclass(frozen=True)
class Wanted:
    """Everything that MLflow should hold, and what could not be taken, with the reason."""

    experiments: tuple[Experiment, ...]
    skipped: Mapping[str, str]

    @property
    def records(self) -> Iterator[tuple[Experiment, Record]]:
        """All records with their experiment."""
        return ((experiment, record) for experiment in self.experiments for record in experiment.records)


def collect(root: Path) -> Wanted:
    """Return what is finished: everything that DVC locked and that lies in the workspace as it was locked."""
    return _Collector(root).wanted()


class _Collector:
    """Reads a project once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.locked: Locked = lineage.read(root)
        self.skipped: dict[str, str] = {}

    def wanted(self) -> Wanted:
        tables = [self._table(path) for path in sorted((self.root / "resolved/tables").glob("*.yaml"))]
        names = [path.stem for path in sorted((self.root / "resolved/runs").glob("*.yaml"))]
        trainings = [record for name in names if (record := self._training(name))]
        reports = [record for experiment in tables if (record := self._report(experiment))]
        experiments = (
            *tables,
            Experiment(TRAININGS, TRAININGS, "Every training, with its curves. A table's rows name theirs.",
                       tuple(trainings)),
            Experiment(REPORTS, REPORTS, "Every table as it was reported: table.html has all of it.",
                       tuple(reports)),
        )  # fmt: skip
        return Wanted(experiments, self.skipped)

    def _table(self, path: Path) -> Experiment:
        name, tree = path.stem, _read_yaml(path)
        table, profile = tree["table"], tree["scale"]["profile"]
        records = []
        for position, (key, row) in enumerate(table["rows"].items()):
            tags = {"facet.table": name, "facet.row": key, "facet.position": f"{position:02d}",
                    "facet.profile": profile}  # fmt: skip
            record = (
                self._row(name, key, row, table, tags)
                if row["run"]
                else _published_only(name, key, row, table, tags)
            )
            if record:
                records.append(record)
        note = f"{table['note']}\n\nPublished numbers: {table['source']}".strip()
        return Experiment(
            f"table.{name}", table["title"], note, tuple(records), tuple(_columns(table, records))
        )

    def _row(
        self, name: str, key: str, row: Mapping[str, Any], table: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Record | None:
        path = f"results/tables/{name}/rows/{name}-{key}.json"
        where = f"{name}/{row['label']}"
        entry = self._finished(f"row@{name}-{key}", (path,), where)
        if entry is None:
            return None
        gathered = json.loads((self.root / path).read_text(encoding="utf-8"))
        measured, missing = _measured(table, gathered)
        model = self._model(row["run"], gathered["weights_sha256"])
        more = {
            "facet.run": row["run"], "facet.dataset": str(gathered["parameters"].get("dataset", "")),
            "facet.weights_sha256": gathered["weights_sha256"], "facet.not_measurable": ", ".join(missing),
        }  # fmt: skip
        return Record(
            kind="row",
            fingerprint=lineage.fingerprint(entry, row, table["columns"], table["ablation"]),
            name=row["label"],
            where=where,
            tags={**tags, **more, **self._lineage_tags(entry)},
            metrics=measured | _published(table, row),
            params={name: str(gathered["parameters"][name]) for name in table["ablation"]
                    if name in gathered["parameters"]},
            model=model,
            made_of=self._made_of(entry),
            datasets=self._datasets(entry),
        )  # fmt: skip

    def _training(self, run: str) -> Record | None:
        outs = (f"results/{run}/train.json", f"results/{run}/train.csv")
        entry = self._finished(f"train_backbone@{run}", outs, f"{TRAININGS}/{run}")
        if entry is None:
            return None
        metrics = json.loads((self.root / outs[0]).read_text(encoding="utf-8"))
        weights = str(metrics.get("weights_sha256", ""))
        section = next(iter(entry.params.values()), {}).get("train", {})
        return Record(
            kind="training",
            fingerprint=lineage.fingerprint(entry),
            name=run,
            where=f"{TRAININGS}/{run}",
            tags={"facet.run": run, "facet.dataset": str(section.get("dataset", "")), "facet.weights_sha256": weights,
                  **self._lineage_tags(entry)},
            metrics={metric_name(key): float(value) for key, value in metrics.items() if _is_number(value)},
            params=dict(_flatten(section)),
            curve=self.root / outs[1],
            model=self._model(run, weights),
            made_of=self._made_of(entry),
            datasets=self._datasets(entry),
        )  # fmt: skip

    def _report(self, experiment: Experiment) -> Record | None:
        name = experiment.key.removeprefix("table.")
        folder = f"results/tables/{name}/report"
        entry = self._finished(f"tabulate@{name}", (folder,), f"{REPORTS}/{name}")
        if entry is None:
            return None
        table = json.loads((self.root / folder / "table.json").read_text(encoding="utf-8"))
        taus = {f"tau.{column['name']}": column["agreement"]["tau"] for column in table["columns"]}
        taus = {"tau": table["agreement"]["tau"], **taus}
        return Record(
            kind="report",
            fingerprint=lineage.fingerprint(entry),
            name=table["title"],
            where=f"{REPORTS}/{name}",
            tags={"facet.table": name, "facet.profile": table["profile"], **self._lineage_tags(entry)},
            metrics={metric_name(key): tau for key, tau in taus.items() if tau is not None},
            artifacts=self.root / folder,
            made_of=self._made_of(entry),
        )

    def _finished(self, stage: str, paths: Sequence[str], where: str) -> Entry | None:
        """Return what DVC locked, if the workspace still holds it; else say why there is nothing to record."""
        entry = self.locked.entries.get(stage)
        if entry is None:
            self.skipped[where] = f"{stage} has not been reproduced"
            return None
        for path in paths:
            if path not in entry.outs or not lineage.matches(self.root / path, entry.outs[path]):
                self.skipped[where] = f"{path} is not what dvc.lock says"
                return None
        return entry

    def _model(self, run: str, weights_sha256: str) -> Path | None:
        """Return the folder of a run's model, if it is the one that was measured."""
        folder = self.root / "runs" / run / "backbone"
        if not (folder / "program.pt2").is_file() or not (folder / "model.json").is_file():
            return None
        model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return folder if model.get("weights_sha256") == weights_sha256 else None

    def _lineage_tags(self, entry: Entry) -> dict[str, str]:
        """Return the hashes of what a stage was made of and made, code aside; and the state of the repository."""
        hashes = {
            path: md5 for one in (*self.locked.upstream(entry.name), entry) for path, md5 in one.outs.items()
        }
        mine = {f"dvc.{path}": md5 for path, md5 in {**_data(entry.deps), **hashes}.items()}
        return {"facet.stage": entry.name, **mine, **self._git}

    def _made_of(self, entry: Entry) -> dict[str, Any]:
        entries = [entry, *self.locked.upstream(entry.name)]
        return {
            one.name: {
                "cmd": one.cmd,
                "params": dict(one.params),
                "deps": dict(one.deps),
                "outs": dict(one.outs),
            }
            for one in entries
        }

    def _datasets(self, entry: Entry) -> tuple[tuple[str, str, str], ...]:
        """Return the data sets behind a stage: name, MD5 and what for."""
        deps = {
            path: md5 for one in (*self.locked.upstream(entry.name), entry) for path, md5 in one.deps.items()
        }
        return tuple(sorted(
            (match[1], md5, "training" if match[2] == "train" else "evaluation")
            for path, md5 in deps.items() if (match := re.fullmatch(r"data/(\w+)/(train|eval)", path))
        ))  # fmt: skip

    @cached_property
    def _git(self) -> dict[str, str]:
        """Return commit and cleanliness when recorded; what the pipeline itself writes does not make it dirty."""
        commit = _git(self.root, "rev-parse", "HEAD")
        if not commit:
            return {}
        changed = _git(
            self.root, "status", "--porcelain", "--", ".", ":!results", ":!dvc.lock", ":!graph/*/dvc.lock"
        )
        return {
            "facet.git_commit": commit, "facet.git_dirty": str(bool(changed)).lower(), "mlflow.source.git.commit": commit
        }  # fmt: skip


def metric_name(text: str) -> str:
    """Return a column's name as MLflow takes it: word characters, space, and . - : only.

    >>> metric_name("TAR@FAR=1e-4 (%)"), metric_name("IJB-B/C")
    ('TAR at FAR 1e-4', 'IJB-B-C')
    """
    spelt = text.replace("@", " at ").replace("/", "-")
    return " ".join(re.sub(r"[^\w.\- :]", " ", spelt).split())


def _columns(table: Mapping[str, Any], records: Sequence[Record]) -> Iterator[str]:
    """Yield what the view of an experiment shows: parameters, then each column with its published one beside."""
    for name in table["ablation"]:
        yield f"params.{name}"
    there = {name for record in records for name in record.metrics}
    for column in table["columns"]:
        name = metric_name(column["name"])
        yield from (f"metrics.{one}" for one in (name, f"published.{name}") if one in there)


def _measured(table: Mapping[str, Any], gathered: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the row's values as the table shows them, and the columns it has none for."""
    found, missing = {}, []
    for column in table["columns"]:
        suite, _, key = column["metric"].partition(".")
        value = gathered["measured"].get(suite, {}).get(key)
        if value is None:
            missing.append(column["name"])
        else:
            percent = 100 if column["unit"] == "percent" else 1
            found[metric_name(column["name"])] = round(value * percent, column["decimals"])
    return found, missing


def _published(table: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    values = {column["name"]: row["published"].get(column["name"]) for column in table["columns"]}
    return {f"published.{metric_name(name)}": value for name, value in values.items() if value is not None}


def _published_only(
    name: str, key: str, row: Mapping[str, Any], table: Mapping[str, Any], tags: Mapping[str, str]
) -> Record:
    """Return a row that no run of ours measures: what the document says, marked so."""
    entry = Entry(f"{name}-{key}", "published only")
    identity = lineage.fingerprint(entry, row, table["columns"])
    return Record(
        "row",
        identity,
        row["label"],
        f"{name}/{row['label']}",
        {**tags, "facet.published_only": "true"},
        _published(table, row),
    )


def _data(deps: Mapping[str, str]) -> dict[str, str]:
    return {path: md5 for path, md5 in deps.items() if path.split("/")[0] in {"data", "runs", "results"}}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _git(root: Path, *arguments: str) -> str:
    """Return what git says, or nothing where there is no repository or no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read_curve(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, name and value of each number in a training curve; empty fields are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        for number, line in enumerate(csv.DictReader(stream)):
            step = int(float(line.get("epoch") or number))
            yield from (
                (step, metric_name(key), float(text)) for key, text in line.items() if key != "epoch" and text
            )
