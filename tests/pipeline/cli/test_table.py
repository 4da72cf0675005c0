"""`facet table`: of one, of all, at another commit, with what DVC and MLflow know of each run."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from pipeline.base import workspace
from pipeline.cli import app
from pipeline.servers import servers
from pipeline.tables import provenance
from pipeline.tracking import lineage, recorded_ids
from pipeline.tracking.lineage import Entry
from pipeline.tracking.recorded_ids import RecordedIds, RecordedRun

REPORT = "results/tables/heads/report"


def tree(tau: float | None, **lfw: float) -> dict[str, Any]:
    """table.json of rows with one measured column, and one that is not measurable."""
    return {
        "title": "Heads",
        "agreement": {"tau": tau},
        "columns": [{"name": "LFW", "decimals": 2}, {"name": "IJB-B", "decimals": 2}],
        "rows": [
            {
                "label": label,
                "cells": {
                    "LFW": {"measured": value, "missing": "", "std": 0.5 if label == "AdaFace" else None},
                    "IJB-B": {"measured": None, "missing": "not measurable"},
                },
            }
            for label, value in lfw.items()
        ],
    }


OLD = tree(0.33, ArcFace=90.0, AdaFace=91.0, CosFace=89.0)
NEW = tree(1.0, ArcFace=90.0, AdaFace=90.25, SphereFace=92.0)


def git(root: Path, *arguments: str) -> None:
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *name, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


def lock(root: Path, table: dict[str, Any] | None) -> None:
    """Write a report, and what DVC would: its lock file and its cache."""
    if table is None:
        return
    text = json.dumps(table)
    (root / REPORT).mkdir(parents=True, exist_ok=True)
    (root / REPORT / "table.json").write_text(text)
    md5 = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    cached(root, md5, text)
    folder_md5 = lineage.folder_md5(root / REPORT)
    cached(root, folder_md5, json.dumps([{"md5": md5, "relpath": "table.json"}]))
    out = {"path": REPORT, "hash": "md5", "md5": folder_md5, "size": len(text), "nfiles": 1}
    stages = {"tabulate@heads": {"cmd": "true", "outs": [out]}}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def cached(root: Path, md5: str, text: str) -> None:
    path = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two commits: without a table, and with an old one; now there is a new one."""
    root = tmp_path_factory.mktemp("diff")
    git(root, "init", "--quiet", "--initial-branch=main")
    for name, text in {
        ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
        ".dvc/.gitignore": "/tmp\n/cache\n/config.local\n",
        ".gitignore": "/results/*/*/\n/.facet/\n",
        "dvc.yaml": "stages:\n  tabulate:\n    foreach: {heads: {}}\n    do: {cmd: 'true', outs: ["
        + "'results/tables/${key}/report'"
        + "]}\n",
        "params.yaml": "tables: {heads: {}}\n",
        "tables/heads.yaml": "title: Heads\n",
        "tables/scface.yaml": "title: SCface\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "docs/report").mkdir(parents=True)
    (root / "docs/report/index.json").write_text(json.dumps({"tables": [{**OLD, "name": "scface"}]}))
    commit(root, "nothing yet")
    lock(root, OLD)
    commit(root, "old")
    lock(root, NEW)
    return root


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def facet(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["table", *arguments])


def test_a_table_beside_itself_at_a_commit_shows_old_new_and_the_difference(project: Path):
    lines = facet("heads", "--diff", "HEAD").output.splitlines()
    assert lines == [
        "# Heads: HEAD and now",
        "",
        "Kendall's τ +0.33, then +1.00.",
        "",
        "|  |  | LFW | IJB-B |",
        "| :-- | :-- | --: | --: |",
        "| **AdaFace** | HEAD | 91.00 ± 0.50 | not measurable |",
        "|  | now | 90.25 ± 0.50 | not measurable |",
        "|  | difference | −0.75 |  |",
        "| **SphereFace** | HEAD |  |  |",
        "|  | now | 92.00 | not measurable |",
        "|  | difference |  |  |",
        "| **CosFace** | HEAD | 89.00 | not measurable |",
        "|  | now |  |  |",
        "|  | difference |  |  |",
        "",
        "Unchanged: ArcFace.",
    ]


def test_the_same_as_data_is_one_line_a_cell(project: Path):
    rows = list(csv.DictReader(facet("heads", "--diff", "HEAD", "--format", "csv").output.splitlines()))
    assert rows[2] == {"row": "AdaFace", "column": "LFW", "HEAD": "91.00", "now": "90.25", "difference": "-0.75"}
    assert len(rows) == 8


def test_a_table_of_the_kept_report_is_read_from_git(project: Path):
    path = project / ".facet/ablations/demo/results/tables/scface/report/table.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(NEW))
    answer = facet("scface", "--diff", "HEAD~1")
    assert "| **AdaFace** | HEAD~1 | 91.00 ± 0.50 |" in answer.stdout
    assert answer.stderr == "of facet ablations, scale demo\n"
    assert facet("scface", "--scale", "demo", "--format", "json").stdout == json.dumps(NEW) + "\n"
    other = project / ".facet/ablations/faces/results/tables/scface/report"
    other.mkdir(parents=True)
    assert facet("scface").stderr == (
        "error: results/tables/scface/report exists for the scales demo, faces: choose one with --scale\n"
    )
    other.rmdir()
    assert facet("scface", "--diff", "HEAD~1..HEAD").stdout.endswith("Unchanged: ArcFace, AdaFace, CosFace.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("heads", "--diff", "nope"), "error: no revision 'nope': give a commit, tag or branch, as HEAD~1\n"),
        (("heads", "--diff", "HEAD~1"), "error: HEAD~1 has no table 'heads': at that commit no dvc.lock has"),
        (("head", "--diff", "HEAD"), "error: no table 'head': there are heads, scface\n"),
        (("heads", "--diff", "HEAD", "--format", "tex"), "error: --diff is printed as md or csv, not as tex\n"),
        (("heads", "--all"), "error: give one table, as in `facet table demo`, or --all"),
        ((), "error: give one table, as in `facet table demo`, or --all"),
        (("--all",), "error: the report has not been made yet: run `facet run report`\n"),
        (("--all", "--scale", "faces"), "run `facet ablations --scale faces`\n"),
        (("scface", "--scale", "faces"), "has not been made yet: run `facet ablations scface --scale faces`\n"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(project: Path, arguments: tuple[str, ...], words: str):
    answer = facet(*arguments)
    assert answer.exit_code == 2
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_table_whose_files_are_in_no_cache_says_how_to_have_them(project: Path, tmp_path: Path):
    subprocess.run(["git", "clone", "--quiet", str(project), str(tmp_path / "clone")], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "clone")
        answer = facet("heads", "--diff", "HEAD..HEAD")
    assert answer.stderr.startswith(f"error: {REPORT}/table.json of HEAD is neither in DVC's cache nor in a remote")


def test_all_tables_are_printed_in_the_format_asked_for(project: Path):
    folder = project / ".facet/ablations/demo/results/report"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.tex").write_text("all")
    assert facet("--all", "--format", "tex").stdout == "all\n"
    (folder / "index.tex").unlink()
    folder.rmdir()


def test_a_page_is_given_fingerprint_commit_and_link_of_each_run(project: Path, monkeypatch: pytest.MonkeyPatch):
    entry = Entry("train_backbone@arcface", "true", outs={"runs/arcface": "1"})
    monkeypatch.setattr(lineage, "read", lambda root: lineage.Locked({entry.name: entry}))
    monkeypatch.setattr(servers, "elsewhere", lambda: {servers.MLFLOW: "http://mlflow.example:5000"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    run = RecordedRun(entry.name, "7", "abc", True, "12ab, with changes")
    ids = RecordedIds({"runs": "7"}, {"runs": {lineage.fingerprint(entry): run}})
    recorded_ids.write(project, "http://mlflow.example:5000", ids)
    shown = provenance.add("a<!-- recorded arcface -->b<!-- recorded cosface -->c", workspace.of_project(project))
    assert f"<dt>fingerprint</dt><dd>{lineage.fingerprint(entry)}</dd>" in shown
    assert "<dt>recorded at commit</dt><dd>12ab, with changes</dd>" in shown
    assert 'href="http://mlflow.example:5000/#/experiments/7/runs/abc"' in shown
    assert shown.endswith("train_backbone@cosface is not in dvc.lock</dd>c")
    monkeypatch.setattr(servers, "elsewhere", dict)
    without = provenance.add("<!-- recorded arcface -->", workspace.of_project(project))
    assert "12ab, with changes" in without
    assert "href" not in without, "no server, no link"
