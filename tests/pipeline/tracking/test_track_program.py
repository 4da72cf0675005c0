"""`python -m pipeline.track`: a store that cannot be used is one sentence; a bug shows its traceback."""

from __future__ import annotations

import sqlite3

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from pipeline import track
from stages.core.errors import InputError


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(**kwargs: object) -> None:
        raise error

    monkeypatch.setattr(track.sync, "track", refuse)
    monkeypatch.setattr(track.program, "die_with_parent", lambda: None)


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("no such run\nsecond line"),
        OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
        ConnectionError("Connection refused"),
        InputError("tracking/mlflow.db is not a SQLite database"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_store_refuses_is_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    failing(monkeypatch, error)
    assert track.main() == 1
    first = str(error).splitlines()[0]
    wanted = f"error: results are complete, but MLflow refused them: {first}; fix this and run `dvc repro track`\n"
    assert capsys.readouterr().err == wanted


def test_what_was_raised_from_a_refusal_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    error = RuntimeError("could not write")
    error.__cause__ = sqlite3.DatabaseError("malformed")
    failing(monkeypatch, error)
    assert track.main(["--workspace", "ablations/demo"]) == 1
    assert "MLflow refused them: could not write; fix this and run the same command again" in capsys.readouterr().err


def test_a_bug_is_raised(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    failing(monkeypatch, KeyError("hq"))
    with pytest.raises(KeyError, match="hq"):
        track.main()
    said = capsys.readouterr().err
    assert "results are complete, but a bug kept them out of MLflow; `dvc repro track` tries again" in said
    assert "refused" not in said
