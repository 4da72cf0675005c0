from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stages.runtime import artifacts, pin, places


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder, beside the folder that is worked in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    folder = tmp_path / "mine"
    for name in ("train/train.rec", "train/property", "train/deep/er/one.jpg", "eval/lfw.bin", "eval/ijb/IJBB/one.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
        os.utime(folder / name, (1e9, 1e9))
    return folder


def described(mine: Path, **more: object) -> dict[str, object]:
    return {"datasets": {"mine": {"root": str(mine)}}, **more}


def text() -> str:
    return Path("data/mine/train", pin.PIN).read_text()


def test_a_pin_lists_what_the_folder_holds_and_nothing_is_written_there(mine: Path):
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    pin.pin_all(described(mine))
    assert [line.split(" ", 2)[1:] for line in text().splitlines()] == [
        ["21", '"deep/er/one.jpg"'], ["14", '"property"'], ["15", '"train.rec"'],
    ]  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before


def test_the_same_files_elsewhere_have_the_same_pin(mine: Path, tmp_path: Path):
    pin.pin_all(described(mine))
    here = text()
    shutil.copytree(mine, tmp_path / "moved")
    shutil.rmtree(mine)
    pin.pin_all(described(tmp_path / "moved"))
    assert text() == here


def test_a_linked_folder_counts_with_what_it_holds(mine: Path, tmp_path: Path):
    (mine / "train/deep").rename(tmp_path / "disk")
    (mine / "train/deep").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/round").symlink_to(mine / "train")  # has no end
    pin.pin_all(described(mine))
    before = text()
    assert "deep/er/one.jpg" in before
    (tmp_path / "disk/er/one.jpg").write_text("another")
    pin.pin_all(described(mine))
    assert text() != before


def test_a_link_that_leads_nowhere_stops_no_other_data_set_and_counts_once_it_is_mended(mine: Path):
    (mine / "train/gone.bin").symlink_to(mine.parent / "gone")
    pin.pin_all(described(mine))
    before = text()
    assert f'{pin.NOWHERE} 0 "gone.bin"' in before
    (mine.parent / "gone").write_bytes(b"")
    pin.pin_all(described(mine))
    assert text() != before, "an empty file is another thing than none"


def test_a_name_that_is_not_utf8_is_listed(mine: Path):
    Path(os.fsdecode(os.fsencode(mine / "train") + b"/m\xfcller.jpg")).write_bytes(b"x")
    pin.pin_all(described(mine))
    assert "m\\udcfcller.jpg" in text()
    assert "m\\udcfcller.jpg" in pin.listing(places.find(mine, "train"))


def test_what_was_read_once_is_not_read_again(mine: Path, monkeypatch: pytest.MonkeyPatch):
    pin.pin_all(described(mine))
    monkeypatch.setattr(pin, "_md5", lambda path: pytest.fail(f"{path} was read again"))
    pin.pin_all(described(mine))


def test_files_that_changed_since_they_were_pinned_are_refused_before_a_stage_reads_them(mine: Path):
    artifacts.write_yaml(Path("resolved/datasets/mine.yaml"), {"unpack": {}, "root": str(mine)})
    pin.pin_all(described(mine))
    assert pin.checked("mine") == mine / "train"
    (mine / "train/train.rec").write_text("longer than it was")
    with pytest.raises(ValueError, match=r'1 files differ, the first is "train\.rec": `facet run` or `dvc repro -f resolve`'):
        pin.checked("mine")
    pin.pin_all(described(mine))
    assert pin.checked("mine") == mine / "train"


def test_an_entry_that_is_both_embedded_and_a_persons_own_is_refused(mine: Path):
    with pytest.raises(ValueError, match=r"mine: it is under `synthetic` .* remove one of the two"):
        pin.pin_all(described(mine, synthetic={"mine": {}}))
    assert not Path("data").exists()


@pytest.mark.parametrize("place", ["data/mine", "data/mine/train", "data/mine/eval"])
def test_no_set_is_drawn_where_a_link_is(mine: Path, place: str):
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).symlink_to(mine)
    with pytest.raises(ValueError, match=f"{place} is a link to .*remove the link"):
        pin.pin_all({"synthetic": {"mine": {}}, "datasets": {"mine": {}}})


def test_no_set_is_drawn_over_files_that_were_not_drawn(mine: Path):
    shutil.copytree(mine, "data/mine")
    with pytest.raises(ValueError, match=r"data/mine/train holds files that nobody rendered"):
        pin.pin_all({"synthetic": {"mine": {}}, "datasets": {"mine": {}}})


def test_what_was_drawn_or_pinned_may_be_drawn_again(mine: Path):
    pin.pin_all(described(mine))
    pin.pin_all({"synthetic": {"mine": {}}, "datasets": {"mine": {}}})
    for part in pin.PARTS:
        (Path("data/mine") / part / pin.SYNTHETIC).write_text("")
        (Path("data/mine") / part / pin.PIN).unlink()
    pin.pin_all({"synthetic": {"mine": {}}, "datasets": {"mine": {}}})


def test_a_link_of_an_earlier_version_is_removed_and_the_folder_stays(mine: Path):
    Path("data").mkdir()
    Path("data/mine").symlink_to(mine)
    pin.pin_all(described(mine))
    assert not Path("data/mine").is_symlink()
    assert (mine / "train/train.rec").read_text() == "train/train.rec"
    assert not (mine / "train" / pin.PIN).exists()


def test_what_stands_where_the_pin_goes_is_left_alone(mine: Path):
    shutil.copytree(mine, "data/mine")
    with pytest.raises(ValueError, match=r"data/mine/train holds a data set of its own"):
        pin.pin_all(described(mine))
    assert Path("data/mine/train/train.rec").is_file()


def test_a_link_to_another_folder_is_left_alone(mine: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    Path("data").mkdir()
    Path("data/mine").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match=r"data/mine is a link to .*other"):
        pin.pin_all(described(mine))
    assert Path("data/mine").is_symlink()


def test_a_root_at_its_own_place_is_refused(mine: Path):
    shutil.copytree(mine, "data/mine")
    for root in ("data/mine", Path("data/mine").resolve(), "data/../data/mine"):
        with pytest.raises(ValueError, match="data/mine"):
            pin.pin_all(described(Path(root)))
    assert not list(Path("data").rglob(pin.PIN))


def test_a_root_reached_by_data_being_a_link_is_refused(mine: Path):
    Path("data").symlink_to(mine.parent)
    with pytest.raises(ValueError, match=r"data set of its own|outside data/mine"):
        pin.pin_all(described(mine))
    assert not list(mine.rglob(pin.PIN))


def test_data_may_be_a_link_to_a_big_disk(mine: Path, tmp_path: Path):
    (tmp_path / "disk").mkdir()
    Path("data").symlink_to(tmp_path / "disk")
    pin.pin_all(described(mine))
    assert (tmp_path / "disk/mine/train" / pin.PIN).is_file()
    assert not list(mine.rglob(pin.PIN))


def test_nothing_is_listed_where_it_would_be_written_into_a_folder_of_a_person(mine: Path, tmp_path: Path):
    shutil.copytree(mine, "data/mine/sets")
    with pytest.raises(ValueError, match=r"datasets\.mine\.root is data/mine/sets, where the list of its files would be"):
        pin.pin_all(described(Path("data/mine/sets")))
    shutil.rmtree("data/mine/sets")
    Path("data/mine/sets").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"data/mine/sets is a link to .*remove the link"):
        pin.pin_all(described(mine))


def test_no_data_set_takes_the_place_of_what_unpack_writes(mine: Path):
    with pytest.raises(ValueError, match="a data set called unpacked cannot be"):
        pin.pin_all({"datasets": {"unpacked": {"root": str(mine)}}})


def test_a_part_that_is_gone_has_no_pin_any_more(mine: Path):
    pin.pin_all(described(mine))
    shutil.rmtree(mine / "train")
    pin.pin_all(described(mine))
    assert not Path("data/mine/train", pin.PIN).exists()
    assert Path("data/mine/eval", pin.PIN).exists()
    # DVC needs the folder, and what it holds is another thing than any training set
    assert [path.name for path in Path("data/mine/train").iterdir()] == [pin.ABSENT]
    (mine / "train").mkdir()
    (mine / "train/train.rec").write_bytes(b"back")
    pin.pin_all(described(mine))
    assert [path.name for path in Path("data/mine/train").iterdir()] == [pin.PIN]


def test_the_pin_of_the_test_sets_as_a_whole_never_changes(mine: Path):
    pin.pin_all(described(mine))
    before = Path("data/mine/eval", pin.PIN).read_text()
    shutil.rmtree(mine / "eval")
    pin.pin_all(described(mine))
    assert Path("data/mine/eval", pin.PIN).read_text() == before == pin.BY_SET
