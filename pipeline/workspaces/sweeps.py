"""A sweep's workspace: the project as it is now with other runs and one table of them, beside it, on the same cache.

The table is like any other of ``tables/``, but generated: a row for each variant, measured with each seed. The same
sweep again finds its checkpoints; two sweeps never meet in a file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base import workspace
from pipeline.base.workspace import Workspace
from pipeline.workspaces import initial_weights, seeds, snapshot
from pipeline.workspaces.sweep_grid import Variant
from stages.runtime import yaml_text

COMPUTED = {"averages": ("hq", "ijb", "lq")}
"""What a column's metric may begin with that no stage measures, and the suites that the stage `row` makes it of."""
OF_NO_TRAINING = ("benchmarks", "quality", "recipe")
"""Sections of a run that are not among the parameters of its training."""
SUITE = re.compile(r"results/\$\{item\.run\}/(\w+)")
"""In the deps of the stage `row`: a suite that it reads."""


@dataclass(frozen=True)
class Sweep:
    """What to train, and what to show of it."""

    title: str
    variants: Sequence[Variant]
    columns: Sequence[Mapping[str, Any]]
    quality: Mapping[str, str] = field(default_factory=dict)
    """By base run: the method that a column's ``{quality}`` stands for."""

    @property
    def key(self) -> str:
        """A name for its workspace and its table: the same sweep again goes on where it was."""
        parts = [[one.base, dict(one.settings), dict(one.runs)] for one in self.variants]
        text = json.dumps([self.title, [dict(one) for one in self.columns], parts], sort_keys=True)
        return f"{self.variants[0].base}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def table(self) -> dict[str, Any]:
        """Return its table, as a file of ``tables/`` has it."""
        return {
            "title": self.title,
            "source": "a sweep, so nothing is published",
            "ablation": list(dict.fromkeys(name for one in self.variants for name in _parameters(one.settings))),
            "columns": [dict(column) for column in self.columns],
            "rows": {
                one.name: {"label": label(one), "run": next(iter(one.runs))}
                | ({"quality": self.quality[one.base]} if one.base in self.quality else {})
                for one in self.variants
            },
        }

    def runs(self) -> dict[str, Mapping[str, Any]]:
        """Return its trainings, as params.yaml has them."""
        return {name: tree for one in self.variants for name, tree in one.trained.items()}

    def rows(self, table: str) -> dict[str, dict[str, str]]:
        """Return what measures the rows of its table under the name ``table``, as params.yaml has it."""
        found = {}
        for one in self.variants:
            first = next(iter(one.runs.values()))
            for run, seed in one.runs.items():
                found[seeds.row(table, one.name, seed, first)] = {"table": table, "run": run}
        return found


def label(variant: Variant) -> str:
    """Return a variant's display name.

    >>> label(Variant("arcface", {"head.margin": 0.3}, {}, {}))
    'arcface head.margin=0.3'
    """
    return " ".join([variant.base, *(f"{path}={value}" for path, value in variant.settings.items())])


def _parameters(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parameters of a training that settings vary; a section is all that it holds.

    >>> list(_parameters({"head": {"name": "cosface"}, "quality.name": "cr_fiqa", "seed": 1}))
    ['head.name', 'seed']
    """
    for path, value in settings.items():
        if path.partition(".")[0] in OF_NO_TRAINING:
            continue
        if isinstance(value, Mapping):
            yield from _parameters({f"{path}.{key}": below for key, below in value.items()})
        else:
            yield path


@contextmanager
def opened(root: Path, asked: Sweep) -> Iterator[tuple[Workspace, bool]]:
    """Update the workspace and hold it for the duration of the block.

    Yields:
        The workspace, and whether it could be brought up to date, as ``snapshot.opened`` does.
    """
    where = workspace.beside(root, "sweep", asked.key)
    with snapshot.opened(root, where.folder, lambda: generated(root, asked)) as alone:
        yield where, alone


def generated(root: Path, asked: Sweep) -> dict[str, Mapping[str, Any]]:
    """Return the files of its workspace that are not the project's, by name."""
    tree = yaml_text.read(root / "params.yaml")
    tree = params(root, tree, asked)
    graph = snapshot.graph(root, tree)
    named = {str(column["metric"]).partition(".")[0] for column in asked.columns}
    suites = {one for suite in named for one in COMPUTED.get(suite, (suite,))}
    _narrow(graph[f"graph/table-{asked.key}/dvc.yaml"]["stages"]["row"]["do"], suites)
    return {"params.yaml": tree, **graph, f"tables/{asked.key}.yaml": asked.table()}


def params(root: Path, tree: Mapping[str, Any], asked: Sweep) -> dict[str, Any]:
    """Return params.yaml with the runs of a sweep in place of its own, and with its table alone."""
    datasets = snapshot.absolute_roots(root, tree.get("datasets", {}))
    more: dict[str, Any] = {"datasets": datasets} if datasets else {}
    runs = initial_weights.with_models(asked.runs(), tree.get("runs", {}).get)
    more["initial"] = initial_weights.section(runs, root / "models")
    return {**tree, **more, "runs": runs, "rows": asked.rows(asked.key), "tables": {asked.key: {}}}


def _narrow(row: dict[str, Any], suites: set[str]) -> None:
    """Have the stage `row` read these suites alone, so that no other has to be measured."""
    wanted = {"train", *suites}
    row["deps"] = [dep for dep in row["deps"] if (found := SUITE.match(dep)) is None or found[1] in wanted]
    row["cmd"] += f" --suites={','.join(sorted(suites - {'train'}))}"
