"""Reads what is on disk of a single run: its configuration, metrics, details, curves, environment and model."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.config.evaluation import SUITES
from stages.core.errors import UnknownNameError
from stages.runtime import artifacts, yaml_text

CURVES = {"hq": ("roc",), "ijb": ("roc", "cmc"), "lq": ("roc", "cmc"), "fiqa": ("edc",)}
Points = list[dict[str, str]]


@dataclass(frozen=True)
class RunResults:
    """One run; what has not been made yet is empty."""

    name: str
    sections: dict[str, Any]
    """Of resolved/runs/RUN.yaml."""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By suite, with ``train`` and ``quality``."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[tuple[str, str], Points] = field(default_factory=dict)
    """By suite and kind: lines of roc.csv, cmc.csv, edc.csv."""
    training: Points = field(default_factory=list)
    """A line per epoch."""
    environment: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """That it is trained on."""
        return str(self.sections["train"]["dataset"])

    def measured_on(self, suite: str) -> str:
        """Return the data set whose test sets a suite uses."""
        return str(self.details.get(suite, {}).get("dataset", self.dataset))

    def sets(self, suite: str) -> dict[str, Any]:
        """Return the details of each test set of a suite."""
        return dict(self.details.get(suite, {}).get("sets", {}))


def read(run: str) -> RunResults:
    """Return what is there of a run.

    Raises:
        LookupError: it was not trained here; the message lists the runs that were.
    """
    resolved = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    if not resolved.is_file() or not artifacts.metrics_file(run, "train").is_file():
        there = sorted(path.parent.name for path in artifacts.RESULTS.glob("*/train.json"))
        hint = ", ".join(there) or "none yet"
        raise UnknownNameError(f"run {run!r} was not trained here: there are {hint}; `facet run {run}` trains it")
    names = ("train", "quality", *SUITES)
    return RunResults(
        run,
        yaml_text.read(resolved),
        {name: found for name in names if (found := _json(artifacts.metrics_file(run, name)))},
        {name: found for name in SUITES if (found := _json(artifacts.details_folder(run, name) / "details.json"))},
        {
            (suite, kind): _lines(artifacts.details_folder(run, suite) / f"{kind}.csv")
            for suite, kinds in CURVES.items()
            for kind in kinds
        },
        _lines(artifacts.metrics_file(run, "train").with_suffix(".csv")),
        _json(artifacts.backbone_folder(run) / "environment.json"),
        _json(artifacts.backbone_folder(run) / "model.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    return artifacts.read_json(path) if path.is_file() else {}


def _lines(path: Path) -> Points:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
