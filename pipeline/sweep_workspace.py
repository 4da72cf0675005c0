"""A sweep's workspace: the project as it is now with other runs, beside it, on the same cache.

DVC's templates read params.yaml, so runs that shall not stand there need another one. The workspace is a folder
under ``.facet/sweeps`` with a snapshot of the project's files, a params.yaml of the sweep's runs alone, and the
stage `spread` behind them. It shares DVC's cache with the project and with other sweeps: what any of them made is
restored, not run again. Two sweeps never meet in a file; the same sweep again finds its checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline import environment, side_workspace, sweep
from pipeline.sweep import Variant

SPREAD = "spread"
DESCRIPTION = "sweep.yaml"
OF_TABLES = ("row", "tabulate", "report", "track")
CODE = ("artifacts", "core/spread", "program", "report", "spread")


@dataclass(frozen=True)
class Sweep:
    """What is asked for, in words and in full."""

    title: str
    variants: Sequence[Variant]
    columns: Sequence[Mapping[str, Any]]

    @property
    def axes(self) -> list[str]:
        """Names of what varies: ``run``, if there are several, and the parameters."""
        several = len({variant.base for variant in self.variants}) > 1
        paths = dict.fromkeys(path for variant in self.variants for path in variant.settings)
        return [*(["run"] if several or not paths else []), *paths]

    @property
    def key(self) -> str:
        """A name for its workspace: the same sweep again goes on where it was."""
        text = json.dumps(self.description(), sort_keys=True)
        return f"{self.variants[0].base}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def description(self) -> dict[str, Any]:
        """Return what the stage `spread` reads."""
        return {
            "title": self.title,
            "axes": self.axes,
            "columns": [dict(column) for column in self.columns],
            "variants": [
                {
                    "label": label(variant),
                    "settings": {"run": variant.base, **variant.settings},
                    "runs": dict(variant.runs),
                }
                for variant in self.variants
            ],
        }


def label(variant: Variant) -> str:
    """Return a variant's name for people.

    >>> label(Variant("arcface", {"head.margin": 0.3}, {}))
    'arcface head.margin=0.3'
    """
    return " ".join([variant.base, *(f"{path}={value}" for path, value in variant.settings.items())])


def folder(root: Path, asked: Sweep) -> Path:
    """Return where the workspace of a sweep is."""
    return environment.state_folder(root).resolve() / "sweeps" / asked.key


def is_one(path: Path) -> bool:
    """Whether a workspace is a sweep's."""
    return (path / DESCRIPTION).is_file()


@contextmanager
def opened(root: Path, asked: Sweep) -> Iterator[tuple[Path, bool]]:
    """Bring the workspace up to date and keep it so while the block runs.

    Yields:
        The folder, and whether it could be brought up to date, as ``side_workspace.opened`` says.
    """
    path = folder(root, asked)
    with side_workspace.opened(root, path, lambda: _generated(root, asked)) as alone:
        yield path, alone


def _generated(root: Path, asked: Sweep) -> dict[str, Mapping[str, Any]]:
    tree = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params = sweep_params(root, tree, asked.variants)
    return {"params.yaml": params, "dvc.yaml": _graph(root, asked), DESCRIPTION: asked.description()}


def sweep_params(root: Path, tree: Mapping[str, Any], variants: Sequence[Variant]) -> dict[str, Any]:
    """Return params.yaml with the runs of a sweep in place of its own, and without tables."""
    runs = {
        name: sweep.parameters(tree["runs"][variant.base], variant.settings, seed)
        for variant in variants
        for name, seed in variant.runs.items()
    }
    datasets = side_workspace.absolute_roots(root, tree.get("datasets", {}))
    more = {"datasets": datasets} if datasets else {}
    return {**tree, **more, "runs": runs, "rows": {}, "tables": {}}


def _graph(root: Path, asked: Sweep) -> dict[str, Any]:
    """Return the root's dvc.yaml without what makes tables, with the stage that makes the sweep's."""
    graph: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    suites = sorted({str(column["metric"]).partition(".")[0] for column in asked.columns})
    runs = [run for variant in asked.variants for run in variant.runs]
    metrics = [f"results/{run}/{suite}.json" for run in runs for suite in suites]
    code = [f"stages/{name}.py" for name in CODE if (root / f"stages/{name}.py").is_file()]
    stages = {name: stage for name, stage in graph["stages"].items() if name not in OF_TABLES}
    stages[SPREAD] = {
        "cmd": f"python -m stages.spread {DESCRIPTION}",
        "deps": [DESCRIPTION, *metrics, *code],
        "outs": [f"results/{SPREAD}"],
        "meta": {"device": "cpu"},
    }
    return {**graph, "stages": stages}
