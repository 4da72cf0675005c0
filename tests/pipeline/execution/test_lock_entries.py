"""Entries written one by one are what DVC writes, byte by byte; where that is not sure, DVC writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml, modify_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.execution import lock_entries
from pipeline.execution.lock_entries import HEAD
from tests.pipeline.dummy import Dummy

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=120)
SCALARS = st.none() | st.booleans() | st.integers() | st.decimals(-999, 999, places=3).map(float) | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
NAMES = st.sampled_from(["resolve", "train@r0", "train@r10", "row@t-a.b", "x_1"])
ENTRIES = st.fixed_dictionaries({"cmd": WORDS, "params": st.dictionaries(WORDS, VALUES, max_size=3)})


def as_dvc_does(path: Path, name: str, entry: dict[str, Any]) -> str:
    """Do what `Lockfile.dump_stages` of DVC does to the file."""
    with modify_yaml(path) as data:
        data["stages"] = data.get("stages", {})
        data["stages"].update({name: entry})
    return path.read_bytes().decode()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, ENTRIES), min_size=1, max_size=6))
def test_an_entry_is_written_as_dvc_writes_it(
    tmp_path_factory: pytest.TempPathFactory, updates: list[tuple[str, dict[str, Any]]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock"
    text: str | None = dumps_yaml({"schema": "2.0", "stages": {"first": {"cmd": "true"}}})
    path.write_bytes((text or "").encode())
    for name, entry in updates:
        expected = as_dvc_does(path, name, entry)
        assert text is not None
        text = lock_entries.replaced(text, dumps_yaml({"schema": "2.0", "stages": {name: entry}}))
        assert text == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        "<<<<<<< ours\n" + HEAD + "  a:\n    cmd: x\n",
        HEAD + "  a:\n    cmd: x\n=======\n  b:\n    cmd: y\n",
        HEAD + "  a:\n    cmd: x\n# mine\n",
        HEAD + "  'a':\n    cmd: x\n",
        HEAD + "  a:\n    cmd: x\n  a:\n    cmd: y\n",
        HEAD + "  true:\n    cmd: x\n",
        HEAD + "  a: {cmd: x}\n",
        HEAD + "  a:\n    cmd: x\ndatasets:\n- name: d\n",
        HEAD + "  a:\n    cmd: x",
    ],
)
def test_a_file_that_is_not_as_dvc_writes_it_is_left_to_dvc(text: str) -> None:
    assert lock_entries.replaced(text, HEAD + "  b:\n    cmd: y\n") is None


def test_a_real_project_s_entries_are_read_and_written_as_by_dvc(
    make_dummy: Callable[..., Dummy], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.dvcfile import Lockfile
    from dvc.repo import Repo

    project = make_dummy(1)
    project.run("dvc", "repro")
    monkeypatch.chdir(project.path)
    paths = [project.path / "dvc.lock", *sorted(project.path.glob("graph/*/dvc.lock"))]
    for path in paths:  # all have run with another command; the first never did, where there are more
        text = path.read_text().replace("cmd: python", "cmd: python3")
        (_, (begin, end)), *others = (lock_entries.spans(text) or {}).items()
        path.write_text(text[:begin] + text[end:] if others else text)
        shutil.copy(path, path.with_suffix(".before"))

    def written() -> list[str]:
        for path in paths:
            shutil.copy(path.with_suffix(".before"), path)
        with Repo(str(project.path)) as repo, repo.lock:
            for stage in repo.index.stages:
                stage.save_deps()
                stage.save_outs()
                stage.dump(update_pipeline=False)
        return [path.read_text() for path in paths]

    monkeypatch.setattr(lock_entries, "_their_load", Lockfile.load)
    monkeypatch.setattr(lock_entries, "_their_dump_stages", Lockfile.dump_stages)
    theirs = written()
    monkeypatch.setattr(Lockfile, "load", lock_entries._load)
    monkeypatch.setattr(Lockfile, "dump_stages", lock_entries._dump_stages)
    assert written() == theirs
    assert "Data and pipelines are up to date." in project.run("dvc", "status").stdout


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text("before")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        lock_entries._write(path, "after")
    assert [file.name for file in tmp_path.iterdir()] == ["dvc.lock"]
    assert path.read_text() == "before"
