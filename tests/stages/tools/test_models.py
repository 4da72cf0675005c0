"""`facet models`, `facet import` and `facet verify` as a person uses them, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stages.core.metrics.suite_result import Measured
from stages.models import model_files, zoo
from stages.runtime import artifacts, program
from stages.tools import _verification, import_model, models, verify
from tests.stages import small_sets
from tests.support import ROOT
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

ENTRY = "adaface_ir18_casia"


def run(tool, *words: str) -> int:
    return program.run(tool.main, tool.parser(), list(words))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a downloaded checkpoint and two small sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_files, "save_program", lambda *given: None)  # slow, and tested elsewhere
    # the network here is a narrow one of 12 layers
    text = (ROOT / "models.yaml").read_text().replace("architecture: IR-18", "architecture: IR-12")
    (tmp_path / "models.yaml").write_text(text)
    network = fill(build(NARROW_CONFIGS["adaface"]))
    torch.save(published_file("adaface", dict(network.state_dict())), tmp_path / "adaface_ir18_casia.ckpt")
    small_sets.write_bin(tmp_path / "data/mine/eval/lfw.bin")
    small_sets.write_bin(tmp_path / "data/mine/eval/vgg2_fp.bin")
    return tmp_path


def test_a_model_is_imported_listed_and_verified(home: Path, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "adaface_r18", "--published", ENTRY) == 0
    said = capsys.readouterr().out
    assert "takes BGR in [-1, 1]; trained on CASIA-WebFace" in said
    assert artifacts.sha256(home / f"{ENTRY}.ckpt") in said

    assert run(models, "--dataset", "casia", "--method", "adaface") == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["here", "as"]
    assert first.split()[0] == ENTRY
    assert first.split()[-1] == "adaface_r18"
    assert second.split()[-1] == "-"

    assert run(verify, "adaface_r18", "--dataset", "mine") == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("hq.lfw"))
    assert row.split()[2] == "99.13"
    assert row.endswith("another set: 40 pairs instead of 6,000")
    assert "vgg2_fp" not in said  # nothing is published for it
    assert next(line for line in said.splitlines() if line.startswith("hq.cplfw")).endswith("not measured")
    kept = json.loads((home / "models/adaface_r18/results/hq/details.json").read_text())
    assert kept["sets"]["lfw"]["pairs"] == 40
    assert kept["weights_sha256"] == model_files.read_model(home / "models/adaface_r18").weights_sha256

    assert run(verify, "adaface_r18", "--dataset", "mine", "--every-set", "--json") == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hq.vgg2_fp"]["verdict"] == "not published"
    assert rows["hq.avg"]["verdict"] == "not measured"  # not of the same five sets


def test_a_file_whose_checksum_is_known_is_known_by_it_and_another_is_refused(home: Path, capsys):
    sha256 = artifacts.sha256(home / f"{ENTRY}.ckpt")
    text = (home / "models.yaml").read_text()
    place = text.index("sha256: null", text.index(f"{ENTRY}:"))
    (home / "models.yaml").write_text(text[:place] + f"sha256: {sha256}" + text[place + len("sha256: null") :])
    (home / f"{ENTRY}.ckpt").rename(home / "renamed.ckpt")
    assert run(import_model, "renamed.ckpt", "one") == 0
    assert model_files.read_model(home / "models/one").source.published == ENTRY
    (home / "other.ckpt").write_bytes((home / "renamed.ckpt").read_bytes() + b" ")
    assert run(import_model, "other.ckpt", "two", "--published", ENTRY) == 2
    assert f"is not {ENTRY}'s file: expected SHA-256 {sha256}" in capsys.readouterr().err


def test_a_file_of_another_depth_than_its_entry_is_refused(home: Path, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "one", "--published", "adaface_ir50_ms1mv2") == 2
    assert "has 12 layers, but adaface_ir50_ms1mv2 expected 50" in capsys.readouterr().err
    assert not (home / "models/one").exists()


def test_a_name_is_taken_once(home: Path, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "one") == 0
    assert run(import_model, f"{ENTRY}.ckpt", "one") == 2
    assert "give --replace" in capsys.readouterr().err
    assert run(import_model, f"{ENTRY}.ckpt", "one", "--replace") == 0
    artifacts.write_json(home / "runs/trained/backbone/model.json", {})
    assert run(import_model, f"{ENTRY}.ckpt", "trained") == 2
    assert "a run that was trained here" in capsys.readouterr().err
    assert run(import_model, f"{ENTRY}.ckpt", "../out") == 2
    assert "a name has lower-case letters" in capsys.readouterr().err


def test_what_cannot_be_verified_is_one_sentence(home: Path, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "one", "--published", ENTRY) == 0
    assert run(verify, "one", "--folder", "nothing") == 2
    assert "has no test set" in capsys.readouterr().err
    assert run(verify, "one", "--dataset", "mine", "--published", "crfiqa_s") == 2
    assert "crfiqa_s has no published score" in capsys.readouterr().err
    assert run(verify, "one", "--dataset", "mine", "--published", "adaface") == 2
    assert "models.yaml has no 'adaface'" in capsys.readouterr().err


def test_verifying_a_run_leaves_its_results_to_dvc(home: Path, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "one") == 0
    (home / "runs/trained").mkdir(parents=True)
    (home / "models/one").rename(home / "runs/trained/backbone")
    assert run(verify, "trained", "--dataset", "mine", "--suites", "hq") == 0
    said = capsys.readouterr().out
    assert "no published row: give --published ENTRY" in said
    assert "hq.vgg2_fp" in said
    assert not (home / "results").exists()


def test_one_entry_is_shown_whole(home: Path, capsys):
    assert run(models, "curricularface_ir101_ms1mv2") == 0
    said = capsys.readouterr().out
    assert "CurricularFace, IR-101, trained on MS1MV2" in said
    assert "drive.google.com" in said
    assert "not here" in said
    assert run(models, "--method", "nothing") == 2


def official(accuracy: float) -> dict[str, Measured]:
    """What the suite would say of the real LFW and IJB-B."""
    hq = Measured({"lfw": accuracy}, {"sets": {"lfw": {"pairs": 6000}}})
    ijb = Measured({"ijbb_tar_at_far_1e-04": 0.9450, "ijbb_tar_at_far_1e-05": 0.8}, {"sets": {"IJBB": {"pairs": 8_010_270}}})
    return {"hq": hq, "ijb": ijb}


def test_a_number_on_a_real_set_is_within_the_tolerance_or_outside():
    listed = zoo.load(ROOT / "models.yaml")
    verdicts = {
        one.metric: one.verdict for one in _verification.compare(listed, "adaface_ir50_ms1mv2", official(0.9972))
    }
    # 99.72 and 94.50 are exactly the tolerance, 0.10, and 0.32 away from 99.82 and 94.82
    assert verdicts["hq.lfw"] == "within"
    assert verdicts["ijb.ijbb_tar_at_far_1e-04"] == "OUTSIDE"
    assert verdicts["ijb.ijbb_tar_at_far_1e-05"] == "not published"
    assert verdicts["hq.avg"] == "not measured"  # of one set, not of the five
    worse = _verification.compare(listed, "adaface_ir50_ms1mv2", official(0.9971))
    assert next(one.verdict for one in worse if one.metric == "hq.lfw") == "OUTSIDE"


def test_a_number_outside_ends_with_exit_code_1(home: Path, monkeypatch, capsys):
    assert run(import_model, f"{ENTRY}.ckpt", "one", "--published", ENTRY) == 0
    monkeypatch.setattr(_verification, "measure", lambda *given: official(0.5))
    with pytest.raises(SystemExit) as ended:
        run(verify, "one", "--dataset", "mine")
    assert ended.value.code == 1
    assert "OUTSIDE" in capsys.readouterr().out


@pytest.mark.parametrize("tool", [import_model, models, verify])
def test_each_command_says_how_it_is_used(tool):
    assert "examples:\n  facet" in tool.parser().format_help()
