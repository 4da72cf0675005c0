"""Training files and test sets are found in the layouts in which people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.runtime import artifacts, merged, pin, places, set_pins

FLAT = ("train.rec", "train.idx", "train.lst", "property", "lfw.bin", "tinyface/a.jpg", "ijb/IJBB/b.jpg")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(root: Path, part: str) -> list[str]:
    return [line.split(" ", 2)[2].strip('"') for line in pin.listing(places.find(root, part)).splitlines()]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_a_flat_folder_is_training_files_and_beside_them_test_sets(work: Path):
    root = fill(work / "faces_emore", *FLAT, ".DS_Store")
    assert places.find(root, "train").folder == places.find(root, "eval").folder == root
    assert listed(root, "train") == ["property", "train.idx", "train.lst", "train.rec"]
    assert listed(root, "eval") == ["ijb/IJBB/b.jpg", "lfw.bin", "tinyface/a.jpg"]
    assert places.locate(root, "eval/ijb/IJBB/") == root / "ijb/IJBB"


def test_folders_train_and_eval_go_before_what_is_beside_them(work: Path):
    root = fill(work / "mine", "train/train.rec", "eval/lfw.bin", "other.rec", "agedb_30.bin")
    assert (listed(root, "train"), listed(root, "eval")) == (["train.rec"], ["lfw.bin"])
    assert places.locate(root, "train/train.rec") == root / "train/train.rec"


@pytest.mark.parametrize(
    ("names", "train", "evaluated"),
    [
        (("train/train.rec", "lfw.bin"), ["train.rec"], ["lfw.bin"]),
        (("train.rec", "eval/lfw.bin"), ["train.rec"], ["lfw.bin"]),
        (("webface.rec", "webface.idx", "x.bin"), ["webface.idx", "webface.rec"], ["x.bin"]),
        (("train.rec", "pack.rec", "pack.parquet"), ["train.rec"], ["pack.parquet", "pack.rec"]),
        (("imgs/0/1.jpg", "imgs/1/2.JPG", "lfw.bin"), ["imgs/0/1.jpg", "imgs/1/2.JPG"], ["lfw.bin"]),
        (("a/1.jpg", "b/2.png", "lfw.bin", "scface/x.jpg"), ["a/1.jpg", "b/2.png"], ["lfw.bin", "scface/x.jpg"]),
        (("CASIA/a/1.jpg", "CASIA/b/2.jpg"), ["CASIA/a/1.jpg", "CASIA/b/2.jpg"], []),
        (("lfw.bin",), [], ["lfw.bin"]),
        (("lfw.bin", "my/a/1.jpg", "my/b/1.jpg", "my/pairs.csv"), [], ["lfw.bin", "my/a/1.jpg", "my/b/1.jpg", "my/pairs.csv"]),
        (("pairs/1.jpg", "pairs/pairs.csv", "one/1.jpg"), [], ["one/1.jpg", "pairs/1.jpg", "pairs/pairs.csv"]),
    ],
    ids=lambda names: " ".join(names),
)
def test_every_file_belongs_to_one_part(work: Path, names: tuple[str, ...], train: list[str], evaluated: list[str]):
    root = fill(work / "root", *names)
    assert (listed(root, "train"), listed(root, "eval")) == (train, evaluated)


def test_a_part_that_is_not_there_has_no_pin(work: Path):
    root = fill(work / "root", "lfw.bin")
    pin.pin_all({"datasets": {"mine": {"root": str(root)}}})
    assert not Path("data/mine/train", pin.PIN).exists()
    set_pins.SetPins({"mine": root}).digests("mine", ["lfw"])
    assert "lfw.bin" in set_pins.list_path("mine", "lfw").read_text()


def test_a_flat_folder_is_checked_part_by_part(work: Path):
    root = fill(work / "root", *FLAT)
    artifacts.write_yaml(Path("resolved/datasets/mine.yaml"), {"unpack": {}, "root": str(root)})
    pin.pin_all({"datasets": {"mine": {"root": str(root)}}})
    pinned = set_pins.SetPins({"mine": root}).digests("mine", ["lfw", "tinyface"])
    (root / "lfw.bin").write_text("another, and longer")
    assert pin.checked("mine") == root
    with pytest.raises(ValueError, match=r'the first is "lfw\.bin"'):
        set_pins.checked("mine", pinned)


def test_the_folder_of_a_part_is_known_without_a_look_at_every_person(work: Path, monkeypatch: pytest.MonkeyPatch):
    root = fill(work / "people", "a/1.jpg", "b/2.jpg", "lfw.bin")
    assert places.find(root, "eval").holds("a") is False
    monkeypatch.setattr(places, "training_names", lambda folder: pytest.fail(f"every person in {folder} was looked at"))
    assert places.locate(root, "eval/lfw.bin") == root / "lfw.bin"
    assert places.folder(fill(work / "split", "train/train.rec"), "train") == work / "split/train"


def test_a_flat_folder_around_the_project_is_refused(work: Path):
    root = fill(work, *FLAT)
    with pytest.raises(ValueError, match=r"datasets\.mine\.root is .*where the list of its files would be written"):
        pin.pin_all({"datasets": {"mine": {"root": str(root)}}})


def test_one_of_several_record_files_is_not_guessed(work: Path):
    root = fill(work / "root", "a.rec", "b.rec")
    with pytest.raises(ValueError, match=r"several record files \(a\.rec, b\.rec\), none of them train\.rec: .*sources"):
        places.record_file(root)
    assert places.record_file(fill(root, "train.rec")) == root / "train.rec"


@pytest.mark.parametrize("copy", ["tmp4", "standalone/tmpx"])
def test_a_relative_root_is_that_of_the_project_in_a_copy_that_dvc_experiments_in(
    work: Path, monkeypatch: pytest.MonkeyPatch, copy: str
):
    fill(work / "faces", "train.rec", "lfw.bin")
    fill(work / "more", "train.rec")
    described = {"datasets": {"a": {"root": "../faces"}, "b": {"root": str(work / "more")}, "c": {"sources": ["a", "b"]}}}
    assert pin.roots_of(described)["a"] == Path("../faces"), "as it is written, elsewhere"
    folder = work / "work/.dvc/tmp/exps" / copy
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    roots = pin.roots_of(described)
    assert {name: root.resolve().name for name, root in roots.items()} == {"a": "faces", "b": "more", "c": "faces"}
    artifacts.write_yaml(Path("resolved/datasets/a.yaml"), {"root": "../faces"})
    assert places.eval_folder("a").resolve() == work / "faces"
    pin.pin_all(described)
    assert '"train.rec"' in Path("data/a/train", pin.PIN).read_text()


def test_a_folder_may_be_elsewhere_on_this_machine(work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_DATA", "/data=/mnt/fast:/data/own=/home/me/own")
    assert places.anchored("/data/faces_emore") == Path("/mnt/fast/faces_emore")
    assert places.anchored("/data/own/a") == Path("/home/me/own/a"), "the deeper one goes first"
    assert places.anchored("/database") == Path("/database")
    assert places.anchored("../faces") == Path("../faces")
    there = fill(work / "here", "train.rec", "lfw.bin")
    monkeypatch.setenv("FACET_DATA", f"/data/faces={there}")
    described = {"datasets": {"a": {"root": "/data/faces"}, "b": {"root": str(work / "more")}, "c": {"sources": ["a", "b"]}}}
    fill(work / "more", "train.rec")
    assert pin.roots_of(described)["a"] == there
    artifacts.write_yaml(Path("resolved/datasets/a.yaml"), {"root": "/data/faces"})
    assert places.eval_folder("a") == there
    sources = {"a": "/data/faces", "b": str(work / "more")}
    artifacts.write_yaml(Path("resolved/datasets/c.yaml"), {"root": "/data/faces", "sources": sources})
    both = merged.of("c")
    assert both is not None
    assert both.root == there


@pytest.mark.parametrize("text", ["/data", "data=/mnt", "/data=mnt", "/data:/mnt"])
def test_what_is_no_pair_of_folders_is_one_sentence(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_DATA", text)
    with pytest.raises(InputError, match="FACET_DATA: wanted absolute paths"):
        places.anchored("/data/faces")
