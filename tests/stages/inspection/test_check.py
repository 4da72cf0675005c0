"""What is said of each data set where it should be: counts, missing files, and everything odd."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.inspection.catalogue import KNOWN, TRAIN
from stages.inspection.check import examine, own_sets
from tests.stages import small_sets


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test set, small."""
    return write_all(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An own copy, to break."""
    return write_all(tmp_path)


def write_all(folder: Path) -> Path:
    test = folder / "eval"
    for name in ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp"):
        small_sets.write_bin(test / f"{name}.bin")
    for name in ("IJBB", "IJBC"):
        small_sets.write_search(small_sets.write_ijb(test / "ijb", name))
    small_sets.write_ijbs(test / "ijbs")
    small_sets.write_tinyface(test / "tinyface")
    small_sets.write_scface(test / "scface")
    small_sets.write_pair_list(test / "adience")
    small_sets.write_xqlfw(test / "xqlfw")
    return folder


@pytest.mark.parametrize("name", KNOWN)
def test_a_set_that_is_whole_has_counts_and_nothing_missing(whole: Path, name: str):
    found = examine(whole, KNOWN[name])
    assert (found.missing, found.unusable) == ([], "")
    assert set(KNOWN[name].counts) & set(found.counts)
    assert all(count > 0 for count in found.counts.values())


@pytest.mark.parametrize("name", [*KNOWN, "train"])
def test_where_there_is_nothing_every_wanted_file_is_named(tmp_path: Path, name: str):
    known = KNOWN.get(name, TRAIN)
    found = examine(tmp_path, known)
    assert found.missing == [f"{known.place}{file}" for file in known.files]
    assert found.counts == {}


def test_counts_are_those_of_the_protocols(whole: Path):
    counts = {name: examine(whole, known).counts for name, known in KNOWN.items()}
    assert counts["lfw"] == {"pairs": 40, "genuine": 20}
    assert counts["tinyface"] == {"probes": 6, "mates": 6, "distractors": 5}
    assert counts["scface"] == {"gallery": 5, "d1": 10, "d2": 10, "d3": 10}
    assert counts["adience"] == {"images": 12, "pairs": 66, "genuine": 12, "subjects": 4}
    assert counts["ijbs"]["videos"] == 12
    assert counts["ijbs"]["subject and video"] == 24
    assert (counts["IJBC"]["1:N gallery"], counts["IJBC"]["1:N probes"]) == (5, 7)


def test_real_sets_are_whole(faces: Path):
    assert examine(faces, TRAIN).counts == {"identities": 1033, "images": 5558}
    for name in ("lfw", "IJBB", "tinyface", "scface"):
        found = examine(faces, KNOWN[name])
        assert (found.missing, found.unusable, found.odd) == ([], "", [])


def test_images_that_are_missing_or_empty_are_counted_and_one_is_named(root: Path):
    aligned = root / "eval/scface/aligned"
    (aligned / "001_frontal.jpg").unlink()
    (aligned / "002_cam1_1.jpg").write_bytes(b"")
    odd = examine(root, KNOWN["scface"]).odd
    assert "1 of 35 images are missing, such as 001_frontal.jpg" in odd
    assert "1 images are empty, such as 002_cam1_1.jpg" in odd
    assert any(text.startswith("2 of 32 sampled images cannot be used: 001_frontal.jpg: No such file") for text in odd)


def test_files_that_nobody_lists_are_counted(root: Path):
    (root / "eval/ijb/IJBB/loose_crop/other.jpg").write_bytes(b"")
    assert "1 files are not listed" in examine(root, KNOWN["IJBB"]).odd


def test_hidden_files_are_counted_apart_and_names_of_other_systems_are_not_missing(root: Path):
    folder = root / "eval/ijb/IJBB"
    (folder / "loose_crop/._1.jpg").write_bytes(b"")
    (folder / "loose_crop/1.jpg").rename(folder / "loose_crop" / f"{unicodedata.normalize('NFD', 'é')}.jpg")
    for path in (folder / "meta").glob("*.txt"):
        path.write_text("".join("é" + line if line.startswith(".jpg") else line for line in path.read_text().replace("\n1.jpg ", "\n.jpg ").replace("1.jpg ", ".jpg ", 1).splitlines(keepends=True)), encoding="utf-8")
    found = examine(root, KNOWN["IJBB"])
    assert found.odd == ["2 1:N probes have no mate in the galleries"]
    assert "1 hidden files are passed over, such as ._1.jpg" in found.notes


def test_people_without_a_mate_are_counted(root: Path, whole: Path):
    assert "2 1:N probes have no mate in the galleries" in examine(whole, KNOWN["IJBC"]).odd
    small_sets.write_list(
        root / "eval/tinyface/tinyface/Testing_Set/gallery_match_img_ID_pairs.mat", "gallery", [("1_2", 1)]
    )
    assert "5 probes have no mate" in examine(root, KNOWN["tinyface"]).odd


def test_a_list_that_is_damaged_makes_the_set_unusable_and_says_why(root: Path):
    (root / "eval/tinyface/tinyface/Testing_Set/probe_img_ID_pairs.mat").write_bytes(b"x")
    found = examine(root, KNOWN["tinyface"])
    assert "probe_img_ID_pairs.mat should hold probe_set" in found.unusable
    (root / "eval/lfw.bin").write_bytes(b"\x80\x02")
    assert "lfw.bin" in examine(root, KNOWN["lfw"]).unusable


def test_faces_whose_red_and_blue_are_swapped_are_noticed(root: Path):
    skin = np.full((112, 112, 3), (110, 140, 190), np.uint8)  # blue, green, red
    for path in (root / "eval/adience/images").iterdir():
        path.write_bytes(cv2.imencode(".png", skin)[1].tobytes())
    assert examine(root, KNOWN["adience"]).odd == []
    for path in (root / "eval/adience/images").iterdir():
        path.write_bytes(cv2.imencode(".png", skin[..., ::-1])[1].tobytes())
    assert "red and blue seem swapped" in examine(root, KNOWN["adience"]).odd[0]


@pytest.mark.parametrize("layout", ["records", "people", "flat", "no index", "imgs"])
def test_a_training_set_is_there_in_every_layout_that_unpack_reads(tmp_path: Path, layout: str):
    folder = tmp_path if layout in ("flat", "imgs") else tmp_path / "train"
    if layout in ("people", "imgs"):
        home = folder / "imgs" if layout == "imgs" else folder
        for identity in range(4):
            for seed in range(3):
                path = home / f"person {identity}" / f"{seed}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(small_sets.encoded(identity, seed))
    else:
        small_sets.write_train(folder)
    if layout == "no index":
        (folder / "train.idx").unlink()
        (folder / "property").unlink()
        (folder / "train.rec").rename(folder / "webface.rec")
    found = examine(tmp_path, TRAIN)
    assert (found.missing, found.unusable, found.odd) == ([], "", [])
    assert found.counts == {"identities": 4, "images": 12}
    if layout == "no index":
        assert found.notes == ["no index: the records are walked", "no property: identities are the largest label plus one"]


def test_what_unpack_would_refuse_of_a_folder_of_people_is_odd(tmp_path: Path):
    for identity in range(2):
        path = tmp_path / f"person {identity}" / "1.png"
        path.parent.mkdir()
        path.write_bytes(cv2.imencode(".png", np.full((250, 250, 3), 90, np.uint8))[1].tobytes())
    (path.parent / "2.jpg").write_bytes(b"")
    (path.parent / "._2.jpg").write_bytes(b"")
    odd = examine(tmp_path, TRAIN).odd
    assert "passed over: 1 x hidden, such as 'person 1/._2.jpg'" in odd
    assert "1 of 3 sampled images cannot be decoded, such as person 1/2.jpg: 0 bytes are not an image, or are truncated" in odd
    assert "2 of 3 sampled images are not 112 x 112, such as 250 x 250: training wants aligned faces (`facet pack`)" in odd


def test_one_of_several_record_files_is_unusable_and_not_missing(tmp_path: Path):
    for name in ("a.rec", "b.rec"):
        (tmp_path / name).write_bytes(b"")
    assert "several record files (a.rec, b.rec)" in examine(tmp_path, TRAIN).unusable


def test_ijb_without_1_to_n_lists_can_be_measured_1_to_1(root: Path):
    for path in (root / "eval/ijb/IJBB/meta").glob("*1N*"):
        path.unlink()
    assert [file.rpartition("_1N_")[2] for file in examine(root, KNOWN["IJBB"]).missing] == [
        "gallery_S1.csv", "gallery_S2.csv", "probe_mixed.csv",
    ]  # fmt: skip
    found = examine(root, KNOWN["IJBB"], one_to_n=False)
    assert (found.missing, found.unusable) == ([], "")
    assert "no 1:N lists: it can be measured 1:1 alone" in found.notes


def test_sets_under_a_persons_own_names_are_found(root: Path):
    small_sets.write_bin(root / "eval/African.bin")
    small_sets.write_pair_list(root / "eval/station")
    found = {known.name: examine(root, known) for known in own_sets(root)}
    assert {name: (one.missing, one.unusable, one.where) for name, one in found.items()} == {
        "African": ([], "", "eval/African.bin"), "station": ([], "", "eval/station/"),
    }  # fmt: skip
    assert found["African"].counts == {"pairs": 40, "genuine": 20}


@pytest.mark.parametrize("name", ["train", "lfw", "IJBB", "tinyface", "scface"])
def test_swapped_colours_are_noticed_in_every_kind_of_file(root: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    face = small_sets.face
    monkeypatch.setattr(small_sets, "face", lambda *of: face(*of)[..., ::-1])
    again = root / "swapped"
    small_sets.write_train(again / "train")
    write_all(again)
    known = KNOWN.get(name, TRAIN)
    swapped = [odd for odd in examine(again, known).odd if "red and blue seem swapped" in odd]
    assert len(swapped) == 1
    if name != "train":
        assert not [odd for odd in examine(root, known).odd if "swapped" in odd]
