"""`facet doctor`: what runs want and what is there, as a table, as JSON and as exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stages.runtime import program
from stages.tools import doctor
from tests.stages import small_sets
from tests.support import PARAMS, ROOT


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.chdir(ROOT)


def test_on_an_empty_machine_every_set_that_runs_want_is_missing_with_its_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert doctor.run(["--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for text in ("no train.rec", "no file", "eval/lfw.bin", "qmul-tinyface.github.io", "published:", "3,728 probes", "650 d1"):
        assert text in said
    assert "sets that the runs" in said


def test_all_shows_every_set_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    doctor.run(["--folder", str(tmp_path), "--all", "--json"])
    tree = {line["set"]: line for line in json.loads(capsys.readouterr().out)}
    assert {"IJBC", "ijbs", "adience", "xqlfw", "cfp_ff", "vgg2_fp"} <= set(tree)
    assert tree["IJBC"]["published_counts"]["images"] == 469375
    assert all(line["status"] == ("missing" if line["wanted_by"] else "not here") for line in tree.values())


def test_synthetic_data_says_how_to_render_it_and_is_not_held_to_published_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("params.yaml", "profiles", "tables"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    small_sets.write_bin(tmp_path / "data/demo/eval/lfw.bin")
    assert doctor.run(["demo"]) == 1
    said = capsys.readouterr().out
    assert "dvc repro synthesize@demo" in said
    assert "published" not in said
    assert doctor.run(["demo", "--json"]) == 1
    lfw = next(x for x in json.loads(capsys.readouterr().out) if x["set"] == "lfw")
    assert (lfw["status"], lfw["synthetic"]) == ("ok", True)


def test_what_is_there_is_no_fault_whatever_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small_sets.write_bin(tmp_path / "eval/lfw.bin")
    monkeypatch.setattr(doctor, "wanted_sets", lambda *_: {"lfw": ["arcface"]})
    assert doctor.run(["--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "40 of 6,000 pairs" in said
    assert "All sets that the runs of params.yaml need are here." in said


def test_a_set_that_cannot_be_used_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/lfw.bin").write_bytes(b"[not a pickle]")
    monkeypatch.setattr(doctor, "wanted_sets", lambda *_: {"lfw": ["arcface"]})
    assert doctor.run(["--folder", str(tmp_path)]) == 1
    assert "unusable" in capsys.readouterr().out


def test_an_unknown_data_set_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    assert doctor.run(["nowhere"]) == 2
    assert "params.yaml has no data set nowhere: there are demo" in capsys.readouterr().err


def test_a_flat_folder_is_seen_as_stages_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small_sets.write_bin(tmp_path / "lfw.bin")
    small_sets.write_train(tmp_path)
    monkeypatch.setattr(doctor, "wanted_sets", lambda *_: {"train": ["arcface"], "lfw": ["arcface"]})
    assert doctor.run(["--folder", str(tmp_path), "--json"]) == 0
    tree = {line["set"]: line for line in json.loads(capsys.readouterr().out)}
    assert {name: (line["status"], line["where"]) for name, line in tree.items()} == {
        "train": ("ok", "./"), "lfw": ("odd", "lfw.bin"),
    }  # fmt: skip


def test_a_merged_set_shows_the_training_set_of_each_source_and_the_test_sets_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("profiles", "tables"):
        (tmp_path / name).symlink_to(ROOT / name)
    roots = {name: {"root": name} for name in ("web", "crowd")}
    tree = yaml.safe_load((PARAMS).read_text())
    runs = {name: {**run, "dataset": "both"} for name, run in tree["runs"].items()}
    tree |= {"datasets": {**roots, "both": {"sources": ["web", "crowd"]}}, "synthetic": {}, "runs": runs}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    for name in ("web", "crowd"):
        small_sets.write_train(tmp_path / name)
    small_sets.write_bin(tmp_path / "web/lfw.bin")
    assert doctor.run(["both", "--json"]) == 1
    lines = {line["title"]: line for line in json.loads(capsys.readouterr().out)}
    assert {lines[f"training set {name}"]["status"] for name in roots} == {"ok"}
    assert (lines["LFW"]["status"], lines["LFW"]["where"]) == ("odd", "lfw.bin")


def test_a_test_set_under_a_persons_own_name_is_shown_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small_sets.write_bin(tmp_path / "African.bin")
    monkeypatch.setattr(doctor, "wanted_sets", lambda *_: {"African": ["arcface"], "Indian": ["arcface"]})
    assert doctor.run(["--folder", str(tmp_path), "--json"]) == 1
    assert {line["set"]: line["status"] for line in json.loads(capsys.readouterr().out)} == {
        "African": "ok", "Indian": "missing",
    }  # fmt: skip


def test_a_set_that_a_training_is_validated_on_alone_is_missed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("profiles", "tables"):
        (tmp_path / name).symlink_to(ROOT / name)
    small_sets.write_train(tmp_path / "mine")
    run = {"dataset": "mine", "head": {"name": "softmax"}, "backbone": {"name": "iresnet"}}
    validation = {"every_steps": 9, "sets": ["African"], "suites": {"ijb": {"sets": ["IJBC"]}}, "dataset": "far"}
    measured = {"datasets": {"mine": {"root": str(tmp_path / "mine"), "benchmarks": dict.fromkeys(("hq", "ijb", "lq", "fiqa"))},
                             "far": {"root": str(tmp_path)}}}  # fmt: skip
    for every, wanted in ((9, {"African": ["r"], "IJBC": ["r"]}), (0, {})):
        tree = {"profile": "demo", **measured, "runs": {"r": {**run, "validation": {**validation, "every_steps": every}}}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        monkeypatch.chdir(tmp_path)
        doctor.run(["far", "--json"])
        found = {line["set"]: line["wanted_by"] for line in json.loads(capsys.readouterr().out) if line["wanted_by"]}
        assert found == wanted


def test_the_page_of_data_sets_shows_where_to_get_them_as_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    doctor.run(["--folder", str(tmp_path)])
    printed = " ".join(capsys.readouterr().out.partition("Where to get the missing sets:")[2].split())
    page = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    shown = page.partition("Where to get the missing sets:\n")[2].partition("\n\n")[0]
    entries = [" ".join(entry.split()) for entry in shown.split("\n  ")]
    assert len(entries) >= 5
    assert [entry for entry in entries if entry not in printed] == []
