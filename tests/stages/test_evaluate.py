"""The stage `evaluate`: what it writes, for every suite, and what it says of input it cannot use."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from stages import artifacts, benchmarks, evaluate, exporting, plugins
from stages.core import measured
from stages.core.features import Features
from stages.datasets import verification_bin
from tests.stages import small_sets

SWITCHES = {
    "hq": benchmarks.Hq(sets=("lfw", "cplfw")),
    "ijb": benchmarks.Ijb(sets=("IJBB",)),
    "lq": benchmarks.Lq(sets=("tinyface", "scface")),
    "fiqa": benchmarks.Fiqa(sets=("lfw",), fmr=(0.1, 0.001)),
}
BACKBONE = {
    "name": "iresnet", "style": "adaface", "units": [1, 1, 1, 1], "widths": [4, 4, 8, 8],
    "stem_stride": 2, "feature_dim": 16, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture
def sets(tmp_path) -> Path:
    """A folder as data/NAME/eval."""
    folder = tmp_path / "data/small/eval"
    small_sets.write_bin(folder / "lfw.bin")
    small_sets.write_bin(folder / "cplfw.bin", num_identities=5)
    small_sets.write_ijb(folder / "ijb")
    small_sets.write_tinyface(folder / "tinyface")
    small_sets.write_scface(folder / "scface")
    return folder


def measure(suite, folder, switches=None, **more):
    return evaluate.measure(suite, folder, switches or SWITCHES[suite], small_sets.embed, **more)


def darkness(features: Features):
    return -features.feature_ND[:, :3].sum(axis=1)


def test_hq_gives_accuracy_of_each_set_and_their_mean(sets):
    measured = measure("hq", sets)
    assert list(measured.metrics) == ["lfw", "cplfw", "avg"]
    assert measured.metrics["avg"] == pytest.approx((measured.metrics["lfw"] + measured.metrics["cplfw"]) / 2)
    assert measured.metrics["lfw"] > 0.8
    details = measured.details["sets"]["lfw"]
    assert (details["pairs"], details["images"], details["failed"]) == (40, 80, 0)
    assert np.mean(details["accuracy_per_fold"]) == measured.metrics["lfw"]
    assert len(details["threshold_per_fold"]) == 10
    assert details["tar_at_far"]["1e-03"] == {
        "nearest": None, "strict": None,
        "reason": f"FMR 0.001 needs 1000 impostor scores, got {40 - details['genuine']}: add pairs or raise the target",
    }  # fmt: skip
    assert {row[0] for row in measured.curves["roc"].rows} == {"lfw", "cplfw"}


def test_ijb_gives_tar_at_each_far_the_pairs_resolve_and_reasons_for_the_rest(sets):
    measured = measure("ijb", sets)
    assert list(measured.metrics) == ["ijbb_tar_at_far_1e-02", "ijbb_tar_at_far_1e-01"]
    assert measured.metrics["ijbb_tar_at_far_1e-01"] > 0.8
    details = measured.details["sets"]["IJBB"]
    assert (details["pairs"], details["genuine"], details["templates"]) == (190, 9, 20)
    assert "needs 1000000 impostor scores, got 181" in details["tar_at_far"]["1e-06"]["reason"]
    assert set(details["tar_at_far"]["1e-02"]["strict"]) == {"tar", "far_read", "threshold"}


def test_lq_gives_rank_rates_and_a_match_curve(sets):
    measured = measure("lq", sets)
    assert list(measured.metrics) == [
        "tinyface_rank1", "tinyface_rank5", "tinyface_rank20", "scface_d1", "scface_d2", "scface_d3",
    ]  # fmt: skip
    assert measured.metrics["tinyface_rank1"] > 0.8
    assert measured.metrics["scface_d1"] == 1
    details = measured.details["sets"]
    assert (details["tinyface"]["probes"], details["tinyface"]["gallery"], details["tinyface"]["distractors"]) == (
        6,
        11,
        5,
    )
    assert details["scface"]["left_out_cameras_6_to_8"] == 15
    assert details["scface"]["d2"]["probes"] == 10
    curves = {row[0] for row in measured.curves["cmc"].rows}
    assert curves == {"tinyface", "scface_d1", "scface_d2", "scface_d3"}


def test_fiqa_gives_both_conventions_for_the_method_and_the_norm(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    measured = measure("fiqa", sets, scores={"darkness": darkness})
    assert set(measured.metrics) == {
        f"lfw_{method}_{area}_fmr1e-01" for method in ("darkness", "feature_norm") for area in ("edc_auc", "iso_pauc")
    }
    tree = measured.details["sets"]["lfw"]["methods"]["darkness"]
    assert tree["1e-03"]["edc_auc"] is None
    assert "needs 1000 impostor scores" in tree["1e-03"]["reason"]
    assert tree["spearman"]["rho"] is None
    assert "truth.parquet" in tree["spearman"]["reason"]
    # one in ten needs ten impostor pairs
    left = tree["1e-01"]["impostors_left"]
    last = max(step for step, num in enumerate(left) if num >= 10)
    assert tree["1e-01"]["fmr_resolved_until_discard"] == pytest.approx(0.05 * last)
    conventions = {(row[1], row[3]) for row in measured.curves["edc"].rows}
    assert len(conventions) == 4


def by_brightness(images):
    """Another network: it knows people by the brightness of three channels."""
    mean_N3 = np.array([image.mean(axis=(0, 1)) for image in images], np.float32)
    return Features(mean_N3 - 128, mean_N3 - 128)


def test_fiqa_judges_scores_by_other_networks_as_well(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    switches = benchmarks.Fiqa(sets=("lfw",), fmr=(0.1, 0.001), recognition=("bright",))
    scores = {"darkness": darkness}
    alone = measure("fiqa", sets, scores=scores)
    crossed = measure("fiqa", sets, switches, scores=scores, others={"bright": by_brightness})
    assert {key: crossed.metrics[key] for key in alone.metrics} == alone.metrics
    assert crossed.curves["edc"].rows == alone.curves["edc"].rows
    added = set(crossed.metrics) - set(alone.metrics)
    assert added == {f"{key}_by_bright" for key in alone.metrics}
    # the same as if quality came with that network
    features = small_sets.embed(_images(sets / "lfw.bin"))
    expected = evaluate.measure(
        "fiqa", sets, SWITCHES["fiqa"], by_brightness, {"darkness": lambda other: darkness(features)}
    )
    for area in ("edc_auc", "iso_pauc"):
        key = f"lfw_darkness_{area}_fmr1e-01"
        assert crossed.metrics[f"{key}_by_bright"] == expected.metrics[key]
    tree = crossed.details["sets"]["lfw"]["recognition"]["bright"]["methods"]["darkness"]
    assert "needs 1000 impostor scores" in tree["1e-03"]["reason"]
    assert {row[:3] for row in crossed.curves["edc_by"].rows} == {
        ("bright", "lfw", "darkness"), ("bright", "lfw", "feature_norm"),
    }  # fmt: skip


@pytest.mark.parametrize("named", [{"methods": ("sharpness",)}, {"recognition": ("bright",)}])
def test_fiqa_refuses_switches_that_name_what_nobody_gave(sets, named):
    with pytest.raises(ValueError, match=f"fiqa.{next(iter(named))} names"):
        measure("fiqa", sets, benchmarks.Fiqa(sets=("lfw",), **named))


def test_a_feature_norm_on_another_scale_stands_in_the_place_of_the_plain_one(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=200)
    plain = measure("fiqa", sets)
    coarse = measure("fiqa", sets, scores={"feature_norm": lambda features: np.rint(features.feature_norm_N / 50)})
    assert set(coarse.metrics) == set(plain.metrics)
    assert coarse.metrics != plain.metrics


def test_an_area_over_steps_without_any_impostor_pair_has_no_number(sets):
    small_sets.write_bin(sets / "lfw.bin", num_pairs=20)
    measured = measure("fiqa", sets)
    assert set(measured.metrics) == {"lfw_feature_norm_iso_pauc_fmr1e-01"}
    tree = measured.details["sets"]["lfw"]["methods"]["feature_norm"]["1e-01"]
    assert tree["edc_auc"] is None
    assert "no genuine or no impostor pair is left" in tree["reason"]


def test_fiqa_correlates_with_the_known_quality_where_there_is_one(sets):
    norm_N = small_sets.embed(_images(sets / "lfw.bin")).feature_norm_N
    quality_N = np.argsort(np.argsort(norm_N)) / norm_N.size
    table = {"set": "lfw", "image": [str(i) for i in range(80)], "identity": 0, "quality": quality_N}
    pd.DataFrame(table).to_parquet(sets / "truth.parquet")
    measured = measure(
        "fiqa", sets, scores={"constant": lambda features: np.ones(len(features.feature_ND), np.float32)}
    )
    assert measured.metrics["lfw_spearman_feature_norm"] == pytest.approx(1)
    assert "lfw_spearman_constant" not in measured.metrics
    assert "equal" in measured.details["sets"]["lfw"]["methods"]["constant"]["spearman"]["reason"]


def _images(path):
    return [verification_bin.decode(image) for image in verification_bin.load(path).images]


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


def test_without_flips_only_the_images_own_features_are_needed(sets):
    def embed(images):
        return Features(small_sets.embed(images).feature_ND)

    evaluate.measure("hq", sets, benchmarks.Hq(sets=("lfw",), fusion="none"), embed)
    with pytest.raises(ValueError, match="features of mirrored images are wanted"):
        evaluate.measure("hq", sets, benchmarks.Hq(sets=("lfw",)), embed)


@pytest.mark.parametrize(
    ("suite", "file", "where"),
    [
        ("ijb", "ijb/IJBB/loose_crop/7.jpg", ("IJBB",)),
        ("lq", "tinyface/aligned_pad_0.1_pad_high/Probe/3_1.jpg", ("tinyface",)),
        ("lq", "scface/aligned/002_cam1_1.jpg", ("scface",)),
    ],
)
def test_a_torn_image_is_counted_and_named_if_few_may_fail_and_stops_the_stage_if_not(sets, suite, file, where):
    (sets / file).write_bytes(b"torn")
    with pytest.raises(ValueError, match=rf"1 of the first \d+ images cannot be processed.*{Path(file).name}"):
        measure(suite, sets)
    tolerant = SWITCHES[suite].model_copy(update={"max_failed": 0.2})
    details = measure(suite, sets, tolerant).details["sets"][where[0]]
    assert details["failed"] == 1
    assert details["first_failed"][0]["image"].endswith(Path(file).name)
    assert "not a whole JPEG" in details["first_failed"][0]["reason"]


def test_a_probe_that_cannot_be_processed_is_a_miss(sets):
    (sets / "tinyface/aligned_pad_0.1_pad_high/Probe/3_1.jpg").unlink()
    tolerant = SWITCHES["lq"].model_copy(update={"max_failed": 0.2})
    measured = measure("lq", sets, tolerant)
    assert measured.details["sets"]["tinyface"]["probes_never_found"] == 1
    assert measured.metrics["tinyface_rank20"] == pytest.approx(5 / 6)


def test_a_torn_image_in_a_verification_set_counts_against_its_pair_and_is_discarded_first(sets):
    path = sets / "lfw.bin"
    whole = verification_bin.load(path)
    images = [bytes(image) for image in whole.images]
    images[0] = b"torn"
    verification_bin.write(path, images, whole.is_same)
    tolerant = SWITCHES["hq"].model_copy(update={"max_failed": 0.1, "sets": ("lfw",)})
    measured = measure("hq", sets, tolerant)
    assert measured.details["sets"]["lfw"]["first_failed"][0]["image"] == "image 0"
    assert min(row[2] for row in measured.curves["roc"].rows) < 1
    fiqa = SWITCHES["fiqa"].model_copy(update={"max_failed": 0.1, "fmr": (0.1,)})
    curve = [row for row in measure("fiqa", sets, fiqa).curves["edc"].rows if row[3] == "iso"]
    assert curve[0][5] >= curve[-1][5]
    assert curve[0][5] > 0


@pytest.mark.parametrize(
    ("suite", "remove", "message"),
    [
        ("hq", "cplfw.bin", r"cplfw\.bin is missing: put the verification set there"),
        ("ijb", "ijb", "loose_crop is missing"),
        ("lq", "scface/all.txt", r"should hold all\.txt"),
        ("fiqa", "lfw.bin", r"lfw\.bin is missing"),
    ],
)
def test_a_missing_set_is_named(sets, suite, remove, message):
    (sets / remove).rename(sets / "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        measure(suite, sets)


def test_a_quality_method_that_gives_nonsense_is_named(sets):
    with pytest.raises(ValueError, match="quality method odd should give 80 finite scores"):
        measure("fiqa", sets, scores={"odd": lambda features: np.full(80, np.nan, np.float32)})


def test_suites_and_switches_that_do_not_belong_together_are_refused(sets):
    with pytest.raises(LookupError, match="no suite 'hk': there are hq, ijb, lq, fiqa"):
        measure("hk", sets, SWITCHES["hq"])
    with pytest.raises(ValueError, match="suite hq wants switches of its own, got Ijb"):
        measure("hq", sets, SWITCHES["ijb"])


def test_every_suite_has_a_file_and_no_file_is_without_a_suite():
    folder = Path(evaluate.__file__).parent / "suites"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(benchmarks.SUITES)


# the whole program


@pytest.fixture
def run_folder(sets, tmp_path, monkeypatch) -> Path:
    """A run whose backbone and quality method are there, in the working directory."""
    monkeypatch.chdir(tmp_path)
    backbone_folder, quality_folder = tmp_path / "runs/r/backbone", tmp_path / "runs/r/quality"
    backbone_folder.mkdir(parents=True)
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    exporting.save_weights(
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
    # what the pages of quality methods are drawn from
    pages = {"bands.csv", "areas.csv", "scores.parquet", "faces.parquet"} if suite == "fiqa" else set()
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


def test_mirrored_images_are_embedded_only_where_a_switch_wants_them():
    assert evaluate.uses_flip(benchmarks.Hq(sets=("lfw",)))
    assert not evaluate.uses_flip(benchmarks.Hq(sets=("lfw",), fusion="none"))
    assert not evaluate.uses_flip(benchmarks.Ijb(sets=("IJBB",), fusion="none"))
    assert not evaluate.uses_flip(benchmarks.Lq(sets=("scface",), fusion="none"))


def test_a_curve_of_many_ranks_is_thinned_and_keeps_its_ends():
    assert list(measured.spread_ranks(120)) == list(range(1, 121))
    ranks = list(measured.spread_ranks(157_871))
    assert len(ranks) <= 200
    assert ranks == sorted(set(ranks))
    assert (ranks[0], ranks[99], ranks[-1]) == (1, 100, 157_871)


@pytest.mark.parametrize("fmr", [(0.015,), (0.0,), (2.0,), (0.01, 0.01)])
def test_rates_that_would_share_or_belie_their_name_are_refused(fmr):
    with pytest.raises(ValueError, match="one significant digit"):
        benchmarks.Fiqa(sets=("lfw",), fmr=fmr)


def test_a_set_named_twice_is_refused():
    with pytest.raises(ValueError, match="each once"):
        benchmarks.Hq(sets=("lfw", "lfw"))


# protocols beside those of the first table


def test_ijb_search_gives_ranks_tpir_and_both_open_sets(sets):
    small_sets.write_search(sets / "ijb/IJBB/meta")
    switches = benchmarks.Ijb(sets=("IJBB",), protocols=("1:1", "1:N"))
    found = measure("ijb", sets, switches)
    assert {"ijbb_rank1", "ijbb_rank5", "ijbb_rank10", "ijbb_tpir_at_fpir_1e-02", "ijbb_tpir_at_fpir_1e-01"} <= set(
        found.metrics
    )
    assert found.metrics["ijbb_rank1"] > 0.8
    details = found.details["sets"]["IJBB"]["one_to_n"]
    assert details["probes"] > 0
    assert set(details["open_set"]) == {"gallery_1", "gallery_2"}
    assert {row[0] for row in found.curves["cmc"].rows} == {"IJBB"}


def test_ijb_search_without_its_lists_names_the_file(sets):
    with pytest.raises(FileNotFoundError, match="1N"):
        measure("ijb", sets, benchmarks.Ijb(sets=("IJBB",), protocols=("1:N",)))


def test_ijbs_gives_five_protocols_of_ranks_and_open_sets(sets):
    small_sets.write_ijbs(sets / "ijbs")
    found = measure("lq", sets, benchmarks.Lq(sets=("ijbs",)))
    protocols = {key.split("_rank")[0] for key in found.metrics if "_rank" in key}
    assert len(protocols) == 5
    assert all(found.metrics[f"{protocol}_rank10"] >= found.metrics[f"{protocol}_rank1"] for protocol in protocols)
    details = found.details["sets"]["ijbs"]["surveillance_to_single"]
    assert set(details["open_set"]) == {"gallery_1", "gallery_2"}


def test_crlfw_shrinks_the_first_image_of_each_pair_only(sets):
    seen: list[np.ndarray] = []

    def embed(images):
        kept = list(images)
        seen.append(np.stack(kept))
        return small_sets.embed(kept)

    found = evaluate.measure("lq", sets, benchmarks.Lq(sets=("crlfw",), crlfw_sides=(8, 20)), embed)
    assert list(found.metrics) == ["crlfw_8", "crlfw_20"]
    whole = np.stack(_images(sets / "lfw.bin"))
    for shrunk in seen:
        np.testing.assert_array_equal(shrunk[1::2], whole[1::2])
        assert not np.array_equal(shrunk[0::2], whole[0::2])
    # 8 pixels hold less than 20
    assert np.diff(seen[0][0].astype(int), axis=0).std() < np.diff(seen[1][0].astype(int), axis=0).std()


def test_fiqa_takes_pair_lists_and_templates(sets):
    small_sets.write_pair_list(sets / "adience")
    small_sets.write_xqlfw(sets / "xqlfw")
    switches = benchmarks.Fiqa(sets=("adience", "xqlfw", "IJBB"), fmr=(0.5,), fusion="concat")
    found = measure("fiqa", sets, switches, scores={"darkness": darkness})
    assert set(found.details["sets"]) == {"adience", "xqlfw", "IJBB"}
    assert "IJBB_darkness_iso_pauc_fmr5e-01" in found.metrics
    assert {row[0] for row in found.curves["edc"].rows} == {"adience", "xqlfw", "IJBB"}


def test_the_exact_threshold_stands_in_the_details_and_in_the_metrics_if_asked_for(sets):
    grid, exact = (
        measure("hq", sets, benchmarks.Hq(sets=("lfw",), threshold=threshold)) for threshold in ("grid", "exact")
    )
    assert grid.details["sets"] == exact.details["sets"]
    assert grid.metrics["lfw"] == grid.details["sets"]["lfw"]["accuracy"]
    assert exact.metrics["lfw"] == exact.details["sets"]["lfw"]["exact_threshold"]["accuracy"]


def test_sets_beside_the_five_of_the_tables_are_not_in_the_average(sets):
    small_sets.write_bin(sets / "cfp_ff.bin", num_identities=3)
    found = measure("hq", sets, benchmarks.Hq(sets=("lfw", "cfp_ff")))
    assert found.details["averaged"] == ["lfw"]
    assert found.metrics["avg"] == found.metrics["lfw"]


def test_suites_of_one_run_share_one_pass_over_the_images(run_folder, monkeypatch):
    evaluate_run("r", "hq")
    monkeypatch.setattr(evaluate.Embedder, "embed", lambda self, image: pytest.fail("embedded again"))
    before = (run_folder / "results/r/hq.json").read_bytes()
    evaluate_run("r", "hq")
    assert (run_folder / "results/r/hq.json").read_bytes() == before
    evaluate_run("r", "fiqa")
