"""Data sets merged of several: one label space, no identity shared unless a file says so, each file read where it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import unpack
from stages.datasets import insightface_rec
from stages.runtime import artifacts, merged, pin, set_pins
from stages.training import dataset
from tests.stages import small_sets

OUT = Path("data/unpacked/both")


def images_of(identities: range) -> list[tuple[bytes, int]]:
    first = identities.start
    return [(small_sets.encoded(who, seed), who - first) for who in identities for seed in range(2)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets: `web`, records of 3 people, and `crowd`, a folder of 2 people; they share none."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    insightface_rec.write(tmp_path / "web", images_of(range(3)), 3)
    for number, (image, identity) in enumerate(images_of(range(3, 5))):
        path = tmp_path / "crowd" / ("ann", "bo")[identity] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return tmp_path


def described(work: Path, sources: object = ("web", "crowd"), **more: object) -> dict[str, object]:
    roots = {name: {"root": str(work / name)} for name in ("web", "crowd")}
    return {"datasets": {**roots, "both": {"sources": sources, **more}}}


def run(work: Path, sources: tuple[str, ...] = ("web", "crowd"), **more: object) -> dict[str, object]:
    tree = described(work, sources, **more)
    pin.pin_all(tree)
    both = merged.described(tree)["both"]
    place = {"root": str(both.root), "sources": {name: str(root) for name, root in both.sources.items()}, **more}
    artifacts.write_yaml(Path("resolved/datasets/both.yaml"), {"unpack": {}, **place})
    unpack.main(unpack.parser().parse_args(["both"]))
    return artifacts.read_json(OUT / "card.json")


def test_identities_of_two_sources_never_share_a_label(work: Path):
    card = run(work)
    records = dataset.open_records("both")
    wanted = [*images_of(range(3)), *((image, 3 + who) for image, who in images_of(range(3, 5)))]
    assert [bytes(records.images.image_bytes(n)) for n in range(10)] == [image for image, _ in wanted]
    assert records.label_N.tolist() == [label for _, label in wanted]
    assert (records.num_classes, card["num_classes"], card["images"], card["identities"]) == (5, 5, 10, 5)
    assert [(one["dataset"], one["records"], one["images"]) for one in card["sources"]] == [
        ("web", "train.rec", 6), ("crowd", "crowd/train.rec", 4),
    ]  # fmt: skip
    assert not (OUT / "web").exists(), "records are read where they are"


def test_identities_that_a_file_says_are_one_person_get_one_label(work: Path):
    same = work / "same.csv"
    same.write_bytes("\ufeffcrowd,web\r\nbo,1\r\nann,\r\n".encode())
    card = run(work, same=str(same))
    assert pd.read_parquet(OUT / "manifest.parquet")["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 1, 1]
    assert card["num_classes"] == card["identities"] == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("web,other\n0,1\n", r"same\.csv, line 1: wanted a column per source \(web, crowd\), got web, other"),
        ("web\n0\n", r"same\.csv, line 1: wanted a column per source"),
        ("web,crowd\n0,ann\n3,bo\n", r"same\.csv, line 3, web: wanted a label below 3, got '3'"),
        ("web,crowd\n0,eve\n", r"same\.csv, line 2, crowd: there is no folder of a person called 'eve'"),
    ],
)
def test_a_file_of_same_people_that_does_not_fit_is_refused(work: Path, text: str, problem: str):
    (work / "same.csv").write_text(text)
    with pytest.raises(ValueError, match=problem):
        run(work, same=str(work / "same.csv"))


def test_the_list_of_a_merged_set_changes_with_each_source_and_with_the_file(work: Path):
    def listed(**more: object) -> str:
        pin.pin_all(described(work, **more))
        return Path("data/both/train", pin.PIN).read_text()

    first = listed()
    assert '"web/train.rec"' in first
    assert '"crowd/bo/2.png"' in first
    assert listed(sources=("crowd", "web")) != first
    (work / "same.csv").write_text("web,crowd\n0,ann\n")
    with_file = listed(same=str(work / "same.csv"))
    (work / "same.csv").write_text("web,crowd\n0,bo\n")
    assert len({first, with_file, listed(same=str(work / "same.csv"))}) == 3
    (work / "crowd/bo/2.png").write_bytes(b"another")
    assert listed() != first


def test_a_source_that_changed_since_is_refused_before_it_is_trained_on(work: Path):
    run(work)
    (work / "web/train.lst").write_text("edited")
    with pytest.raises(ValueError, match=r'the first is "web/train\.lst"'):
        dataset.open_records("both")


def test_sources_in_another_order_than_listed_are_refused(work: Path):
    run(work)
    path = Path("resolved/datasets/both.yaml")
    tree = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**tree, "sources": dict(reversed(tree["sources"].items()))}, sort_keys=False))
    with pytest.raises(ValueError, match="its sources changed places"):
        dataset.open_records("both")


def test_test_sets_are_those_of_the_first_source(work: Path):
    small_sets.write_bin(work / "crowd/lfw.bin", 4)
    run(work, sources=("crowd", "web"))
    files = set_pins.SetPins(pin.roots_of(described(work, sources=("crowd", "web")))).digests("both", ["lfw"])
    assert files["lfw"] is not None
    assert set_pins.checked("both", files) == work / "crowd"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"sources": ["web"]}, "wanted the names of two or more data sets, each once"),
        ({"sources": ["web", "web"]}, "wanted the names of two or more data sets, each once"),
        ({"sources": ["web", "nowhere"]}, "no data set 'nowhere': there are both, crowd, drawn, web"),
        ({"sources": ["web", "drawn"]}, "drawn has no `root`: a source is a folder of yours"),
        ({"sources": ["web", "crowd"], "root": "x"}, "it also has a `root`"),
        ({"same": "x.csv"}, "`same` is for `sources`"),
    ],
)
def test_an_entry_that_cannot_be_merged_says_why(work: Path, entry: dict[str, object], problem: str):
    tree = described(work)
    tree["datasets"]["both"] = entry  # type: ignore[index]
    tree["datasets"]["drawn"] = {}  # type: ignore[index]
    with pytest.raises((ValueError, LookupError), match=problem):
        merged.described(tree)


def test_one_folder_under_two_names_is_no_merge(work: Path):
    tree = described(work, sources=("web", "again"))
    (work / "again").mkdir()
    (work / "again/train").symlink_to(work / "web", target_is_directory=True)
    tree["datasets"]["again"] = {"root": str(work / "again")}  # type: ignore[index]
    with pytest.raises(ValueError, match=r"web and again are one folder, .*: its people would count twice"):
        merged.described(tree)
    tree["datasets"]["again"] = {"root": str(work / "crowd")}  # type: ignore[index]
    assert list(merged.described(tree)["both"].sources) == ["web", "again"]


def test_an_export_is_for_a_single_set(work: Path):
    run(work)
    path = Path("resolved/datasets/both.yaml")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "unpack": {"export": "folder"}}, sort_keys=False))
    with pytest.raises(ValueError, match="`export: folder` is for a single set"):
        unpack.main(unpack.parser().parse_args(["both"]))
