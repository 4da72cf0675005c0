"""Data model of what MLflow should hold: records in experiments, models under names; filled by `ablation`.

A record is one MLflow run as it should be; its fingerprint says when it is another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.workspace import Kind, Workspace

TRAININGS, REPORTS = "runs", "reports"
SWEEPS, ABLATIONS = "sweep.", "ablations."
# tags of runs
CURRENT, FINGERPRINT, WHERE = "facet.current", "facet.fingerprint", "facet.where"
TRAINING_KEY = "facet.training"
"""Identity of a training as it trains: its parameters, records and code."""


@dataclass(frozen=True)
class Model:
    """A run's exported program, as files."""

    folder: Path  # runs/RUN/backbone, with program.pt2 and model.json
    key: str  # SHA-256 of what DVC locked for it: the same model is logged once
    scales: Path | None = None  # of its quality scores, from 0 to 100, where suite fiqa was measured


@dataclass(frozen=True)
class Record:
    """One MLflow run as it should be."""

    kind: str  # row, seed, training or report
    fingerprint: str
    name: str
    where: str  # for messages: heads/AdaFace
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    curve: Path | None = None  # CSV, one line an epoch
    measurements: Path | None = None  # JSON lines, the curve by step
    under_way: bool = False  # trained again at this moment
    model: Model | None = None
    artifacts: Path | None = None  # folder whose files are uploaded
    made_of: Mapping[str, Any] = field(default_factory=dict)  # uploaded as lineage.json
    datasets: tuple[tuple[str, str, str], ...] = ()  # name, digest, what for
    measured_on: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by metric: data set's name and digest


@dataclass(frozen=True)
class Look:
    """Display settings of an experiment: columns in order, and charts."""

    shown: tuple[tuple[str, str], ...] = ()  # kind and name: params, metrics, tags, attributes
    columns: tuple[str, ...] = ()  # metrics with a bar chart each, in this order
    beside: tuple[str, ...] = ()  # of these, with ``published.COLUMN`` worth a plot against it
    primary: str | None = None  # the metric that says which is best


@dataclass(frozen=True)
class Best:
    """The best model of a table, registered in MLflow under an alias."""

    name: str  # of the registered model: facet-heads
    where: str  # the record whose model it is
    model: Model
    tags: Mapping[str, str]
    note: str


@dataclass(frozen=True)
class Experiment:
    """One MLflow experiment; ``key`` is its identity, so that a table's new title only renames it."""

    key: str
    name: str
    note: str
    records: tuple[Record, ...]
    look: Look = Look()
    best: Best | None = None
    whole: bool = True  # False: it holds more than is wanted now, which stays as it is
    report: str | None = None  # where its report stands, to link to
    seeds: str | None = None  # key of the experiment with its single seeds, to link to


@dataclass(frozen=True)
class Scope:
    """Whose records these are: the project's, or those of a side workspace."""

    workspace: str | None = None
    kind: Kind = "ablations"

    @property
    def prefix(self) -> str:
        """Common prefix of the keys of its experiments."""
        return "" if self.workspace is None else f"{self.kind}.{self.workspace}."

    @property
    def models(self) -> bool:
        """Whether models are recorded: those of a sweep are many, and stay in its workspace and DVC's cache."""
        return self.workspace is None or self.kind != "sweep"

    def key(self, name: str) -> str:
        """Return the identity of an experiment.

        >>> Scope().key("table.heads"), Scope("demo").key("runs")
        ('table.heads', 'ablations.demo.runs')
        """
        return self.prefix + name

    def name(self, name: str) -> str:
        """Return the name of an experiment that covers all tables."""
        if self.workspace is None:
            return name
        return f"{name} (sweep {self.workspace})" if self.kind == "sweep" else f"{name} ({self.workspace} ablations)"

    def table(self, table: str, title: str) -> str:
        """Return the name of a table's experiment: beginning with its key, if there are many."""
        if self.workspace is None:
            return title
        return f"sweep {title}" if self.kind == "sweep" else f"{table} ({self.workspace}): {title}"

    def model(self, table: str) -> str:
        """Return the name under which the best model of a table is registered."""
        return f"facet-{table}" if self.workspace is None else f"facet-{table}-{self.workspace}"

    def has(self, key: str) -> bool:
        """Return whether an experiment's key belongs to this scope.

        >>> Scope().has("table.heads"), Scope().has("sweep.a"), Scope("demo").has("ablations.demo.runs")
        (True, False, True)
        """
        if self.workspace is None:
            return not key.startswith((SWEEPS, ABLATIONS))
        return key.startswith(self.prefix)


def scope_of(where: Workspace) -> Scope:
    """Return whose records those of a workspace are."""
    return Scope() if where.kind == "project" else Scope(where.name, where.kind)


@dataclass(frozen=True)
class Wanted:
    """All records that MLflow should hold now, and the unfinished ones with the reason."""

    experiments: tuple[Experiment, ...]
    waiting: Mapping[str, str]
    locked: frozenset[str]  # fingerprints that dvc.lock has, whether or not their files are here
    whole: bool = True  # all that the project has; False: some tables, beside what is there
    scope: Scope = Scope()

    @property
    def records(self) -> list[Record]:
        """All records."""
        return [record for experiment in self.experiments for record in experiment.records]

    @property
    def best(self) -> list[Best]:
        """The models to be registered."""
        return [experiment.best for experiment in self.experiments if experiment.best is not None]


def table_key(table: str) -> str:
    """Return the identity of a table's experiment in the project."""
    return f"table.{table}"
