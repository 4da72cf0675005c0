"""Packed people and packed pictures with pairs: aligned on the way, in the order and with the bytes of their folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.metrics.processing import Failure
from stages.datasets import insightface_rec, pair_list
from stages.packing import pictures, plan, write
from stages.pictures import detect
from stages.tools import pack
from tests.stages import small_sets
from tests.stages.packing.writing import contents, packed


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
