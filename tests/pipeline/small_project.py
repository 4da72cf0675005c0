"""A real DVC repository with invented training and evaluation results: its whole graph runs in seconds.

`row`, `tabulate` and `track` are the repository's own stages, taken from dvc.yaml; `measure@RUN` stands for
all that comes before them, and `train_backbone@RUN` writes a model so small that it is exported in a moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.fake_results import SCALE, TABLE, full
from tests.support import ROOT, Project

RUNS = ("arcface", "adaface")
TABLE_OF_TWO = {**TABLE, "rows": {run: TABLE["rows"][run] for run in RUNS}}
SUITES = ("hq", "ijb", "lq", "fiqa")


def make(path: Path, program: Path, seeds: int = 1, runs: Sequence[str] = RUNS) -> Project:
    """Make the project, committed and not yet run; ``program`` is an exported backbone."""
    named = names(runs, seeds)
    for folder in ("stages", "pipeline"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, path / folder, ignore=ignore)
    for name in (".gitignore", ".dvcignore", "tests/fake_results.py"):
        shutil.copy(ROOT / name, path / Path(name).name)
    shutil.copy(program, path / "program.pt2")
    params = {
        "profile": "demo",
        "runs": {run: {"margin": 0.5} for stems in named.values() for run in stems.values()},
        "rows": {stem: {"table": "heads", "run": run} for stems in named.values() for stem, run in stems.items()},
        "tables": {"heads": {}},
    }
    (path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_table(path, {**TABLE, "rows": {run: TABLE["rows"][run] for run in runs}}, seeds)
    (path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages()}, sort_keys=False))
    (path / "invent.py").write_text(INVENT)
    project = Project(path)
    resolve(project)
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("git", "add", "-A"),
                    ("git", "commit", "-qm", "start")):  # fmt: skip
        project.run(*command)
    return project


def resolve(project: Project) -> None:
    """Write resolved/runs from params.yaml."""
    for run in yaml.safe_load((project.path / "params.yaml").read_text())["runs"]:
        project.run("python", "invent.py", "resolve", run)


def names(runs: Iterable[str], seeds: int) -> dict[str, dict[str, str]]:
    """Return the rows of params.yaml and their runs, for each row of the table."""
    return {
        run: {f"heads-{run}" + (f"-{n}" if n else ""): run + (f"_s{n}" if n else "") for n in range(seeds)}
        for run in runs
    }


def write_table(path: Path, table: dict[str, Any], seeds: int = 1) -> None:
    """Write the table as `resolve` would."""
    target = path / "resolved/tables/heads.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    measured = names((key for key, row in table["rows"].items() if row["run"] is not None), seeds)
    tree = {"table": full(table), "scale": SCALE, "measured": measured}
    target.write_text(yaml.safe_dump(tree, sort_keys=False))


def stages() -> dict[str, Any]:
    """Return the graph: the real last three stages, after two that invent their inputs."""
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    metrics = [{f"results/${{key}}/{name}.json": {"cache": False}} for name in ("quality", *SUITES)]
    without_summary = [dep for dep in ours["row"]["do"]["deps"] if "/curves/" not in dep]
    return {
        "train_backbone": {"foreach": "${runs}", "do": {
            "cmd": "python invent.py train ${key}",
            "deps": ["program.pt2"],  # DVC has no run cache for a stage without
            "params": [{"params.yaml": ["runs.${key}"]}, {"resolved/runs/${key}.yaml": ["train"]}],
            "outs": ["runs/${key}/backbone"],
            "metrics": [{"results/${key}/train.json": {"cache": False}}],
            "plots": [{"results/${key}/train.csv": {"cache": False}}],
        }},
        "measure": {"foreach": "${runs}", "do": {
            "cmd": "python invent.py measure ${key}",
            "deps": ["runs/${key}/backbone"],
            "outs": [f"results/${{key}}/{suite}" for suite in SUITES],
            "metrics": metrics,
        }},
        "row": {**ours["row"], "do": {**ours["row"]["do"], "deps": without_summary}},
        **{name: ours[name] for name in ("tabulate", "track")},
    }  # fmt: skip


INVENT = """
import json, shutil, sys
from pathlib import Path
import yaml
import fake_results

what, run = sys.argv[1:]
margin = yaml.safe_load(Path("params.yaml").read_text())["runs"][run]["margin"]
aside = Path(f"invented-{run}.partial")
fake_results.write_run(aside, run, {}, margin)
for path in sorted(aside.rglob("*.*")):
    target = path.relative_to(aside)
    made_by = {"resolved": "resolve"}.get(target.parts[0], "train" if target.stem == "train" else "measure")
    if made_by == what:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        if target.suffix == ".csv" and what == "measure":  # no points: drawing them would take most of the time
            target.write_text(path.read_text().splitlines(keepends=True)[0])
shutil.rmtree(aside)
if what == "train":
    folder = Path("runs", run, "backbone")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy("program.pt2", folder / "program.pt2")
    facts = {"weights_sha256": fake_results.weights_sha256(run, margin), "feature_dim": 4, "image_size": 112,
             "color_order": "BGR"}
    (folder / "model.json").write_text(json.dumps(facts))
"""
