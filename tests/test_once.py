"""Folders that workers of one run share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.once import Once, folders


def worker(base: Path, name: str) -> Once:
    (base / name).mkdir()
    return folders(SimpleNamespace(getbasetemp=lambda: base / name))  # type: ignore[arg-type]


def test_workers_that_want_a_folder_at_once_get_the_one_that_one_of_them_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    workers = {name: worker(tmp_path, name) for name in ("gw0", "gw1", "gw2")}

    def ask(name: str) -> str:
        folder = workers[name]("cats", lambda folder: (folder / "cat").write_text(name))
        return (folder / "cat").read_text()

    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(ask, workers))) == 1


def test_what_could_not_be_filled_is_begun_anew_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no cats")

    with pytest.raises(ValueError, match="no cats"):
        worker(tmp_path, "gw0")("cats", fail)
    folder = worker(tmp_path, "gw1")("cats", lambda folder: (folder / "cat").touch())
    assert [path.name for path in folder.iterdir()] == ["cat"]


def test_without_workers_each_run_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    folder = worker(tmp_path, "run")("cats", lambda folder: None)
    assert folder.is_relative_to(tmp_path / "run")
