"""A table as MLflow experiments: one run per row, another experiment of all seeds if several; the best model.

Rows are not nested in one another: MLflow's pages select, sort and chart flat runs best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tracking import lineage, metric_columns
from pipeline.tracking.desired import REPORTS, Best, Experiment, Look, Record
from pipeline.tracking.lineage import Entry
from pipeline.tracking.locked_results import Finished, read_json

SEEDS_NOTE = (
    "Every training run behind the table, by seed. For means, *Group by* parameter `row`; the table itself has them "
    "too, with `.std`."
)
BEST_NOTE = (
    "The best row of the table by `{primary}`; with several seeds by their mean, with the first seed's model: "
    "choosing among seeds by a test result would say nothing of the method."
)


@dataclass(frozen=True)
class _Gathered:
    """One finished result file of a row."""

    stem: str  # heads-adaface-1
    run: str
    entry: Entry
    identity: str
    tree: Mapping[str, Any]


class _Table:
    """One table while its records are being made."""

    def __init__(self, project: Finished, name: str, resolved: Mapping[str, Any]) -> None:
        self.project, self.name, self.table = project, name, resolved["table"]
        self.profile, self.data = resolved["scale"]["profile"], resolved["scale"].get("data", {})
        # with no word on seeds each row has one run
        self.measuring = resolved.get("measured") or {
            key: {f"{name}-{key}": row["run"]} for key, row in self.table["rows"].items() if row["run"] is not None
        }
        self.gathered: dict[str, list[_Gathered]] = {}

    def rows(self) -> Iterator[Record]:
        """Yield the record of each row that is finished."""
        for position, (key, row) in enumerate(self.table["rows"].items()):
            tags = {"facet.table": self.name, "facet.row": key, "facet.position": f"{position:02d}"}
            tags["facet.profile"] = self.profile
            make = self._row if row["run"] is not None else self._published_only
            record = make(key, row, tags)
            if record is not None:
                yield record

    def _row(self, key: str, row: Mapping[str, Any], tags: dict[str, str]) -> Record | None:
        where = f"{self.name}/{row['label']}"
        # what the table says of a row is part of its identity: another published number is another record
        said = (row, self.table["columns"], self.table["ablation"], self.data)
        found = [self._read(stem, run, where, *said) for stem, run in self.measuring[key].items()]
        gathered = [one for one in found if one is not None]
        identity = self._lock(key, where, *said)
        if identity is None or len(gathered) < len(found):
            return None
        self.gathered[key] = gathered
        first = gathered[0]
        seeds = [str(one.tree["parameters"].get("seed", "")) for one in gathered]
        params = self._params(first)
        if len(gathered) > 1:
            params["seeds"] = ", ".join(seeds)
            tags["facet.runs"] = ", ".join(one.run for one in gathered)
        measured = metric_columns.measured(self.table, [one.tree for one in gathered], row)
        if missing := metric_columns.not_measured(self.table, [one.tree for one in gathered], row):
            tags["facet.not_measured"] = "; ".join(f"{column}: {reason}" for column, reason in missing.items())
        apart = metric_columns.not_compared(self.table, [one.tree for one in gathered], row, self.data)
        if apart:
            tags["facet.not_compared"] = "; ".join(f"{column}: {reason}" for column, reason in apart.items())
        return Record(
            kind="row",
            fingerprint=identity,
            name=row["label"],
            where=where,
            metrics=measured | metric_columns.published(self.table, row, apart),
            params=params,
            model=self.project.model(first.run, first.tree["weights_sha256"]),
            **self._common(gathered, tags | self._facts(first)),
        )

    def _lock(self, key: str, where: str, *said: Any) -> str | None:
        """Return a row's fingerprint if dvc.lock has all its seeds, and record that row and seeds are locked.

        Of what is locked nothing is unmarked in MLflow because its file is not here.
        """
        entries = {stem: self.project.locked.entries.get(f"row@{stem}") for stem in self.measuring[key]}
        each = {stem: lineage.fingerprint(entry, *said) for stem, entry in entries.items() if entry is not None}
        locked = self.project.fingerprints
        if any(len(stems) > 1 for stems in self.measuring.values()):
            locked.update(_of_seed(stem, identity) for stem, identity in each.items())
        if len(each) < len(entries):
            return None
        identity, *more = each.values()
        if more:
            # what was the row while it had one seed is so no more
            locked.difference_update(each.values())
            identity = lineage.fingerprint(Entry(where, "seeds"), list(each.values()))
        locked.add(identity)
        return identity

    def _read(self, stem: str, run: str, where: str, *said: Any) -> _Gathered | None:
        path = f"results/tables/{self.name}/rows/{stem}.json"
        found = self.project.entry(f"row@{stem}", [path], where, *said)
        if found is None:
            return None
        return _Gathered(stem, run, *found, read_json(self.project.root / path))

    def _params(self, one: _Gathered) -> dict[str, str]:
        parameters = one.tree["parameters"]
        return {key: str(parameters[key]) for key in self.table["ablation"] if key in parameters}

    def _facts(self, one: _Gathered) -> dict[str, str]:
        dataset = str(one.tree["parameters"].get("dataset", ""))
        return {
            "facet.run": one.run, "facet.weights_sha256": one.tree["weights_sha256"], "facet.dataset": dataset,
        }  # fmt: skip

    def _common(self, gathered: list[_Gathered], tags: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields from the lineage of all seeds; stage and source are those of the first seed."""
        each = [self.project.common(one.entry) for one in gathered]
        merged: dict[str, Any] = {"tags": {}, "made_of": {}}
        for common in reversed(each):
            merged["tags"] |= common["tags"]
            merged["made_of"] |= common["made_of"]
        datasets = {dataset for common in each for dataset in common["datasets"]}
        sets = {name: digest for name, digest, purpose in datasets if purpose == lineage.EVALUATION}
        row = self.table["rows"][tags["facet.row"]]
        return {
            "tags": tags | merged["tags"], "made_of": merged["made_of"], "datasets": tuple(sorted(datasets)),
            "measured_on": metric_columns.measured_on(self.table, row, sets),
        }  # fmt: skip

    def _published_only(self, key: str, row: Mapping[str, Any], tags: dict[str, str]) -> Record:
        """Return a row that no run of ours measures, marked as published only."""
        full_name, where = f"{self.name}-{key}", f"{self.name}/{row['label']}"
        tags["facet.published_only"] = "true"
        prefix = self.project.scope.prefix
        more = (prefix,) if prefix else ()  # nothing else would tell one workspace's from another's
        identity = lineage.fingerprint(Entry(full_name, "published only"), row, self.table["columns"], *more)
        return Record(
            "row", identity, row["label"], where, tags, metric_columns.published(self.table, row)
        )

    def seeds(self, rows: Mapping[str, Record]) -> Iterator[Record]:
        """Yield one record per seed of each finished row, if any row has several seeds."""
        if not any(len(gathered) > 1 for gathered in self.gathered.values()):
            return
        for key, gathered in self.gathered.items():
            row, record = self.table["rows"][key], rows[key]
            for position, one in enumerate(gathered):
                seed = str(one.tree["parameters"].get("seed", ""))
                tags = {
                    "facet.table": self.name, "facet.row": key, "facet.profile": self.profile,
                    "facet.position": f"{record.tags['facet.position']}.{position:02d}",
                }  # fmt: skip
                common = self._common([one], tags | self._facts(one))
                if position == 0:
                    del common["tags"]["facet.stage"]  # which the row itself has
                yield Record(
                    kind="seed",
                    fingerprint=_of_seed(one.stem, one.identity),
                    name=f"{row['label']}, seed {seed}",
                    where=f"{record.where}, seed {seed}",
                    metrics=metric_columns.measured(self.table, [one.tree], row)
                    | metric_columns.published(
                        self.table, row, metric_columns.not_compared(self.table, [one.tree], row, self.data)
                    ),
                    params={"row": row["label"], **self._params(one), "seed": seed},
                    model=self.project.model(one.run, one.tree["weights_sha256"]),
                    **common,
                )

    def best(self, rows: Mapping[str, Record]) -> Best | None:
        """Return the model of the best row; None if no row has one, or if its files are not here."""
        if not self.project.scope.models:
            return None
        primary, higher = metric_columns.primary(self.table)
        measured = {
            key: rows[key].metrics[primary] for key in self.gathered if primary in rows[key].metrics
        }
        if not measured:
            return None
        key = (max if higher else min)(measured, key=measured.__getitem__)  # of equals the table's first
        record = rows[key]
        name = self.project.scope.model(self.name)
        if record.model is None:
            self.project.waiting[f"registered model {name}"] = f"the model of {record.where} is not here"
            return None
        note = BEST_NOTE.format(primary=primary)
        tags = {
            "facet.table": self.name, "facet.row": key, "facet.run": record.tags["facet.run"],
            "facet.profile": self.profile, "facet.primary": primary, "facet.value": str(measured[key]),
        }  # fmt: skip
        return Best(name, record.where, record.model, tags, note)


def _of_seed(stem: str, identity: str) -> str:
    return lineage.fingerprint(Entry(stem, "seed"), identity)


def experiments(project: Finished, name: str, resolved: Mapping[str, Any]) -> tuple[Experiment, Experiment]:
    """Return a table's experiment, and the one of its single seeds (without records if rows have one run each).

    Args:
        project: what is finished.
        name: of the table.
        resolved: ``resolved/tables/NAME.yaml``.

    Raises:
        ValueError: MLflow could not tell its columns apart.
    """
    made, table, scope = _Table(project, name, resolved), resolved["table"], project.scope
    metric_columns.check(table)
    records = tuple(made.rows())
    rows = {record.tags["facet.row"]: record for record in records}
    seeds = tuple(made.seeds(rows))
    said = (table["note"], f"Published: {table['source']}", _claims(project, name))
    note = "\n\n".join(text.strip() for text in said if text)
    key, title = scope.key(f"table.{name}"), scope.table(name, table["title"])
    seeds_key = f"{key}.seeds"
    own = Experiment(
        key, title, note, records, _look(table, records, "seeds" if seeds else None), made.best(rows),
        report=f"{REPORTS}/{name}", seeds=seeds_key if seeds else None,
    )  # fmt: skip
    of_seeds = Experiment(seeds_key, f"{title}: every seed", SEEDS_NOTE, seeds, _look(table, seeds, "seed", "row"))
    return own, of_seeds


def _claims(project: Finished, name: str) -> str:
    """Return the orders that papers state in words, each with whether it holds, as the table's report has them."""
    folder = f"results/tables/{name}/report"
    entry = project.locked.entries.get(f"tabulate@{name}")
    if entry is None or not lineage.matches(project.root / folder, entry.outs.get(folder, "")):
        return ""
    claims = read_json(project.root / folder / "table.json").get("claims", [])
    lines = [
        f"- **{one['verdict']}**: {one['text'].strip().rstrip('.')} ({one['source'].strip()}); {one['found']}"
        for one in claims
    ]
    return "\n".join(["Stated in words:", "", *lines]) if lines else ""


def _look(table: Mapping[str, Any], records: tuple[Record, ...], last: str | None, first: str | None = None) -> Look:
    metrics = {metric for record in records for metric in record.metrics}
    names = [metric_columns.metric_name(column["name"]) for column in table["columns"]]
    both = {
        name: sum(name in record.metrics and metric_columns.PUBLISHED + name in record.metrics for record in records)
        for name in names
    }
    shown = list(metric_columns.shown(table, metrics))
    params = len(table["ablation"])
    shown[params:params] = [("params", last)] if last else []
    return Look(
        shown=(*([("params", first)] if first else []), *shown),
        columns=tuple(name for name in names if name in metrics),
        beside=tuple(name for name in names if both[name] > 1),
        primary=metric_columns.primary(table)[0],
    )
