"""The stage `unpack` on a folder of people: the same set as its records, bad files counted as records are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import pandas as pd
import pytest

from stages.core.recordio.reader import RecordReader
from stages.datasets import insightface_rec
from stages.training import dataset
from tests.stages import small_sets
from tests.stages.unpacking import OUT, configure, run

PEOPLE = ("0000045", "Ann_Lee", os.fsdecode(b"m\xfcller"))
IMAGES = [(small_sets.encoded(identity, seed), identity) for identity in range(3) for seed in range(4)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder with `imgs`, as AdaFace's; work is done elsewhere."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for number, (image, identity) in enumerate(IMAGES):
        path = tmp_path / "mine/imgs" / PEOPLE[identity] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    configure_root(tmp_path / "mine")
    return tmp_path / "mine"


def configure_root(root: Path, **options: object) -> None:
    configure(**options)
    with Path("resolved/datasets/tiny.yaml").open("a") as stream:
        stream.write(f"root: {root}\n")


def before_and_after(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_people_gives_the_images_and_labels_of_its_records(root: Path, tmp_path: Path):
    stood = before_and_after(root)
    card = run()
    records = dataset.open_records("tiny")
    assert [bytes(records.images.image_bytes(n)) for n in range(len(IMAGES))] == [image for image, _ in IMAGES]
    assert records.label_N.tolist() == [identity for _, identity in IMAGES]
    assert (records.num_classes, card["num_classes"], card["sizes"]) == (3, 3, {"112x112": 12})
    assert card["sources"] == [{"people": True, "records": "train.rec", "passed_over": {}}]
    assert before_and_after(root) == stood
    insightface_rec.write(tmp_path / "records", IMAGES, 3)
    assert (OUT / "train.rec").read_bytes() == (tmp_path / "records/train.rec").read_bytes()
    assert len(RecordReader(OUT / "train.rec", OUT / "train.idx")) == 1 + 12 + 3
    assert b"1\tm\xfcller/008.png\t2\n" in (OUT / "train.lst").read_bytes()


def test_training_on_it_needs_the_folder_no_more(root: Path):
    run()
    root.rename(root.parent / "unmounted")
    assert len(dataset.open_records("tiny").images) == 12


def test_bad_files_are_listed_and_limited_as_records_are(root: Path, capfd: pytest.CaptureFixture[str]):
    folder = root / "imgs/Ann_Lee"
    (folder / "004.png").write_bytes(IMAGES[4][0][:-60])
    (folder / "005.png").write_bytes(b"")
    (folder / "006.png").write_bytes(cv2.imencode(".png", small_sets.face(1)[:, :100])[1].tobytes())
    (folder / "._007.png").write_bytes(b"")
    (folder / "007.heic").write_bytes(b"")
    (folder / "008.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"imgs: 4 bad files of 13; .* allows 0\. Ann_Lee/004\.png: ") as caught:
        run()
    bad = json.loads(Path(str(caught.value).rsplit(" ", 1)[1]).read_text())["bad_records"]
    assert [record["name"] for record in bad] == [f"Ann_Lee/00{number}.png" for number in (4, 5, 6, 8)]
    configure_root(root, max_bad_records=4)
    card = run()
    assert [record["problem"] for record in card["bad_records"]][1:] == [
        "it has no image", "it is 100 x 112: wanted a face aligned to 112 x 112", "it has no image",
    ]  # fmt: skip
    assert card["images"] == len(pd.read_parquet(OUT / "manifest.parquet")) == 9
    assert sum(card["formats"].values()) == 9
    assert list(card["sources"][0]["passed_over"].values()) == [1, 1]
    assert "passed over 1 x hidden, such as 'Ann_Lee/._007.png'" in capfd.readouterr().err
    assert len(dataset.open_records("tiny").images) == 9


def test_pictures_that_are_not_aligned_are_refused_before_all_are_read(root: Path):
    large = cv2.imencode(".png", cv2.resize(small_sets.face(1), (250, 250)))[1].tobytes()
    for path in root.glob("imgs/*/*.png"):
        path.write_bytes(large)
    with pytest.raises(ValueError, match=r"12 of 12 images tried are not 112 x 112, many are 250 x 250: .*`facet pack .*imgs TARGET` aligns them"):
        run()
    assert not list(Path("data").rglob("train.rec"))


def test_records_beside_a_folder_of_people_are_what_is_read(root: Path):
    insightface_rec.write(root, IMAGES[:8], 2)
    assert run()["sources"][0]["records"] == "train.rec"
    assert run()["num_classes"] == 2


def test_what_a_killed_run_left_is_not_mixed_in(root: Path):
    run()
    OUT.rename("data/unpacked/tiny.partial")
    (Path("data/unpacked/tiny.partial") / "stale").write_text("of another folder")
    run()
    assert not (OUT / "stale").exists()
