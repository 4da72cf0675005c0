"""A pack is whole or not there, goes on where it was killed, and writes nothing into the folder that it reads."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from stages.datasets import scface
from stages.packing import journal, pictures, plan
from stages.tools import pack
from tests.stages import small_sets
from tests.stages.packing.writing import contents, packed


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(journal, "FLUSH_EVERY", 4)
    small_sets.write_scface(tmp_path / "scface")
    return tmp_path / "scface"


def killed_at(source: Path, target: Path, number: int) -> None:
    """Pack in another process, which is killed when it takes image ``number``."""
    left = iter(range(number))

    def take(path: Path) -> pictures.Packed:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return pictures.as_it_is(path)

    process = get_context("fork").Process(target=packed, args=(source, target, take))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not target.exists()


class HalfOnce(io.FileIO):
    """A file of which one write fails, when half of it is written."""

    def write(self, data: Any) -> int:
        if not getattr(self, "failed", False):
            self.failed = True
            super().write(data[: len(data) // 2])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(data)


def test_a_write_that_failed_half_way_is_not_tried_again_and_the_next_pack_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begin = journal.Journal.__enter__

    def fragile(self: journal.Journal) -> journal.Journal:
        begin(self)
        self._records.close()
        self._records = io.BufferedWriter(HalfOnce(self.records, "r+"))
        return self

    with monkeypatch.context() as patched:
        patched.setattr(journal.Journal, "__enter__", fragile)
        with pytest.raises(OSError, match="Input/output error"):
            packed(source, tmp_path / "packed")
    assert packed(source, tmp_path / "packed") == packed(source, tmp_path / "undisturbed")


class Counting:
    """Takes pictures as they are and counts them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, path: Path) -> pictures.Packed:
        self.names.append(path.name)
        return pictures.as_it_is(path)


@pytest.mark.parametrize("number", [0, 1, 13, 34])
def test_a_pack_that_was_killed_goes_on_and_ends_in_the_same_bytes(source: Path, tmp_path: Path, number: int):
    before = contents(source)
    wanted, target, taken = packed(source, tmp_path / "whole"), tmp_path / "killed", Counting()
    killed_at(source, target, number)
    assert packed(source, target, taken) == wanted
    assert len(taken.names) == len(scface.load(source).names) - number // 4 * 4
    assert contents(source) == before
    assert not list(tmp_path.glob("*.partial"))


def test_what_was_half_written_is_written_again(source: Path, tmp_path: Path):
    wanted, target = packed(source, tmp_path / "whole"), tmp_path / "killed"
    killed_at(source, target, 13)
    aside = tmp_path / "killed.partial"
    with (aside / "images.rec").open("ab") as stream:
        stream.write(b"half a record")
    with (aside / journal.JOURNAL).open("a") as stream:
        stream.write('{"end": 12')
    assert packed(source, target) == wanted


def test_a_line_that_was_written_twice_is_not_taken_for_another_image(source: Path, tmp_path: Path):
    for path in (source / "aligned").iterdir():
        path.write_bytes(path.read_bytes().ljust(90_000, b"\0"))
        os.utime(path, (1e9, 1e9))  # as an archive leaves them: all of one size and time
    wanted, target = packed(source, tmp_path / "whole"), tmp_path / "killed"
    killed_at(source, target, 9)
    lines = (tmp_path / "killed.partial" / journal.JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / "killed.partial" / journal.JOURNAL).write_text("".join([*lines[:4], *lines[2:]]))
    assert packed(source, target) == wanted


def test_a_picture_that_changed_since_is_packed_again_with_those_after_it(source: Path, tmp_path: Path):
    target, taken = tmp_path / "killed", Counting()
    killed_at(source, target, 13)
    names = scface.load(source).names
    (source / f"aligned/{names[5]}.jpg").write_bytes(small_sets.encoded(99))
    assert packed(source, target, taken) == packed(source, tmp_path / "whole")
    assert taken.names == [f"{name}.jpg" for name in names[5:]]


def test_with_other_options_or_lists_all_is_packed_anew(source: Path, tmp_path: Path):
    for change in ({"jpeg": 90}, {}):
        target, taken = tmp_path / f"killed{len(change)}", Counting()
        killed_at(source, target, 13)
        (source / "all.txt").write_text((source / "all.txt").read_text() + ("" if change else "\n"))
        packed(source, target, taken, **change)
        assert len(taken.names) == len(scface.load(source).names)


def test_a_folder_that_is_there_is_not_overwritten_and_the_source_never_written(source: Path, tmp_path: Path):
    target = tmp_path / "target"
    packed(source, target)
    before = contents(target)
    with pytest.raises(ValueError, match="target is there already: nothing is overwritten"):
        packed(source, target)
    with pytest.raises(ValueError, match="where nothing is written"):
        packed(source, source / "packed")
    with pytest.raises(ValueError, match="is packed: give the folder that it was made of"):
        packed(target, tmp_path / "again")
    assert contents(target) == before


def test_a_folder_of_no_layout_is_refused_with_those_there_are(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no layout that can be packed: wanted IJBB or IJBC"):
        plan.of(tmp_path / "empty")


def test_a_set_without_any_picture_is_refused(source: Path, tmp_path: Path):
    for path in (source / "aligned").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"none of \d+ pictures can be packed; the first is aligned/001_frontal\.jpg: No such file"):
        packed(source, tmp_path / "target")


def test_the_command_says_what_it_did_and_what_it_could_not(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (source / "aligned/001_frontal.jpg").unlink()
    arguments = pack.parser().parse_args([str(source), str(tmp_path / "packed/scface")])
    pack.main(arguments)
    said = capsys.readouterr().err
    assert "SCface: 35 images of" in said
    assert "34 images in" in said
    assert "1 without a record (1: No such file or directory)" in said
    with pytest.raises(SystemExit):
        pack.parser().parse_args(["--help"])
    assert "facet pack /data/IJB/IJBC /data/packed/eval/ijb/IJBC" in capsys.readouterr().out


def test_a_folder_of_sets_is_packed_set_by_set_and_goes_on(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_ijb(tmp_path / "eval/ijb")
    source.rename(tmp_path / "eval/scface")
    small_sets.write_bin(tmp_path / "eval/lfw.bin")
    before = contents(tmp_path / "eval")
    arguments = pack.parser().parse_args([str(tmp_path / "eval"), str(tmp_path / "packed/eval")])
    pack.main(arguments)
    files = contents(tmp_path / "packed/eval")
    assert files["lfw.bin"] == before["lfw.bin"]
    assert {"ijb/IJBB/images.rec", "scface/images.rec", "ijb/IJBB/meta/ijbb_face_tid_mid.txt"} <= files.keys()
    assert len(files) == 3 * 2 + 3 + 1 + 1
    shutil.rmtree(tmp_path / "packed/eval/scface")
    pack.main(arguments)
    assert contents(tmp_path / "packed/eval") == files
    assert "IJBB is there already, and is left as it is" in capsys.readouterr().err
    assert contents(tmp_path / "eval") == before
