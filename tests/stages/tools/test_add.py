"""`facet add` and `facet add-run`: what is found, what is written, and that nothing else changes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from stages.config import params
from stages.inspection import sets
from stages.runtime import places, program, yaml_text
from stages.tools import add, add_run
from tests.stages import small_sets
from tests.support import PARAMS, ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's parameter files, to work in."""
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setenv("COLUMNS", "150")
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("profiles", "tables"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(PARAMS, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A download with training set, two `.bin` files and two official layouts."""
    folder = tmp_path / "faces"
    small_sets.write_train(folder)
    for name in ("lfw", "African"):
        small_sets.write_bin(folder / f"{name}.bin")
    small_sets.write_ijb(folder / "ijb")
    small_sets.write_scface(folder / "scface")
    return folder


def run_add(*arguments: str) -> int:
    return program.run(add.main, add.parser(), list(arguments))


def run_add_run(*arguments: str) -> int:
    return program.run(add_run.main, add_run.parser(), list(arguments))


def changes(name: str) -> tuple[list[str], list[str]]:
    """Return the lines that are new in a file, and those that are gone."""
    source = PARAMS if name == "params.yaml" else ROOT / name
    before, after = source.read_text().splitlines(), Path(name).read_text().splitlines()
    return [line for line in after if line not in before], [line for line in before if line not in after]


def test_a_flat_folder_becomes_a_data_set_with_the_benchmarks_that_are_there(
    flat: Path, capsys: pytest.CaptureFixture[str]
):
    stood = {path: path.read_bytes() for path in flat.rglob("*") if path.is_file()}
    assert run_add("mine", str(flat), "--yes") == 0
    said = capsys.readouterr().out
    for text in ("training set", "African.bin", "no 1:N lists: it can be measured 1:1 alone", "+  mine:"):
        assert text in said
    assert said.endswith(
        "Next: facet add-run mine_arcface --like arcface --set dataset=mine --table mine\n"
    )
    added, gone = changes("params.yaml")
    assert gone == []
    assert added == [
        "  mine:", f"    root: {flat}", "    benchmarks:", "      hq: {sets: [lfw, African]}",
        "      ijb: {sets: [IJBB], protocols: ['1:1']}", "      lq: {sets: [scface, crlfw]}", "      fiqa: {sets: [lfw]}",
    ]  # fmt: skip
    assert params.load().datasets["mine"].benchmarks["lq"] == {"sets": ["scface", "crlfw"]}
    assert {path: path.read_bytes() for path in flat.rglob("*") if path.is_file()} == stood


def test_lfw_alone_measures_lfw_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_bin(tmp_path / "one/lfw.bin")
    small_sets.write_train(tmp_path / "one")
    assert run_add("one", str(tmp_path / "one"), "--yes") == 0
    assert params.load().datasets["one"].benchmarks == {
        "hq": {"sets": ["lfw"]}, "ijb": {"sets": []}, "lq": {"sets": ["crlfw"]}, "fiqa": {"sets": ["lfw"]},
    }  # fmt: skip
    assert run_add_run("one_a", "--like", "adaface", "--set", "dataset=one", "--table", "one", "--yes") == 0
    table = yaml_text.parse(Path("tables/one.yaml").read_text())
    metrics = [column["metric"] for column in table["columns"]]
    sides = params.load().runs["one_a"].evaluate.lq.crlfw_sides
    assert metrics == ["hq.lfw", *(f"lq.crlfw_{side}" for side in sides), "fiqa.lfw_feature_norm_edc_auc_fmr1e-02"]


def test_without_a_training_set_the_next_command_measures_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small_sets.write_bin(tmp_path / "one/lfw.bin")
    assert run_add("one", str(tmp_path / "one"), "--yes") == 0
    assert f"Next: facet verify MODEL --folder {tmp_path / 'one'} (it has no training set" in capsys.readouterr().out


def test_sets_with_the_published_counts_are_compared_if_it_is_said_that_they_are_those(
    flat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(add.KNOWN, "lfw", replace(add.KNOWN["lfw"], counts={"pairs": 40, "genuine": 20}))
    assert run_add("mine", str(flat), "--yes") == 0
    said = capsys.readouterr().out
    assert "By their counts lfw may be the published sets." in said
    assert "--published lfw\n" in said
    assert params.load().datasets["mine"].published == ()
    assert run_add("again", str(flat), "--published", "lfw", "--yes") == 0
    assert "By their counts" not in capsys.readouterr().out
    assert params.load().datasets["again"].published == ("lfw",)


def test_a_set_that_cannot_be_used_is_shown_and_left_out(flat: Path, capsys: pytest.CaptureFixture[str]):
    (flat / "lfw.bin").write_bytes(b"no pickle")
    (flat / "scface/all.txt").write_text("")
    assert run_add("mine", str(flat), "--yes") == 0
    assert capsys.readouterr().out.count("unusable") == 2
    assert params.load().datasets["mine"].benchmarks["hq"] == {"sets": ["African"]}


def test_nothing_is_written_unless_it_is_said(flat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    before = Path("params.yaml").read_bytes()
    assert run_add("mine", str(flat)) == 2
    captured = capsys.readouterr()
    assert "+  mine:" in captured.out
    assert "nothing was written: nobody can be asked here; --yes writes it" in captured.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("n", 0), ("", 0)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert run_add("mine", str(flat)) == code
        assert Path("params.yaml").read_bytes() == before
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run_add("mine", str(flat)) == 0
    assert Path("params.yaml").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("demo", "."), "params.yaml already has a data set 'demo'"),
        (("My-Set", "."), "a data set's name has lower-case letters"),
        (("mine", "nowhere"), "no folder nowhere"),
        (("mine",), "give a folder, or --sources"),
        (("mine", "profiles"), "holds nothing that facet reads"),
        (("both", "--sources", "demo,other"), "demo has no `root`: a source is a folder of yours"),
        (("both", "--sources", "other,demo"), "no data set 'other': there are both, demo"),
    ],
)
def test_what_cannot_be_added_says_why(arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]):
    assert run_add(*arguments, "--yes") == 2
    assert problem in capsys.readouterr().err
    assert changes("params.yaml") == ([], [])


@pytest.mark.parametrize(
    ("part", "title", "advice"),
    [
        ("ijb/IJBB", "IJB-B", "give {root}"),
        ("ijb", "IJB-B", "give {root}"),
        ("scface", "SCface", "give {root}"),
        ("tinyface", "TinyFace", "give {root}"),
    ],
)
def test_the_folder_of_a_test_set_is_no_data_set(
    flat: Path, part: str, title: str, advice: str, capsys: pytest.CaptureFixture[str]
):
    small_sets.write_tinyface(flat / "tinyface")
    assert run_add("mine", str(flat / part), "--yes") == 2
    said = capsys.readouterr().err
    assert title in said
    assert advice.format(root=flat) in said
    assert places.training_names(flat / part) == frozenset(), "nobody trains on it"


def test_a_record_file_is_told_from_a_folder(flat: Path, capsys: pytest.CaptureFixture[str]):
    assert run_add("mine", str(flat / "train.rec")) == 2
    assert f"train.rec is a file: give its folder, {flat}" in capsys.readouterr().err


def test_pairs_of_ones_own_are_found(flat: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "600")
    pairs = flat / "mypairs"
    for person in ("Ann", "Bo"):
        (pairs / person).mkdir(parents=True)
        for number in (1, 2):
            (pairs / person / f"{number}.png").write_bytes(small_sets.encoded(len(person), number))
    (pairs / "pairs.csv").write_text("a,b,same\nAnn/1.png,Ann/2.png,1\nAnn/1.png,Bo/1.png,0\n")
    assert run_add("mine", str(flat), "--yes") == 0
    assert "mypairs" in params.load().datasets["mine"].benchmarks["hq"]["sets"]
    known, protocol = sets.recognise(pairs) or (None, None)
    assert (known.name if known else "", len(protocol.names) if protocol else 0) == ("mypairs", 3)
    (pairs / "pairs.csv").write_text("a,b\n")
    capsys.readouterr()
    assert run_add("again", str(flat), "--yes") == 0
    assert "pairs.csv: its first line should name the columns" in " ".join(capsys.readouterr().out.split())


def test_a_source_without_a_training_set_is_refused_before_it_is_written(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    small_sets.write_bin(tmp_path / "sets/lfw.bin")
    assert run_add("mine", str(flat), "--yes") == 0
    assert run_add("tests", str(tmp_path / "sets"), "--yes") == 0
    before = Path("params.yaml").read_text()
    assert run_add("both", "--sources", "mine,tests", "--yes") == 2
    assert "has no training set to merge" in capsys.readouterr().err
    assert Path("params.yaml").read_text() == before


def test_data_sets_are_merged_and_measured_on_the_first_ones_sets(flat: Path, tmp_path: Path):
    small_sets.write_train(tmp_path / "crowd")
    for name, folder in (("web", flat), ("crowd", tmp_path / "crowd")):
        assert run_add(name, str(folder), "--yes") == 0
    assert run_add("both", "--sources", "web,crowd", "--yes") == 0
    both = params.load().datasets["both"]
    assert (both.sources, both.benchmarks) == (("web", "crowd"), params.load().datasets["web"].benchmarks)


def test_a_run_by_a_recipe_copies_no_section_that_the_recipe_gives():
    wanted = ("--set", "recipe=adaface", "--set", "augmentation.crop_probability=.1", "--yes")
    assert run_add_run("published", "--like", "adaface", "--set", "head.margin=0.3", "--yes") == 0
    assert run_add_run("by_recipe", "--like", "published", *wanted) == 0
    run = yaml_text.parse(Path("params.yaml").read_text())["runs"]["by_recipe"]
    assert run == {"dataset": "demo", "head": {"name": "adaface"}, "recipe": "adaface",
                   "augmentation": {"crop_probability": 0.1}}


def test_a_run_like_another_gets_its_row_and_comments_stay(capsys: pytest.CaptureFixture[str]):
    assert run_add_run("wide", "--like", "adaface", "--set", "head.margin=.3", "--table", "heads", "--yes") == 0
    added, gone = changes("params.yaml")
    assert gone == []
    assert added == [
        "  wide:", "    head: {name: adaface, margin: 0.3, h: 0.333}", "  heads-wide: {table: heads, run: wide}"
    ]  # fmt: skip
    assert changes("tables/heads.yaml") == (["  wide:", "    label: adaface, head.margin=.3", "    run: wide"], [])
    assert params.load().runs["wide"].train.head["margin"] == 0.3
    assert capsys.readouterr().out.endswith("Written: params.yaml, tables/heads.yaml.\nNext: facet run heads\n")


def test_another_head_begins_its_section_anew():
    assert run_add_run("soft", "--like", "arcface", "--set", "head.margin=0.1", "--set", "head.name=cosface", "--yes") == 0
    assert yaml_text.parse(Path("params.yaml").read_text())["runs"]["soft"]["head"] == {"name": "cosface", "margin": 0.1}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a", "--like", "none"), "params.yaml has no run 'none': there are arcface, cosface, adaface"),
        (("arcface", "--like", "cosface"), "params.yaml already has a run 'arcface'"),
        (("a", "--like", "arcface", "--set", "head.margn=1"), "margn"),
        (("a", "--like", "arcface", "--set", "head.margin"), "--set needs PATH=VALUE"),
        (("a", "--like", "arcface", "--set", "dataset.x=1"), "dataset is a value, and has no x"),
        (("A", "--like", "arcface"), "a run's name has lower-case letters"),
        (("a", "--like", "arcface", "--table", "T-1"), "a table's name has lower-case letters"),
        (("a", "--like", "arcface", "--table", "heads", "--label", "ArcFace"), "rows' labels should be unique"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
):
    assert run_add_run(*arguments, "--yes") == 2
    assert problem in capsys.readouterr().err
    assert changes("params.yaml") == changes("tables/heads.yaml") == ([], [])
