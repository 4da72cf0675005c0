"""The benchmark of looking, at a size that shows only that it runs: sets that facet reads, and nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_looking
from stages.datasets import ijb, tinyface


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets, unpacked and packed."""
    folder = tmp_path_factory.mktemp("looking")
    bench_looking.make_sets(folder / "loose", 60, 40, 20)
    bench_looking.pack(folder / "loose", folder / "packed")
    return folder


def test_the_sets_are_in_their_official_layouts_and_packed(sets: Path) -> None:
    for side in ("loose", "packed"):
        folder = sets / side / "eval"
        assert len(ijb.load(folder / "ijb", "IJBB").names) == 60
        assert len(ijb.load(folder / "ijb", "IJBC").names) == 40
        assert len(tinyface.load(folder / "tinyface").names) == 60
    files = [path for path in (sets / "packed/eval").rglob("*") if path.is_file()]
    assert len(files) == 3 * 3 + 2 * 3 + 2 + 1  # records, index and table each; lists; lfw.bin


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_finds_that_there_is_nothing_to_do(sets: Path) -> None:
    found = bench_looking.measured(sets / "project", sets / "packed", 3)
    assert list(found) == ["first hash", "look at the folder", *bench_looking.LOOKS]
    assert all(seconds > 0 for seconds in found.values())
    assert (sets / "project/pins/adaface.yaml").is_file()
