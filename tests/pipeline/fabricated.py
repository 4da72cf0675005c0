"""A finished project without DVC: invented measurements, the real stages `row` and `tabulate`, and the lock file."""

from __future__ import annotations

import contextlib
import json
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.tracking import lineage
from stages import row, tabulate
from tests import fake_results
from tests.fake_results import TABLE, full
from tests.pipeline.small_project import names

ROWS = ("arcface", "cosface", "adaface")
PUBLISHED_ONLY = {"label": "BroadFace", "run": None, "published": {"IJB-B TAR at FAR 1e-4": 94.97}}


def make(
    root: Path,
    seeds: int = 1,
    rows: Sequence[str] = ROWS,
    program: Path | None = None,
    margin: float = 0.5,
    plots: bool = False,
    **table: Any,
) -> dict[str, Any]:
    """Write a finished project; return its table as resolved.

    Args:
        root: an existing folder.
        seeds: how many runs each row has.
        rows: of the table, which are its runs too.
        program: an exported backbone, which every run gets; None: no models.
        margin: of arcface; the larger, the better it is.
        plots: whether the report has curves, which take time to draw.
        **table: lies over the table.
    """
    of_runs = {key: TABLE["rows"][key] for key in rows}
    tree = {**TABLE, "rows": {"broadface": PUBLISHED_ONLY, **of_runs}, **table}
    measured = names(rows, seeds)
    stages: dict[str, Any] = {}
    for stems in measured.values():
        for stem, run in stems.items():
            fake_results.write_run(root, run, {}, margin if run.startswith("arcface") else 0.5)
            stages |= _training(root, run, program)
            for curve in [] if plots else (root / "results" / run).glob("*/*.csv"):
                curve.write_text(curve.read_text().splitlines(keepends=True)[0])
            with contextlib.chdir(root):
                row.main(row.parser().parse_args([stem, run]))
            stages[f"row@{stem}"] = _entry(
                root, f"row {stem} {run}", outs=[f"results/tables/heads/rows/{stem}.json"],
                deps=[f"results/{run}/train.json", f"results/{run}/hq.json"],
            )  # fmt: skip
    resolved = {"table": full(tree), "scale": fake_results.SCALE, "measured": measured}
    fake_results.write(root / "resolved/tables/heads.yaml", yaml.safe_dump(resolved, sort_keys=False))
    with contextlib.chdir(root):
        tabulate.main(Namespace(table="heads"))
    stages["tabulate@heads"] = _entry(root, "tabulate heads", outs=["results/tables/heads/report"])
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))
    return resolved


def _training(root: Path, run: str, program: Path | None) -> dict[str, Any]:
    metrics = f"results/{run}/train.json"
    outs = [metrics, f"results/{run}/train.csv"]
    if (root / f"results/{run}/train").is_dir():  # made by a test
        outs.append(f"results/{run}/train")
    if program is not None:
        folder = root / "runs" / run / "backbone"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, folder / "program.pt2")
        sha256 = json.loads((root / metrics).read_text())["weights_sha256"]
        facts = {"weights_sha256": sha256, "feature_dim": 4, "image_size": 112, "color_order": "BGR"}
        (folder / "model.json").write_text(json.dumps(facts))
        (folder / "environment.json").write_text(json.dumps({"python": "3.11.7", "cuda": None, "processes": 2}))
        outs.append(f"runs/{run}/backbone")
    resolved = f"resolved/runs/{run}.yaml"
    params = {resolved: {"train": yaml.safe_load((root / resolved).read_text())["train"]}}
    return {f"train_backbone@{run}": _entry(root, f"train {run}", outs=outs) | {"params": params}}


def _entry(root: Path, cmd: str, outs: Sequence[str], deps: Sequence[str] = ()) -> dict[str, Any]:
    return {"cmd": cmd, "deps": _hashed(root, deps), "outs": _hashed(root, outs)}


def _hashed(root: Path, paths: Sequence[str]) -> list[dict[str, str]]:
    md5 = {path: lineage.folder_md5 if (root / path).is_dir() else lineage.file_md5 for path in paths}
    return [{"path": path, "md5": md5[path](root / path)} for path in paths]
