"""One outcome for each thing that is not as it should be, the same for every reader of images (docs/datasets.md)."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import ijb, ijbs, pair_list, scface, tinyface, verification_bin
from tests.stages import small_sets


@dataclass(frozen=True)
class Layout:
    write: Callable[[Path], object]
    load: Callable[[Path], Any]
    folder: str  # of the images its names are relative to
    suffix: str = ""


LAYOUTS = {
    "IJBB": Layout(small_sets.write_ijb, lambda folder: ijb.load(folder, "IJBB"), "IJBB/loose_crop"),
    "IJBC": Layout(
        lambda folder: small_sets.write_ijb(folder, "IJBC"), lambda folder: ijb.load(folder, "IJBC"), "IJBC/loose_crop"
    ),
    "ijbs": Layout(small_sets.write_ijbs, ijbs.load, "aligned"),
    "tinyface": Layout(small_sets.write_tinyface, tinyface.load, "aligned_pad_0.1_pad_high", ".jpg"),
    "scface": Layout(small_sets.write_scface, scface.load, "aligned", ".jpg"),
    "adience": Layout(small_sets.write_pair_list, pair_list.load, ""),
    "xqlfw": Layout(small_sets.write_xqlfw, pair_list.load, ""),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def first_file(layout: Layout, folder: Path) -> tuple[Path, str, int]:
    """Return path and name of the first image, and how many there are."""
    found = layout.load(folder)
    name = f"{found.names[0]}{layout.suffix}"
    return folder / layout.folder / name, name, len(found.names)


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_torn(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))


def damage_text(path: Path) -> None:
    path.write_text("<html>login required</html>")


def damage_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    damage_missing: "No such file or directory",
    damage_empty: "0 bytes are not a complete JPEG or PNG image",
    damage_torn: "44 bytes are not a complete JPEG or PNG image",
    damage_text: "27 bytes are not a complete JPEG or PNG image",
    damage_folder: "Is a directory",
}


@every_layout
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_image_that_cannot_be_read_is_a_failure_in_its_place_and_no_other_moves(
    tmp_path: Path, layout: Layout, damage: Callable[[Path], None]
):
    layout.write(tmp_path)
    path, name, count = first_file(layout, tmp_path)
    found = layout.load(tmp_path)
    others = list(found.images())[1:]
    damage(path)
    if layout is not LAYOUTS["ijbs"]:  # which lists what there is: see below
        found = layout.load(tmp_path)
    images = list(found.images())
    assert images[0] == Failure(name, DAMAGES[damage])
    assert len(images) == count
    assert all(np.array_equal(a, b) for a, b in zip(images[1:], others, strict=True))


def test_a_face_of_ijbs_that_is_not_there_was_not_aligned_and_its_template_has_one_face_less(tmp_path: Path):
    small_sets.write_ijbs(tmp_path)
    before = ijbs.load(tmp_path)
    (tmp_path / "aligned" / before.names[0]).unlink()
    after = ijbs.load(tmp_path)
    assert after.names == before.names[1:]
    assert after.template_name_T == before.template_name_T


@every_layout
def test_an_aligned_face_of_another_size_is_a_failure_and_a_grey_one_is_an_image(tmp_path: Path, layout: Layout):
    layout.write(tmp_path)
    path, name, _ = first_file(layout, tmp_path)
    path.write_bytes(cv2.imencode(".png", np.zeros((96, 112, 3), np.uint8))[1].tobytes())
    image = layout.load(tmp_path).image(0)
    if layout.folder.endswith("loose_crop"):
        assert image.shape == (112, 112, 3)  # a crop may have any size
    else:
        assert image == Failure(name, "an aligned face has 112x112 pixels, this image has 112x96")
    path.write_bytes(cv2.imencode(".png", np.full((112, 112), 77, np.uint8))[1].tobytes())
    assert layout.load(tmp_path).image(0).shape == (112, 112, 3)


NAME = "Zoë_名前_é"


def rename_ijb(folder: Path) -> str:
    crops, meta = folder / "IJBB/loose_crop", folder / "IJBB/meta"
    (crops / "1.jpg").rename(crops / f"{NAME}.jpg")
    for path in meta.glob("*.txt"):
        lines = [f"{NAME}.jpg{line[5:]}" if line.startswith("1.jpg ") else line for line in path.read_text().splitlines()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{NAME}.jpg"


def rename_tinyface(folder: Path) -> str:
    for path in (folder / "tinyface/Testing_Set/Gallery_Distractor/0.jpg", folder / tinyface.ALIGNED):
        target = path if path.is_file() else path / "Gallery_Distractor/0.jpg"
        target.rename(target.with_name(f"{NAME}.jpg"))
    return f"Gallery_Distractor/{NAME}"


def rename_pairs(folder: Path) -> str:
    (folder / "images/p_0_img_0.jpg").rename(folder / f"images/{NAME}.jpg")
    path = folder / "pair_list.txt"
    path.write_text(path.read_text().replace("p_0_img_0 ", f"{NAME} "), encoding="utf-8")
    return f"images/{NAME}.jpg"


@pytest.mark.parametrize(
    ("name", "rename"), [("IJBB", rename_ijb), ("tinyface", rename_tinyface), ("adience", rename_pairs)]
)
def test_names_in_any_script_are_read(tmp_path: Path, name: str, rename: Callable[[Path], str]):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    wanted = rename(tmp_path)
    found = layout.load(tmp_path)
    assert wanted in found.names
    assert isinstance(found.image(found.names.index(wanted)), np.ndarray)


def test_a_data_set_may_stand_in_a_folder_of_any_name(tmp_path: Path):
    for name, layout in LAYOUTS.items():
        folder = tmp_path / "données 名" / name
        folder.mkdir(parents=True)
        layout.write(folder)
        assert isinstance(layout.load(folder).image(0), np.ndarray)
    small_sets.write_bin(tmp_path / "données 名/lfw.bin")
    assert verification_bin.load(tmp_path / "données 名/lfw.bin").is_same.size == 40


@pytest.mark.parametrize(
    ("name", "list_name"),
    [("IJBB", "IJBB/meta/ijbb_face_tid_mid.txt"), ("scface", "all.txt"), ("adience", "pair_list.txt"),
     ("xqlfw", "xqlfw_pairs.txt"), ("ijbs", "protocols/cs6_metadata.csv")],
)  # fmt: skip
def test_a_list_is_read_in_the_encodings_and_with_the_line_ends_of_other_systems(tmp_path: Path, name: str, list_name: str):
    LAYOUTS[name].write(tmp_path)
    path = tmp_path / list_name
    before, text = LAYOUTS[name].load(tmp_path), path.read_text(encoding="utf-8")
    for encoding, end in (("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-16", "\n"), ("latin-1", "\r\n")):
        path.write_bytes(text.replace("\n", end).encode(encoding))
        found = LAYOUTS[name].load(tmp_path)
        assert found.names == before.names
        assert isinstance(found.image(0), np.ndarray)


SPELLINGS = {
    "apart, as macOS writes accents": unicodedata.normalize("NFD", "Zoë_é"),
    "in Windows-1252": os.fsdecode("Zoë_é".encode("cp1252")),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_file_is_found_however_its_system_spelled_the_name_in_the_list(tmp_path: Path, spelling: str):
    small_sets.write_pair_list(tmp_path)
    whole = pair_list.load(tmp_path).image(0)
    (tmp_path / "images/p_0_img_0.jpg").rename(tmp_path / "images" / f"{spelling}.jpg")
    path = tmp_path / "pair_list.txt"
    path.write_text(path.read_text().replace("p_0_img_0 ", "Zoë_é "), encoding="latin-1")
    found = pair_list.load(tmp_path)
    assert "images/Zoë_é.jpg" in found.names
    assert np.array_equal(found.image(found.names.index("images/Zoë_é.jpg")), whole)


@pytest.mark.parametrize("name", ["tinyface", "adience", "ijbs"])
def test_hidden_files_that_macos_leaves_are_no_images(tmp_path: Path, name: str):
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    if name == "adience":
        (tmp_path / "pair_list.txt").unlink()
    before = layout.load(tmp_path)
    folders = {path.parent for path in tmp_path.rglob("*.jpg")} | {path.parent for path in tmp_path.rglob("*.png")}
    for folder in folders:
        (folder / f"._{next(folder.iterdir()).name}").write_bytes(b"")
    assert layout.load(tmp_path).names == before.names


def test_the_same_image_under_two_names_is_two_images(tmp_path: Path):
    small_sets.write_scface(tmp_path)
    shutil.copy(tmp_path / "aligned/001_frontal.jpg", tmp_path / "aligned/001_cam1_1.jpg")
    found = scface.load(tmp_path)
    first, second = (found.image(found.names.index(name)) for name in ("001_frontal", "001_cam1_1"))
    assert np.array_equal(first, second)
    assert len(set(found.names)) == len(found.names) == 35


def test_subjects_without_a_mate_stay_in_their_set(tmp_path: Path):
    testing = small_sets.write_tinyface(tmp_path / "tinyface")
    small_sets.write_list(testing / "gallery_match_img_ID_pairs.mat", "gallery", [("1_2", 1)])
    found = tinyface.load(tmp_path / "tinyface")
    assert found.num_probes == 6
    assert found.subject_N[:7].tolist() == [1, 2, 3, 4, 5, 6, 1]
    listing = small_sets.write_scface(tmp_path / "scface")
    listing.write_text("".join(x for x in listing.read_text().splitlines(keepends=True) if "002_frontal" not in x))
    faces = scface.load(tmp_path / "scface")
    assert 2 not in faces.subject_N[faces.distance_N == 0]
    assert 2 in faces.subject_N[faces.distance_N == 1]


def test_a_template_without_images_is_refused_in_pairs_and_kept_in_searches(tmp_path: Path):
    meta = small_sets.write_ijb(tmp_path)
    small_sets.write_search(meta)
    path = meta / "ijbb_1N_probe_mixed.csv"
    path.write_text(path.read_text() + "99,1,img/0.jpg\n")
    assert 99 in ijb.load_search(tmp_path, "IJBB").probe_template_P
    pairs = meta / "ijbb_template_pair_label.txt"
    pairs.write_text(pairs.read_text() + "1 99 0\n")
    with pytest.raises(ValueError, match="no image of template 99"):
        ijb.load(tmp_path, "IJBB")
