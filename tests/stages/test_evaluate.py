"""The stage `evaluate`: what it writes, for every suite, the same each time; switches that are refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from stages import evaluate, row
from stages.config import evaluation
from stages.core.metrics import suite_result
from stages.models import model_files
from stages.runtime import artifacts, plugins
from tests.stages import small_sets
from tests.stages.small_suites import SWITCHES, measure, write_sets

BACKBONE = {
    "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
    "stem_stride": 2, "feature_dim": 16, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture
def sets(tmp_path) -> Path:
    return write_sets(tmp_path)


@pytest.fixture
def run_folder(sets, tmp_path, monkeypatch) -> Path:
    """A run whose backbone and quality method are there, in the working directory."""
    monkeypatch.chdir(tmp_path)
    backbone_folder, quality_folder = tmp_path / "runs/r/backbone", tmp_path / "runs/r/quality"
    backbone_folder.mkdir(parents=True)
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    model_files.save_weights(
        backbone_folder / "weights.pt", module.build(module.Config.model_validate(BACKBONE)), nn.Linear(16, 4)
    )
    model = {
        "backbone": BACKBONE, "head": {}, "color_order": "BGR", "value_range": [-1.0, 1.0], "image_size": 112,
        "feature_dim": 16, "num_classes": 4, "dataset": "small",
        "weights_sha256": artifacts.sha256(backbone_folder / "weights.pt"),
    }  # fmt: skip
    artifacts.write_json(backbone_folder / "model.json", model)
    quality_folder.mkdir()
    artifacts.write_json(quality_folder / "quality.json", {"name": "feature_norm"})
    sections = {
        f"evaluate_{suite}": {"dataset": "small", "switches": switches.model_dump(mode="json")}
        for suite, switches in SWITCHES.items()
    }
    (tmp_path / "resolved/runs").mkdir(parents=True)
    (tmp_path / "resolved/runs/r.yaml").write_text(yaml.safe_dump(sections))
    return tmp_path


def evaluate_run(*arguments):
    evaluate.main(evaluate.parser().parse_args(arguments))


@pytest.mark.parametrize("suite", list(SWITCHES))
def test_the_stage_writes_metrics_details_and_curves(run_folder, suite):
    evaluate_run("r", suite)
    metrics = json.loads((run_folder / f"results/r/{suite}.json").read_text())
    model = json.loads((run_folder / "runs/r/backbone/model.json").read_text())
    assert metrics.pop("weights_sha256") == model["weights_sha256"]
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in metrics.values())
    details = json.loads((run_folder / f"results/r/{suite}/details.json").read_text())
    assert (details["run"], details["suite"], details["dataset"]) == ("r", suite, "small")
    curves = {path.stem: path for path in (run_folder / f"results/r/{suite}").glob("*.csv")}
    # what the pages of quality methods are drawn from, and what a cut on a score means
    pages = {"bands.csv", "areas.csv", "cuts.csv", "scores.parquet", "faces.parquet", "scales.json"}
    pages = pages if suite == "fiqa" else set()
    assert pages <= {path.name for path in (run_folder / f"results/r/{suite}").iterdir()}
    curves = {stem: path for stem, path in curves.items() if path.name not in pages}
    main, *beside = {"hq": ["roc"], "ijb": ["roc", "cmc"], "lq": ["cmc", "roc"], "fiqa": ["edc"]}[suite]
    assert set(curves) == {main, *beside}
    # without 1:N, or CRLFW, there is only a header
    assert all(len(curves[name].read_text().splitlines()) == 1 for name in beside)
    rows = list(csv.DictReader(curves[main].read_text().splitlines()))
    counts = pd.Series([row["set"] for row in rows]).value_counts()
    assert 0 < counts.max() <= 200
    assert not list(run_folder.rglob("*.partial"))


def test_the_stage_measures_cheap_methods_and_judges_all_by_the_networks_named(run_folder):
    switches = SWITCHES["fiqa"].model_copy(update={"methods": ("ser_fiq", "sharpness"), "recognition": ("r",)})
    section = {"evaluate_fiqa": {"dataset": "small", "switches": switches.model_dump(mode="json")}}
    (run_folder / "resolved/runs/r.yaml").write_text(yaml.safe_dump(section))
    small_sets.write_bin(run_folder / "data/small/eval/lfw.bin", num_pairs=100)
    evaluate_run("r", "fiqa")
    metrics = json.loads((run_folder / "results/r/fiqa.json").read_text())
    for method in ("feature_norm", "ser_fiq", "sharpness"):
        key = f"lfw_{method}_iso_pauc_fmr1e-01"
        # the network that judges is the run's own here
        assert metrics[f"{key}_by_r"] == metrics[key]
    details = json.loads((run_folder / "results/r/fiqa/details.json").read_text())
    assert details["switches"]["recognition"] == ["r"]
    assert set(details["sets"]["lfw"]["recognition"]["r"]["methods"]) == {"feature_norm", "ser_fiq", "sharpness"}
    scores = pd.read_parquet(run_folder / "results/r/fiqa/scores.parquet")
    assert scores["ser_fiq"].between(0.238, 1).all()


def test_a_second_evaluation_writes_the_same_bytes(run_folder):
    def written():
        evaluate_run("r", "ijb")
        return {path: path.read_bytes() for path in sorted((run_folder / "results").rglob("*")) if path.is_file()}

    assert written() == written()


def test_a_failed_evaluation_leaves_the_last_results_as_they_were(run_folder):
    evaluate_run("r", "lq")
    before = (run_folder / "results/r/lq.json").read_bytes()
    (run_folder / "data/small/eval/scface/all.txt").unlink()
    with pytest.raises(FileNotFoundError):
        evaluate_run("r", "lq")
    assert (run_folder / "results/r/lq.json").read_bytes() == before
    assert (run_folder / "results/r/lq/details.json").is_file()


@pytest.mark.parametrize("suite", list(SWITCHES))
def test_a_suite_without_sets_says_so_at_once_and_measures_nothing(run_folder, suite, capsys):
    switches = {"sets": [], **({"methods": ["ser_fiq"]} if suite == "fiqa" else {})}
    section = {f"evaluate_{suite}": {"dataset": "small", "switches": switches}}
    (run_folder / "resolved/runs/r.yaml").write_text(yaml.safe_dump(section))
    (run_folder / "runs/r/backbone/weights.pt").unlink()  # no network is loaded
    shutil.rmtree(run_folder / "data/small/eval")
    evaluate_run("r", suite)
    kind = {"hq": "verification set", "ijb": "IJB set", "lq": "low-quality set", "fiqa": "set for quality scores"}[suite]
    assert f"not measured: no {kind} of small is named ({suite}.sets is empty)" in capsys.readouterr().err
    assert list(json.loads((run_folder / f"results/r/{suite}.json").read_text())) == ["weights_sha256"]
    details = json.loads((run_folder / f"results/r/{suite}/details.json").read_text())
    assert (details["not_measured"], details["sets"]) == (f"no {kind} of small is named ({suite}.sets is empty)", {})
    for stem in row.CURVES[suite]:
        assert len((run_folder / f"results/r/{suite}/{stem}.csv").read_text().splitlines()) == 1


def test_a_set_that_is_named_and_not_there_is_an_error_that_says_where_it_is_named(run_folder):
    (run_folder / "data/small/eval/cplfw.bin").unlink()
    message = r"cplfw\.bin is missing: put .*If data set small has no such set, .*datasets\.small\.benchmarks\.hq\.sets"
    with pytest.raises(FileNotFoundError, match=message):
        evaluate_run("r", "hq")


def test_mirrored_images_are_embedded_only_where_a_switch_wants_them():
    assert evaluation.uses_flip(evaluation.Hq(sets=("lfw",)))
    assert not evaluation.uses_flip(evaluation.Hq(sets=("lfw",), fusion="none"))
    assert not evaluation.uses_flip(evaluation.Ijb(sets=("IJBB",), fusion="none"))
    assert not evaluation.uses_flip(evaluation.Lq(sets=("scface",), fusion="none"))


def test_a_curve_of_many_ranks_is_thinned_and_keeps_its_ends():
    assert list(suite_result.spread_ranks(120)) == list(range(1, 121))
    ranks = list(suite_result.spread_ranks(157_871))
    assert len(ranks) <= 200
    assert ranks == sorted(set(ranks))
    assert (ranks[0], ranks[99], ranks[-1]) == (1, 100, 157_871)


@pytest.mark.parametrize("fmr", [(0.015,), (0.0,), (2.0,), (0.01, 0.01)])
def test_rates_that_would_share_or_belie_their_name_are_refused(fmr):
    with pytest.raises(ValueError, match="one significant digit"):
        evaluation.Fiqa(sets=("lfw",), fmr=fmr)


def test_a_set_named_twice_is_refused():
    with pytest.raises(ValueError, match="each name may be listed once"):
        evaluation.Hq(sets=("lfw", "lfw"))


def test_suites_of_one_run_share_one_pass_over_the_images(run_folder, monkeypatch):
    evaluate_run("r", "hq")
    monkeypatch.setattr(evaluate.Embedder, "embed", lambda self, image: pytest.fail("embedded again"))
    before = (run_folder / "results/r/hq.json").read_bytes()
    evaluate_run("r", "hq")
    assert (run_folder / "results/r/hq.json").read_bytes() == before
    evaluate_run("r", "fiqa")


@pytest.mark.parametrize("suite", list(SWITCHES))
def test_details_name_protocol_version_and_every_switch(sets, suite):
    details = measure(suite, sets).details
    assert details["suite"] == suite
    assert all(isinstance(version, str) for version in details["protocol"].values())
    assert details["switches"] == SWITCHES[suite].model_dump(mode="json")


@pytest.mark.parametrize("suite", list(SWITCHES))
def test_measuring_twice_gives_the_same_to_the_last_bit(sets, suite):
    first, second = measure(suite, sets), measure(suite, sets)
    assert first.metrics == second.metrics
    assert json.dumps(first.details, allow_nan=False) == json.dumps(second.details, allow_nan=False)
    assert first.curves == second.curves


@pytest.mark.parametrize(
    ("suite", "change"),
    [
        ("hq", {"fusion": "none"}),
        ("ijb", {"fusion": "none"}),
        ("ijb", {"use_norm": False}),
        ("ijb", {"use_detector_score": True}),
    ],
)
def test_a_switch_changes_what_is_compared(sets, suite, change):
    switched = SWITCHES[suite].model_copy(update=change)
    assert measure(suite, sets).details["sets"] != measure(suite, sets, switched).details["sets"]


def test_suites_and_switches_that_do_not_belong_together_are_refused(sets):
    with pytest.raises(LookupError, match="no suite 'hk': there are hq, ijb, lq, fiqa"):
        measure("hk", sets, SWITCHES["hq"])
    with pytest.raises(ValueError, match="suite hq needs its own options, got Ijb"):
        measure("hq", sets, SWITCHES["ijb"])


def test_every_suite_has_a_file_and_no_file_is_without_a_suite():
    folder = Path(evaluate.__file__).parent / "suites"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(evaluation.SUITES)
