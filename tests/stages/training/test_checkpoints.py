"""Checkpoints: whole or not there, the last few kept, damage and full disks survived."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.runtime import artifacts
from stages.training import other_checkpoints
from stages.training.checkpoints import Checkpoints, Snapshot, key_of
from tests.support import ROOT


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.runtime.artifacts.STATE", tmp_path)
    monkeypatch.delenv("FACET_CHECKPOINTS_KEPT", raising=False)


def snapshot(step: int, best_step: int | None = None, size: int = 3) -> Snapshot:
    rows = {"weight": torch.full((size, 2), float(step)), "momentum": torch.arange(2.0 * size).view(size, 2)}
    return Snapshot(step, {"loss": step / 10, "backbone": {"a": torch.tensor([step])}}, rows, 0, size,
                    {"queue": torch.tensor([1.0, step])}, best_step)  # fmt: skip


def test_what_is_read_is_what_was_saved():
    checkpoints = Checkpoints("key")
    assert checkpoints.last() is None
    checkpoints.save(snapshot(7))
    read = checkpoints.last()
    assert read is not None
    assert (read.step, read.shared["loss"], read.num_classes) == (7, 0.7, 3)
    assert torch.equal(read.rows["momentum"], snapshot(7).rows["momentum"])
    assert torch.equal(read.own["queue"], torch.tensor([1.0, 7.0]))
    assert Checkpoints("other").last() is None


def test_a_checkpoint_holds_its_files_and_their_digests_which_nobody_read_again(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "sha256", lambda path: 1 / 0)
        Checkpoints("key").save(snapshot(1))
    folder = Checkpoints("key").path(1)
    assert {path.name for path in folder.iterdir()} == {"checkpoint.json", "rank-00000-of-00001.pt", "state.pt"}
    digests = artifacts.read_json(folder / "checkpoint.json")["files"]
    assert digests == {name: artifacts.sha256(folder / name) for name in digests}
    assert len(digests) == 2


def test_rows_are_read_for_the_classes_that_are_asked_for():
    Checkpoints("key").save(snapshot(1))
    read = Checkpoints("key").last(range(1, 3))
    assert read is not None
    assert read.begin == 1
    assert torch.equal(read.rows["momentum"], torch.tensor([[2.0, 3.0], [4.0, 5.0]]))


def test_it_says_what_was_trained_by_which_code_on_which_records():
    Checkpoints("key", {"records": "abc", "train": {"seed": 1}}).save(snapshot(1))
    tree = artifacts.read_json(Checkpoints("key").path(1) / "checkpoint.json")
    assert (tree["records"], tree["train"], tree["step"], tree["processes"]) == ("abc", {"seed": 1}, 1, 1)
    assert tree["torch"] == torch.__version__


def test_those_of_other_code_are_named_and_not_resumed_from():
    about = {"train": {"seed": 0}, "records": "r"}
    Checkpoints("old", {**about, "code": {"stages.a": "1", "stages.b": "1"}}).save(snapshot(7))
    Checkpoints("another", {**about, "records": "s", "code": {}}).save(snapshot(9))
    told = other_checkpoints.sentence(Checkpoints("new", {**about, "code": {"stages.a": "2", "stages.b": "1"}}))
    assert f"though {artifacts.STATE}/checkpoints/old has a checkpoint after step 7: the code has changed since (stages.a)," in told
    (Checkpoints("old").path(7) / "checkpoint.json").write_text("{")
    assert other_checkpoints.sentence(Checkpoints("new", {**about, "code": {}})) == ""


def test_those_of_another_torch_are_named(monkeypatch: pytest.MonkeyPatch):
    about = {"train": {"seed": 0}, "records": "r", "code": {"stages.a": "1"}}
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "2.0.0")
        Checkpoints("old", about).save(snapshot(7))
    assert f"torch 2.0.0 wrote it, and this is {torch.__version__}" in other_checkpoints.sentence(Checkpoints("new", about))


def test_the_last_few_are_kept_and_those_that_did_best_as_long_as_one_refers_to_them():
    checkpoints = Checkpoints("key", kept=2)
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3)):
        checkpoints.save(snapshot(step, best))
    assert checkpoints.steps() == [3, 4]
    checkpoints.save(snapshot(5, 3))
    assert checkpoints.steps() == [3, 4, 5]


def test_the_environment_says_how_many_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_CHECKPOINTS_KEPT", "1")
    checkpoints = Checkpoints("key")
    for step in (1, 2):
        checkpoints.save(snapshot(step))
    assert checkpoints.steps() == [2]
    monkeypatch.setenv("FACET_CHECKPOINTS_KEPT", "none")
    with pytest.raises(ValueError, match="FACET_CHECKPOINTS_KEPT should be a whole number of at least 1, got 'none'"):
        Checkpoints("key")


@pytest.mark.parametrize("name", ["state.pt", "rank-00000-of-00001.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_last_one_gives_way_to_the_one_before_and_says_so(
    name: str, damage: str, capsys: pytest.CaptureFixture[str]
):
    checkpoints = Checkpoints("key")
    checkpoints.save(snapshot(1))
    checkpoints.save(snapshot(2))
    break_file(checkpoints.path(2) / name, damage)
    read = checkpoints.last()
    assert read is not None
    assert read.step == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "step-0000000002 is damaged" in said[0]
    assert "resuming from the previous one" in said[0]
    checkpoints.save(snapshot(2))  # and takes its place
    again = checkpoints.last()
    assert again is not None
    assert again.step == 2


def test_damaged_ones_that_were_passed_over_make_room_for_those_written_after(capsys: pytest.CaptureFixture[str]):
    checkpoints = Checkpoints("key", kept=2)
    for step in (4, 8):
        checkpoints.save(snapshot(step))
    break_file(checkpoints.path(8) / "checkpoint.json", "gone")
    read = checkpoints.last()
    assert read is not None
    assert read.step == 4
    checkpoints.save(snapshot(6))
    assert checkpoints.steps() == [4, 6]


def break_file(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
        return
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
        if path.suffix == ".json":
            content[0] = 0x20  # JSON may survive one odd letter in a digest or a key
    path.write_bytes(content)


def test_when_all_are_damaged_it_stops_and_says_what_to_delete():
    checkpoints = Checkpoints("key")
    checkpoints.save(snapshot(1))
    break_file(checkpoints.path(1) / "state.pt", "cut")
    with pytest.raises(ValueError, match=r"state.pt differs from what was written\): delete .*key to restart this training run"):
        checkpoints.last()


def test_what_was_left_half_written_is_no_checkpoint():
    checkpoints = Checkpoints("key")
    checkpoints.save(snapshot(1))
    (checkpoints.folder / "step-0000000002.partial").mkdir()
    assert checkpoints.steps() == [1]
    checkpoints.save(snapshot(2))
    assert checkpoints.steps() == [1, 2]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=r"step-0000000001 cannot be written .*there is none before it: make room"):
        Checkpoints("key").save(snapshot(1))


def test_a_training_finds_out_before_its_first_step_that_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=r"key cannot be written .*set FACET_HOME to another folder"):
        Checkpoints("key").prepare()
    (tmp_path / "checkpoints").unlink()
    Checkpoints("key").prepare()
    assert not list(Checkpoints("key").folder.iterdir())


FULL = """
import resource, sys
from pathlib import Path
import torch
from stages.runtime import artifacts
artifacts.STATE = Path(sys.argv[1])
from stages.training.checkpoints import Checkpoints, Snapshot
def snapshot(step, size):
    return Snapshot(step, {"a": torch.zeros(size)}, {"weight": torch.zeros(2, 2)}, 0, 2)
checkpoints = Checkpoints("key")
checkpoints.save(snapshot(1, 10))
if len(sys.argv) == 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    checkpoints.save(snapshot(2, 1 << 20))
except OSError as error:
    print(error)
print(checkpoints.steps(), checkpoints.last().step, [path.name for path in checkpoints.folder.iterdir()])
"""


def write_until_full(folder: Path, *more: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FULL, str(folder), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_file_that_may_not_grow_stops_it_with_the_reason_and_the_last_good_one_in_place(tmp_path: Path):
    error, left = write_until_full(tmp_path)
    assert "cannot be written (state.pt: [Errno 27] File too large); the one after step 1 is in place" in error
    assert left == "[1] 1 ['step-0000000001']"


@pytest.mark.slow
def test_a_full_disk_stops_it_with_the_reason_and_the_last_good_one_in_place(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk; the test before this one limits a file instead")
    try:
        error, left = write_until_full(disk, "full")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "cannot be written (state.pt: [Errno 28] No space left on device); the one after step 1" in error
    assert left == "[1] 1 ['step-0000000001']"


def test_a_checkpoint_belongs_to_one_configuration_and_one_set_of_records():
    assert key_of(train={"seed": 1}, records="a") == key_of(train={"seed": 1}, records="a")
    assert key_of(train={"seed": 1}, records="a") != key_of(train={"seed": 2}, records="a")
    assert key_of(train={"seed": 1}, records="a") != key_of(train={"seed": 1}, records="b")
