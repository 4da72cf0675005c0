from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.runtime import artifacts, pin, set_pins, yaml_text

CLOCK = itertools.count()
SETS = ("lfw.bin", "cfp_fp.bin", "ijb/IJBB/loose_crop/one.jpg", "ijb/IJBB/meta/list.txt", "tinyface/one.jpg", "truth.parquet")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder of test sets, beside the folder that is worked in, where it is resolved under the name mine."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    folder = tmp_path / "mine/eval"
    for name in SETS:
        put(folder / name, name)
    artifacts.write_yaml(Path("resolved/datasets/mine.yaml"), {"unpack": {}, "root": str(tmp_path / "mine")})
    return folder


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1e9, 1e9 + next(CLOCK)))


def digests(mine: Path, *names: str) -> dict[str, str | None]:
    return set_pins.SetPins({"mine": mine.parent}).digests("mine", names)


def sections(**validation: Any) -> dict[str, Any]:
    return {
        "train": {"dataset": "mine", "validation": {"every_epochs": 0, "sets": ["lfw"], **validation}},
        "evaluate_hq": {"dataset": "mine", "switches": {"sets": ["lfw"]}},
        "evaluate_lq": {"dataset": "mine", "switches": {"sets": ["tinyface", "crlfw"]}},
        "evaluate_fiqa": {"dataset": "mine", "switches": {"sets": ["IJBB"]}},
        "evaluate_ijb": {"dataset": "mine", "switches": {"sets": ["IJBC"]}},
    }


def test_each_set_has_a_digest_of_its_own_files_alone(mine: Path):
    before = digests(mine, "lfw", "cfp_fp", "IJBB", "tinyface", "truth", "crlfw")
    assert None not in before.values()
    assert before["crlfw"] == before["lfw"]
    for name, changed in (("ijb/IJBB/meta/list.txt", {"IJBB"}), ("lfw.bin", {"lfw", "crlfw"}), ("agedb_30.bin", set()),
                          ("lfw.old.bin", set()), ("ijb/IJBC/x", set()), ("tinyface/new.jpg", {"tinyface"})):  # fmt: skip
        put(mine / name, "another text")
        after = digests(mine, *before)
        assert {key for key in before if before[key] != after[key]} == changed, name
        before = after


def test_the_same_files_elsewhere_have_the_same_digest_through_links_too(mine: Path, tmp_path: Path):
    before = digests(mine, "IJBB", "lfw")
    (mine / "ijb").rename(tmp_path / "disk")
    (tmp_path / "disk/IJBB/loose_crop").rename(tmp_path / "other_disk")
    (tmp_path / "disk/IJBB/loose_crop").symlink_to(tmp_path / "other_disk")
    (mine / "ijb").symlink_to(tmp_path / "disk")
    assert digests(mine, "IJBB", "lfw") == before
    put(tmp_path / "other_disk/one.jpg", "another")
    assert digests(mine, "IJBB", "lfw") == {**before, "IJBB": digests(mine, "IJBB")["IJBB"]} != before


def test_a_set_that_is_not_there_has_no_digest_and_no_list(mine: Path):
    assert digests(mine, "lfw", "IJBC") == {"lfw": digests(mine, "lfw")["lfw"], "IJBC": None}
    assert set_pins.list_path("mine", "lfw").is_file()
    (mine / "lfw.bin").unlink()
    assert digests(mine, "lfw") == {"lfw": None}
    assert not set_pins.list_path("mine", "lfw").exists()


def test_what_is_not_named_is_not_read(mine: Path, monkeypatch: pytest.MonkeyPatch):
    read = []
    real = pin._md5
    monkeypatch.setattr(pin, "_md5", lambda path: read.append(path.name) or real(path))
    digests(mine, "lfw")
    digests(mine, "lfw", "crlfw")
    assert read == ["lfw.bin"]


def written(mine: Path, **runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    set_pins.write_all({"mine": mine.parent}, runs)
    return {path.stem: yaml_text.parse(path.read_text()) for path in Path("pins").glob("*.yaml")}


def test_a_run_has_the_digests_of_the_sets_that_its_sections_name(mine: Path):
    found = written(mine, r=sections())["r"]
    assert {name: set(files) for name, files in found.items()} == {
        "evaluate_hq": {"lfw"}, "evaluate_lq": {"tinyface", "crlfw"}, "evaluate_fiqa": {"IJBB", "truth"}, "evaluate_ijb": {"IJBC"},
        "validation": set(),
    }  # fmt: skip
    assert found["evaluate_hq"] == digests(mine, "lfw") == set_pins.recorded("r", "evaluate_hq")
    assert written(mine, r=sections(every_epochs=2))["r"]["validation"] == digests(mine, "lfw")


def test_a_run_on_a_synthetic_set_has_empty_sections(mine: Path):
    set_pins.write_all({"another": mine.parent}, {"r": sections(every_epochs=1)})
    names = ["validation", "evaluate_hq", "evaluate_lq", "evaluate_fiqa", "evaluate_ijb"]
    assert yaml.safe_load(Path("pins/r.yaml").read_text()) == {name: {} for name in names}
    assert set_pins.checked("mine", set_pins.recorded("r", "evaluate_hq")) == mine


def test_a_suite_without_sets_has_no_digest(mine: Path):
    empty = {name: {"dataset": "mine", "switches": {"sets": []}} for name in ("evaluate_lq", "evaluate_fiqa")}
    found = written(mine, r={**sections(every_epochs=1, sets=[]), **empty})["r"]
    assert (found["validation"], found["evaluate_lq"], found["evaluate_fiqa"]) == ({}, {}, {})
    assert set(found["evaluate_hq"]) == {"lfw"}


def test_sets_of_any_name_are_pinned_files_and_folders(mine: Path):
    names = ["African", "Süd-1", "1e3", "crlfw", "XQ"]
    for file in ("African.bin", "Süd-1.bin", "1e3.bin", "crlfw.bin", "XQ/images/a.jpg", "XQ/pair_list.txt", "African2.bin"):
        put(mine / file, file)
    named = {"evaluate_hq": {"dataset": "mine", "switches": {"sets": names}}}
    before = written(mine, r={**sections(every_epochs=1, sets=["XQ"]), **named})["r"]
    assert before["evaluate_hq"] == set_pins.recorded("r", "evaluate_hq") == digests(mine, *names)
    assert set_pins.checked("mine", before["evaluate_hq"]) == mine
    assert before["validation"] == {"XQ": before["evaluate_hq"]["XQ"]}
    assert '"XQ/images/a.jpg"' in set_pins.list_path("mine", "XQ").read_text()
    for file, name in (("Süd-1.bin", "Süd-1"), ("XQ/pair_list.txt", "XQ"), ("crlfw.bin", "crlfw"), ("African.bin", "African")):
        before = digests(mine, *names)
        put(mine / file, f"another {file}")
        assert {key for key, value in digests(mine, *names).items() if value != before[key]} == {name}


def test_a_flat_folder_has_the_digests_of_the_same_files_under_eval(mine: Path):
    before = digests(mine, "lfw", "IJBB", "tinyface", "IJBC", "property")
    for path in mine.iterdir():
        path.rename(mine.parent / path.name)
    mine.rmdir()
    for name in ("train.rec", "train.idx", "property"):
        put(mine.parent / name, name)
    assert digests(mine, *before) == before, "training files are no test set"
    files = digests(mine, "lfw", "IJBB")
    put(mine.parent / "agedb_30.bin", "another set")
    assert set_pins.checked("mine", files) == mine.parent
    put(mine.parent / "ijb/IJBB/loose_crop/one.jpg", "another text")
    with pytest.raises(ValueError, match=r"IJBB: .* 1 files differ, the first is \"ijb/IJBB/loose_crop/one\.jpg\""):
        set_pins.checked("mine", files)


def test_pins_of_a_run_that_is_gone_are_removed(mine: Path):
    assert set(written(mine, r=sections(), s=sections())) == {"r", "s"}
    assert set(written(mine, s=sections())) == {"s"}


def test_digests_are_brought_up_to_date_and_nothing_is_written_without_need(mine: Path):
    artifacts.write_yaml(Path("resolved/runs/r.yaml"), sections())
    old, path = written(mine, **set_pins.resolved_runs())["r"], Path("pins/r.yaml")
    before = path.stat()
    assert written(mine, **set_pins.resolved_runs())["r"] == old
    put(mine / "cfp_fp.bin", "not named")
    assert written(mine, **set_pins.resolved_runs())["r"] == old
    assert path.stat().st_ino == before.st_ino
    put(mine / "lfw.bin", "changed")
    new = written(mine, **set_pins.resolved_runs())["r"]
    assert {key for key in old if old[key] != new[key]} == {"evaluate_hq", "evaluate_lq"}


def test_a_set_that_changed_since_it_was_pinned_is_refused_before_a_stage_reads_it(mine: Path):
    files = digests(mine, "lfw", "IJBB", "IJBC")
    assert set_pins.checked("mine", files) == mine
    put(mine / "cfp_fp.bin", "not of this stage")
    assert set_pins.checked("mine", files) == mine
    put(mine / "ijb/IJBB/loose_crop/two.jpg", "new")
    with pytest.raises(ValueError, match=r"IJBB: .* 1 files differ, the first is \"ijb/IJBB/loose_crop/two\.jpg\": `facet run`"):
        set_pins.checked("mine", files)
    (mine / "ijb/IJBB/loose_crop/two.jpg").unlink()
    put(mine / "ijb/IJBC/new.txt", "a set that was not there")
    with pytest.raises(ValueError, match=r"IJBC: not what it was when it was listed, 1 files differ"):
        set_pins.checked("mine", files)


def test_a_linked_file_that_leads_nowhere_changes_its_set_alone(mine: Path):
    before = digests(mine, "lfw", "tinyface")
    (mine / "tinyface/gone.jpg").symlink_to("nowhere")
    after = digests(mine, "lfw", "tinyface")
    assert (after["lfw"], after["tinyface"] == before["tinyface"]) == (before["lfw"], False)
    assert set_pins.checked("mine", after) == mine, "its reader counts it as a failure"


def test_a_set_that_is_not_there_is_said_before_anything_is_trained(mine: Path, capsys: Any):
    sections = {
        "evaluate_hq": {"dataset": "mine", "switches": {"sets": ["lfw", "lfww"]}},
        "evaluate_fiqa": {"dataset": "mine", "switches": {"sets": ["lfw"]}},
    }
    set_pins.write_all({"mine": mine}, {"a": sections})
    said = [line for line in capsys.readouterr().err.splitlines() if "will fail" in line]
    assert said == [
        f"evaluate_hq@a will fail: {mine} has no lfww. Name the sets that are there: "
        "datasets.mine.benchmarks.hq.sets in params.yaml ([]: none)"
    ]


def test_a_folder_of_many_files_is_measured_after_a_sentence(mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr(set_pins, "MANY_FILES", 1)
    set_pins.checked("mine", digests(mine, "tinyface", "lfw"))
    assert "facet pack" not in capsys.readouterr().err
    assert set_pins.checked("mine", digests(mine, "IJBB")) == mine
    said = capsys.readouterr().err
    assert "IJBB: looking at 2 files took 0 s" in said
    assert f"`facet pack {mine / 'ijb/IJBB'} TARGET`" in said
