"""A pack is whole or not there, goes on where it was killed, and writes nothing into the folder that it reads."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import insightface_rec, pair_list, scface
from stages.packing import journal, pictures, plan, write
from stages.pictures import detect
from stages.tools import pack
from tests.stages import small_sets


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(journal, "FLUSH_EVERY", 4)
    small_sets.write_scface(tmp_path / "scface")
    return tmp_path / "scface"


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def packed(source: Path, target: Path, take: Callable[[Path], pictures.Packed] = pictures.as_it_is, **options: object) -> dict[str, str]:
    write.write(source, target, plan.of(source), take, **options)
    return contents(target)


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


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three people: one of aligned images, one without any face, one of a picture that is not aligned."""
    folder = tmp_path / "people"
    for name in ("Ann/2.png", "Ann/1.png", "Ann/._1.png", "Bo/x.png", "Cy/a.png", "Cy/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(small_sets.encoded(len(name), ord(name[-5])))
    large = np.kron(small_sets.face(7), np.ones((2, 2, 1))).astype(np.uint8)
    for name in ("Bo/x.png", "Cy/b.png"):
        (folder / name).write_bytes(detect.cv2.imencode(".png", large)[1].tobytes())
    return folder


def faces_but_not_of(blind: int) -> Callable[[], detect.Detect]:
    """Return a detector that finds the whole picture to be a face, except in picture number ``blind``."""
    seen = iter(range(99))
    return lambda: lambda picture: [] if next(seen) == blind else detect.as_aligned(picture)


def test_people_become_a_training_set_with_the_bytes_of_aligned_images(people: Path, tmp_path: Path):
    target = tmp_path / "train"
    packed(people, target, pictures.Aligned(faces_but_not_of(0)))
    train = insightface_rec.TrainSet.open(target)
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.num_classes == 2, "who has no image has no identity"
    assert bytes(train.image_bytes(1)) == (people / "Ann/1.png").read_bytes()
    assert bytes(train.image_bytes(3)) == (people / "Cy/a.png").read_bytes()
    picture = detect.read_picture(people / "Cy/b.png")
    assert np.array_equal(detect.cv2.imdecode(np.frombuffer(train.image_bytes(4), np.uint8), 1), detect.as_aligned(picture)[0].aligned_HW3)
    assert (target / write.WITHOUT_FACE).read_text() == "path,problem\nBo/x.png,no face found\n"
    table = pd.read_parquet(target / "pictures.parquet")
    assert table["path"].tolist() == ["Ann/1.png", "Ann/2.png", "Bo/x.png", "Cy/a.png", "Cy/b.png"]
    assert table["key"].tolist() == [1, 2, -1, 3, 4]
    assert table["person"].tolist() == ["Ann", "Ann", "Bo", "Cy", "Cy"]
    assert table["width"].notna().tolist() == [False, False, False, False, True]


def test_packed_people_are_what_the_writer_of_training_sets_writes(people: Path, tmp_path: Path):
    packed(people, tmp_path / "train", pictures.Aligned(lambda: detect.as_aligned))
    train = insightface_rec.TrainSet.open(tmp_path / "train")
    images = [(bytes(train.image_bytes(int(key))), int(label)) for key, label in zip(train.keys, train.labels, strict=True)]
    names = pd.read_parquet(tmp_path / "train/pictures.parquet")["path"].tolist()
    insightface_rec.write(tmp_path / "again", images, 3, names)
    for name in ("train.rec", "train.idx", "train.lst", "property"):
        assert (tmp_path / "train" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_pictures_and_pairs_are_packed_in_the_order_in_which_pairs_name_them(people: Path, tmp_path: Path):
    (people / "pairs.csv").write_text("a,b,same\nCy/b.png,Ann/1.png,0\nAnn/1.png,Ann/2.png,1\n")
    files = packed(people, tmp_path / "pairs", pictures.Aligned(lambda: detect.as_aligned))
    table = pd.read_parquet(tmp_path / "pairs/images.parquet")
    loose, found = pair_list.load(people), pair_list.load(tmp_path / "pairs")
    assert (found.names, found.is_same_P.tolist()) == (loose.names, [False, True])
    assert isinstance(loose.image(0), Failure), "it is not aligned"
    assert np.array_equal(found.image(0), detect.as_aligned(detect.read_picture(people / "Cy/b.png"))[0].aligned_HW3)
    assert all(np.array_equal(found.image(row), loose.image(row)) for row in (1, 2))
    assert table["path"].tolist() == ["Cy/b.png", "Ann/1.png", "Ann/2.png"]
    assert files["pairs.csv"] == contents(people)["pairs.csv"]
    (people / "pairs.csv").write_text("a,b,same\n../out.png,Ann/1.png,0\n")
    with pytest.raises(ValueError, match=r"pairs\.csv: line 2: a should be a picture's path .*, got '\.\./out\.png'"):
        plan.of(people)


def test_packed_pairs_are_read_as_their_folder_is(people: Path, tmp_path: Path):
    (people / "pairs.csv").write_text("a,b,same,fold,group\nCy/b.png,Ann/1.png,0,2,x\nAnn/1.png,Ann/2.png,1,1,y\n")
    packed(people, tmp_path / "pairs", pictures.Aligned(lambda: detect.as_aligned))
    one, other = pair_list.load(people), pair_list.load(tmp_path / "pairs")
    assert pair_list.is_layout(tmp_path / "pairs")
    assert (one.names, one.groups, one.fold_P.tolist()) == (other.names, other.groups, other.fold_P.tolist())
    small = [row for row, image in enumerate(other.images()) if isinstance(image, np.ndarray)]
    assert len(small) == 3
    for row in small:
        shown = one.image(row)
        if isinstance(shown, np.ndarray):  # the folder's own picture of another size is none that is measured
            np.testing.assert_array_equal(shown, other.image(row))


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


def test_faces_are_aligned_as_facet_score_aligns_them(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_YUNET", str(shared / "models/yunet_n_640_640.onnx"))
    for name in ("img1", "img2", "img3"):
        (tmp_path / "people" / name).mkdir(parents=True)
        (tmp_path / "people" / name / "1.jpeg").write_bytes((shared / f"faces/compare/{name}.jpeg").read_bytes())
    pack.main(pack.parser().parse_args([str(tmp_path / "people"), str(tmp_path / "train")]))
    train, find = insightface_rec.TrainSet.open(tmp_path / "train"), detect.choose(None)
    for key, name in enumerate(("img1", "img2", "img3"), start=1):
        wanted = find(detect.read_picture(tmp_path / "people" / name / "1.jpeg"))[0].aligned_HW3
        assert np.array_equal(detect.cv2.imdecode(np.frombuffer(train.image_bytes(key), np.uint8), 1), wanted)


def test_adafaces_imgs_are_people_and_what_is_passed_over_is_said(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "download").mkdir()
    people.rename(tmp_path / "download/imgs")
    for name in ("Bo/x.png", "Cy/b.png"):
        (tmp_path / "download/imgs" / name).write_bytes(small_sets.encoded(1))
    (tmp_path / "download/imgs/Bo/notes.txt").write_text("")
    pack.main(pack.parser().parse_args([str(tmp_path / "download"), str(tmp_path / "train")]))
    table = pd.read_parquet(tmp_path / "train/pictures.parquet")
    assert table["path"].tolist()[0] == "imgs/Ann/1.png"
    assert table["person"].tolist() == ["Ann", "Ann", "Bo", "Cy", "Cy"]
    said = capsys.readouterr().err
    assert "passed over: 1 x hidden, such as 'Ann/._1.png'" in said
    assert "'Bo/notes.txt'" in said
    assert "5 images in" in said
    assert "3 people" in said


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
