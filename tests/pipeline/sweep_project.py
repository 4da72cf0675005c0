"""A small project whose runs can be swept, and what a sweep left in its workspaces and in MLflow."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy

# writes what our own stages `row` and `tabulate`, and the tracker, read
MEASURE = """\
    train = yaml.safe_load(open(f"resolved/runs/{key}.yaml"))["train"] if path.parts[0] in ("results", "runs") else {}
    text = json.dumps({"loss": 0.5, "weights_sha256": key})
    if path.name == "hq.json":
        text = json.dumps({"lfw": 0.9 + train["margin"] / 10 + train["seed"] / 100, "weights_sha256": key})
    if path.suffix == ".csv":
        text = "epoch,loss\\n1,0.5\\n" if path.name == "train.csv" else "set,far,tar,fnmr\\n"
    if path.name == "details.json":
        text = json.dumps({"protocol": {}, "switches": {}, "sets": {}})
    if path.suffix:
"""
RESOLVE = """\
if kind == "resolve":
    from stages.config.table import Table
    for name in params["tables"]:
        measured = {}
        for row, said in params["rows"].items():
            if said["table"] == name:
                measured.setdefault(row.split("-")[1], {})[row] = said["run"]
        table = Table.model_validate(yaml.safe_load(open(f"tables/{name}.yaml"))).model_dump(mode="json")
        path = pathlib.Path("resolved/tables", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"table": table, "scale": {"profile": "demo"}, "measured": measured}))
"""
GRAPH = {
    "row": {"foreach": "${rows}", "do": {
        "cmd": "python -m stages.row ${key} ${item.run}",
        "params": [{"resolved/runs/${item.run}.yaml": ["train"]}],
        # of `lq` and `quality`, which this project does not measure, a sweep over a column of `hq` wants nothing
        "deps": [f"results/${{item.run}}/{name}" for name in (
            "train.json", "quality.json", "hq.json", "hq/details.json", "hq/roc.csv", "lq.json", "lq/details.json")],
        "outs": ["results/tables/${item.table}/rows/${key}.json"],
    }},
    "tabulate": {"foreach": "${tables}", "do": {
        "cmd": "python -m stages.tabulate ${key}",
        "params": [{"resolved/tables/${key}.yaml": ["table", "scale", "measured"]}],
        "deps": ["results/tables/${key}/rows"],
        "outs": ["results/tables/${key}/report"],
    }},
}  # fmt: skip
TABLE = {
    "title": "Heads", "source": "none", "columns": [{"name": "LFW", "metric": "hq.lfw"}],
    "rows": {"r1": {"label": "R1", "run": "r1"}},
}  # fmt: skip


def make(path: Path, api_url: str | None = None) -> Dummy:
    project = dummy.make(path, runs=2, api_url=api_url)
    program = project.path / "work.py"
    text = program.read_text().replace("    if path.suffix:\n", MEASURE).replace("for out in outs:\n", f"{RESOLVE}for out in outs:\n")
    program.write_text(text.replace('{"train": section}', '{"train": {"seed": 0, **section}}'))
    (project.path / "tables").mkdir()
    (project.path / "tables/heads.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    graph = yaml.safe_load((path / "dvc.yaml").read_text())
    graph["stages"] |= GRAPH
    (path / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    more(path / "graph/train_backbone/dvc.yaml", "train.json", "train.csv")
    more(path / "graph/evaluate_hq/dvc.yaml", "hq/details.json", "hq/roc.csv")
    project.write_params({**project.params(), "rows": {"heads-r1": {"table": "heads", "run": "r1"}}, "tables": {"heads": {}}})
    params = (project.path / "params.yaml").read_text()
    (project.path / "params.yaml").write_text(f"# a comment that stays\n{params}")
    return project


def more(path: Path, *names: str) -> None:
    """Have the stage of a graph's file write more results."""
    graph = yaml.safe_load(path.read_text())
    (stage,) = graph["stages"].values()
    outs = [f"results/${{key}}/{name}" for name in names]
    stage["do"]["cmd"] += "".join(f" {out}" for out in outs)
    stage["do"]["metrics"] = [*stage["do"].get("metrics", []), *({out: {"cache": False}} for out in outs)]
    path.write_text(yaml.safe_dump(graph, sort_keys=False))


def workspace(project: Dummy) -> Path:
    (found,) = (project.path / ".facet/sweeps").glob("r1_*")
    return found


def workspace_of(project: Dummy, run: str) -> Path:
    """The workspace of the sweep that trains a run as it stands."""
    paths = (project.path / ".facet/sweeps").glob("*/params.yaml")
    (found,) = [path.parent for path in paths if run in yaml.safe_load(path.read_text())["runs"]]
    return found


def counts(*folders: Path) -> Counter[str]:
    """How often each stage began, in all workspaces."""
    journals = [folder / "journal.jsonl" for folder in folders]
    lines = [line for path in journals if path.exists() for line in path.read_text().splitlines()]
    return Counter(entry["stage"] for entry in map(json.loads, lines) if entry["what"] == "start")


def records(project: Dummy) -> dict[tuple[str, str], dict[str, Any]]:
    """MLflow's runs by the end of their experiment's key and name: tags, params, metrics."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    ask = """select run_uuid, r.name, t.value from runs r join experiment_tags t on t.experiment_id = r.experiment_id
             where r.lifecycle_stage = 'active' and t.key = 'facet.key'"""
    with sqlite3.connect(f"file:{project.path}/tracking/mlflow.db?mode=ro", uri=True) as store:
        for run, name, key in store.execute(ask).fetchall():
            kind = key.rpartition(".")[2]
            assert (kind, name) not in found
            found[kind, name] = {
                table: dict(store.execute(f"select key, value from {table} where run_uuid = ?", (run,)).fetchall())
                for table in ("tags", "params", "latest_metrics")
            }
    store.close()
    return found
