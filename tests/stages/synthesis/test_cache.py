"""Test sets that were drawn before are copied, and drawn anew for another request or other code."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stages.runtime import artifacts, progress
from stages.synthesis import cache


@pytest.fixture(autouse=True)
def in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "STATE", tmp_path / ".facet")


class Drawer:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "lfw.bin").write_text(f"drawn {self.count}")


def fill(folder: Path, asked: dict[str, int], draw: Drawer) -> str:
    folder.mkdir(exist_ok=True)
    cache.fill(folder, asked, draw)
    return (folder / "lfw.bin").read_text()


def test_the_same_request_is_drawn_once_and_damage_to_a_copy_stays_there(tmp_path: Path) -> None:
    draw = Drawer()
    assert fill(tmp_path / "one", {"seed": 1}, draw) == "drawn 1"
    (tmp_path / "one" / "lfw.bin").write_text("damaged")
    assert fill(tmp_path / "two", {"seed": 1}, draw) == "drawn 1"
    assert fill(tmp_path / "three", {"seed": 2}, draw) == "drawn 2"
    assert draw.count == 2


def test_other_code_draws_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Drawer()
    fill(tmp_path / "one", {"seed": 1}, draw)
    (tmp_path / "other.py").write_text("# another line")
    monkeypatch.setattr(progress, "__file__", str(tmp_path / "other.py"))
    assert fill(tmp_path / "two", {"seed": 1}, draw) == "drawn 2"


def test_what_failed_half_way_is_not_kept(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "lfw.bin").write_text("half")
        raise RuntimeError("killed")

    (tmp_path / "one").mkdir()
    with pytest.raises(RuntimeError, match="killed"):
        cache.fill(tmp_path / "one", {"seed": 1}, fail)
    assert fill(tmp_path / "two", {"seed": 1}, Drawer()) == "drawn 1"


def test_two_at_once_draw_once(tmp_path: Path) -> None:
    draw = Drawer()
    threads = [threading.Thread(target=fill, args=(tmp_path / str(k), {"seed": 1}, draw)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert draw.count == 1
    assert all((tmp_path / str(k) / "lfw.bin").read_text() == "drawn 1" for k in range(4))


def test_those_used_last_are_kept(tmp_path: Path) -> None:
    draw = Drawer()
    for seed in range(cache.KEPT + 2):
        fill(tmp_path / "one", {"seed": seed}, draw)
    kept = [path for path in (tmp_path / ".facet/drawn").iterdir() if path.is_dir()]
    assert len(kept) == cache.KEPT
