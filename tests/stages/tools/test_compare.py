"""`facet compare` and `facet score` as programs, with a small network in models/."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.models import lookup
from tests.stages.embedding.test_embedder import write_model
from tests.stages.small_sets import face
from tests.support import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "models").mkdir(parents=True)
    write_model(path / "models/small")
    (path / "pictures").mkdir()
    for n in range(3):
        cv2.imwrite(str(path / f"pictures/{n}.png"), face(n))
    (path / "pictures/bad.jpg").write_bytes(b"bad")
    return path


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


def call(project: Path, tool: str, *words: str) -> Answer:
    """Run a tool as its program does, but here: importing torch takes seconds."""
    module = importlib.import_module(f"stages.tools.{tool}")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(project), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        arguments = module.parser().parse_args(words)
        try:
            module.main(arguments)
        except (ValueError, LookupError, OSError) as error:
            return Answer(2, out.getvalue(), f"error: {error.args[0] if isinstance(error, KeyError) else error}\n")
    return Answer(0, out.getvalue(), err.getvalue())


def test_the_command_facet_starts_the_program(project: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "compare", "pictures/0.png", "--aligned", "--model", "smal"]
    answer = subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (answer.returncode, answer.stderr) == (2, "error: no model 'smal': there are small\n")


def test_compare_prints_a_matrix_and_why_there_is_no_verdict(project: Path) -> None:
    answer = call(project, "compare", "pictures/0.png", "pictures/1.png", "pictures/bad.jpg", "--aligned", "--model", "small")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["0.png", "1.png", "feature_norm"]
    name, first, second, _ = lines[1].split()
    assert (name, first) == ("0.png", "1.0000")
    assert lines[2].split()[1] == second
    assert "no verdict: models/small/results/hq/details.json is missing" in answer.stdout
    assert answer.stderr == "skipped: pictures/bad.jpg is not a readable picture: give JPEG, PNG, WebP, TIFF or BMP\n"


def test_compare_judges_by_what_was_evaluated_and_draws(project: Path) -> None:
    at = {"1e-03": {"strict": {"tar": 0.9, "far_read": 0.001, "threshold": -1.0}}}
    path = project / "models/small/results/hq/details.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"switches": {"fusion": "none"}, "sets": {"lfw": {"tar_at_far": at}}}))
    try:
        words = ["compare", "pictures/0.png", "pictures/1.png", "--aligned", "--model", "small"]
        answer = call(project, *words, "--picture", "out/drawn.png")
        assert "0.png and 1.png: same person" in answer.stdout
        assert "there 0.10% of impostor pairs match, and 90.0% of genuine ones (measured on lfw)" in answer.stdout
        assert cv2.imread(str(project / "out/drawn.png")).shape[0] > 300
        tree = json.loads(call(project, *words, "--json").stdout)
        assert tree["pairs"][0]["same"] is True
        assert tree["faces"][0]["quality"]["feature_norm"] > 0
        given = call(project, *words, "--threshold", "2")
        assert "0.png and 1.png: different people\nsame person: cosine of 2 or more, as given" in given.stdout
    finally:
        path.unlink()


def test_compare_refuses_what_it_cannot_use_in_one_sentence(project: Path) -> None:
    answer = call(project, "compare", "pictures/0.png", "--aligned", "--model", "smal")
    assert (answer.returncode, answer.stderr) == (2, "error: no model 'smal': there are small\n")
    answer = call(project, "compare", "pictures/0.png", "pictures/bad.jpg", "--aligned", "--model", "small")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: comparing needs at least two faces; pictures/bad.jpg is not a readable picture")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_score_writes_a_row_for_every_picture_and_a_sheet(project: Path, suffix: str) -> None:
    out = f"quality.{suffix}"
    answer = call(project, "score", "pictures", "--aligned", "--model", "small", "--out", out, "--sheet", "sheet.png")
    assert answer.returncode == 0, answer.stderr
    table = pd.read_csv(project / out) if suffix == "csv" else pd.read_parquet(project / out)
    assert list(table["file"]) == ["0.png", "1.png", "2.png", "bad.jpg"]
    assert list(table.columns[:3]) == ["file", "face", "feature_norm"]
    assert np.isfinite(table["feature_norm"][:3]).all()
    assert "3 faces in" in answer.stderr
    assert "1 pictures without, the first: bad.jpg" in answer.stderr
    assert not (project / f"{out}.journal").exists()
    assert cv2.imread(str(project / "sheet.png")).shape[1] > 300


def test_score_refuses_a_table_of_another_kind(project: Path) -> None:
    answer = call(project, "score", "pictures", "--model", "small", "--out", "quality.xlsx")
    assert (answer.returncode, answer.stderr) == (2, "error: --out should end in .csv, .parquet or .json, got quality.xlsx\n")


def test_models_are_found_by_run_by_name_and_by_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    imported = lookup.find("small")
    assert imported.backbone == Path("models/small")
    assert imported.quality is None
    assert lookup.find("models/small").backbone == Path("models/small")
    (project / "runs/small/quality").mkdir(parents=True)
    write_model(project / "runs/small/backbone")
    (project / "runs/small/quality/quality.json").write_text("{}")
    trained = lookup.find("small")
    assert (trained.backbone, trained.results) == (Path("runs/small/backbone"), Path("results/small"))
    assert trained.quality == Path("runs/small/quality")
    assert lookup.names() == ["small"]
