"""The stage `unpack`: manifest, card and exported images of sound records."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.core.recordio.reader import Header, pack
from stages.datasets.insightface_rec import TrainSet
from stages.training.dataset import open_records
from stages.unpacking import check
from tests.stages import unpacking
from tests.stages.unpacking import IMAGES, OUT, configure, jpeg, run, write_plain
from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "recordio"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    unpacking.write()
    return tmp_path


def png(seed: int) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8))[
        1
    ].tobytes()


def test_the_manifest_has_a_row_for_every_image(project: Path):
    run()
    manifest = pd.read_parquet(OUT / "manifest.parquet")
    train = TrainSet.open("data/tiny/train")
    assert list(manifest.columns) == ["key", "offset", "length", "label", "width", "height"]
    assert manifest["key"].tolist() == list(range(1, 21))
    assert manifest["offset"].tolist() == [train.reader.offset(key) for key in range(1, 21)]
    assert manifest["length"].tolist() == [len(image) for image, _ in IMAGES]
    assert manifest["label"].tolist() == [label for _, label in IMAGES]
    assert (manifest[["width", "height"]] == 24).all(axis=None)


def test_the_card_counts_what_is_there(project: Path):
    card = run()
    assert (card["dataset"], card["records"], card["images"], card["identities"]) == ("tiny", 26, 20, 5)
    assert card["num_classes"] == 5
    assert card["images_per_identity"]["median"] == card["images_per_identity"]["max"] == 4
    assert card["image_bytes"]["total"] == sum(len(image) for image, _ in IMAGES)
    assert (card["sizes"], card["formats"]) == ({"24x24": 20}, {"jpg": 20})
    ranges = {"declared": 5, "found": 5, "disagree": 0}
    assert card["layout"] == {"header": [21.0, 26.0], "label_numbers": 2, "identity_ranges": ranges}
    assert card["bad_records"] == card["suspect_records"] == []


def test_nothing_is_exported_unless_asked_for(project: Path):
    run()
    assert sorted(path.name for path in OUT.iterdir()) == ["card.json", "manifest.parquet"]
    assert not Path("data/unpacked/tiny.partial").exists()


def test_exported_images_are_the_stored_bytes(project: Path):
    configure(export="folder")
    run()
    exported = {str(path.relative_to(OUT / "images")): path.read_bytes() for path in OUT.glob("images/*/*")}
    assert exported == {f"{label}/{key}.jpg": image for key, (image, label) in enumerate(IMAGES, start=1)}
    assert sorted(path.name for path in OUT.iterdir()) == ["card.json", "images", "manifest.parquet"]


def test_an_export_says_the_real_format_in_the_file_name(project: Path):
    configure(export="folder")
    write_plain([pack(Header(0, 3.0, 0, 0), png(1)), pack(Header(0, 3.0, 1, 0), jpeg(2))])
    card = run()
    assert {path.name for path in OUT.glob("images/3/*")} == {"0.png", "1.jpg"}
    assert (OUT / "images/3/0.png").read_bytes() == png(1)
    assert (card["formats"], card["sizes"]) == ({"jpg": 1, "png": 1}, {"24x24": 1, "7x9": 1})
    assert card["layout"] == {"header": None, "label_numbers": 1, "identity_ranges": None}
    assert (card["num_classes"], card["identities"]) == (4, 1)


def test_the_same_records_give_the_same_bytes_however_many_work(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    def outputs() -> list[bytes]:
        run()
        return [path.read_bytes() for path in sorted(OUT.iterdir())]

    once = outputs()
    for cores, block in ((1, 3), (2, 1), (3, 7)):
        monkeypatch.setattr(check, "num_cores", lambda cores=cores: cores)
        monkeypatch.setattr(check, "BLOCK", block)
        assert outputs() == once


def test_records_without_index_and_property_are_unpacked_and_the_card_says_so(
    project: Path, capfd: pytest.CaptureFixture[str]
):
    before, manifest = run(), (OUT / "manifest.parquet").read_bytes()
    assert before["sources"] == [{"records": "train.rec", "index": "train.idx", "num_classes": "property"}]
    for name in ("train.idx", "property"):
        Path("data/tiny/train", name).unlink()
    card = run()
    said = capfd.readouterr().err
    assert card["sources"] == [{"records": "train.rec", "index": None, "num_classes": "largest label plus one"}]
    assert {**card, "sources": before["sources"]} == before
    assert (OUT / "manifest.parquet").read_bytes() == manifest
    assert "train.rec: no index train.idx, so its 26 records were walked" in said
    assert "no property, so the number of identities is the largest label plus one" in said


def test_a_record_file_of_any_name_is_unpacked(project: Path):
    for suffix in (".rec", ".idx"):
        Path("data/tiny/train/train").with_suffix(suffix).rename(f"data/tiny/train/webface{suffix}")
    assert run()["sources"][0] == {"records": "webface.rec", "index": "webface.idx", "num_classes": "property"}


def test_a_folder_without_a_training_set_says_what_was_wanted(project: Path):
    Path("data/tiny/train/train.rec").unlink()
    with pytest.raises(FileNotFoundError, match=r"data/tiny/train holds no training set: wanted train\.rec"):
        run()


def test_a_file_of_im2rec_is_unpacked(project: Path):
    for name in ("train.rec", "train.idx"):
        Path("data/tiny/train", name).write_bytes((GOLDEN / name.replace("train", "im2rec")).read_bytes())
    Path("data/tiny/train/property").unlink()
    card = run()
    assert (card["images"], card["identities"], card["layout"]["header"]) == (20, 7, None)
    assert pd.read_parquet(OUT / "manifest.parquet")["key"].tolist() == list(range(20))


def test_real_faces_are_unpacked(project: Path, faces: Path):
    Path("data/tiny/train").rename("data/tiny/old")
    Path("data/tiny/train").symlink_to(faces / "train")
    card = run()
    assert (card["records"], card["images"], card["identities"]) == (6592, 5558, 1033)
    assert (card["sizes"], card["bad_records"], card["suspect_records"]) == ({"112x112": 5558}, [], [])
    assert card["layout"]["identity_ranges"] == {"declared": 1033, "found": 1033, "disagree": 0}


def test_a_folder_of_test_sets_alone_is_unpacked_to_nothing_and_a_training_on_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/lfw.bin").write_bytes(b"")
    configure()
    with Path("resolved/datasets/tiny.yaml").open("a") as stream:
        stream.write(f"root: {tmp_path / 'faces'}\n")
    run()
    assert "data set tiny has no training set: nothing to unpack" in capsys.readouterr().err
    assert pd.read_parquet(OUT / "manifest.parquet").empty
    with pytest.raises(ValueError, match="lists no good record"):
        open_records("tiny")
