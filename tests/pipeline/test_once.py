from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import graph
from tests.pipeline.dummy import Dummy


def test_a_file_that_many_stages_read_is_hashed_and_parsed_once_and_what_changed_is_seen(
    make_dummy: Callable[..., Dummy], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.dependency import param
    from dvc.output import Output

    project = make_dummy(3)
    project.run("dvc", "repro")
    monkeypatch.chdir(project.path)
    looked: Counter[str] = Counter()
    hash_meta, load_path = Output._get_hash_meta, param.load_path

    def hashing(out: Any) -> Any:
        looked[out.fs_path] += 1
        return hash_meta(out)

    def parsing(path: str, *arguments: Any, **options: Any) -> Any:
        looked[path] += 1
        return load_path(path, *arguments, **options)

    monkeypatch.setattr(Output, "_get_hash_meta", hashing)
    monkeypatch.setattr(param, "load_path", parsing)
    assert graph.read(project.path).stale() == {}
    # once as what a stage makes, once as what three others read
    assert looked[str(project.path / "data/unpacked.txt")] == 2
    assert set(looked.values()) == {1, 2}
    (project.path / "data/unpacked.txt").write_text("other")
    (project.path / "resolved/runs/r1.yaml").write_text("train: {margin: 9}\n")
    stale = graph.read(project.path).stale()
    trainings = {address.partition(":")[2]: why for address, why in stale.items() if "train_backbone" in address}
    assert all("data/unpacked.txt modified" in why for why in trainings.values())
    assert [name for name, why in trainings.items() if any("r1.yaml:train" in each for each in why)] == ["train_backbone@r1"]
    assert len(trainings) == 3
