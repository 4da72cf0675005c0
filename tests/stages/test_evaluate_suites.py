"""The stage `evaluate`: what suites hq, ijb and lq measure, and sets and images that no suite can use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from stages.datasets import verification_bin
from tests.stages import small_sets
from tests.stages.small_suites import SWITCHES, images_of, measure, write_sets


@pytest.fixture
def sets(tmp_path) -> Path:
    return write_sets(tmp_path)


def test_hq_gives_accuracy_of_each_set(sets):
    measured = measure("hq", sets)
    assert list(measured.metrics) == ["lfw", "cplfw"]
    assert measured.details["avg"] == {"reason": "needs cfp_fp, calfw, agedb_30"}
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


def test_without_flips_only_the_images_own_features_are_needed(sets):
    def embed(images):
        return Features(small_sets.embed(images).feature_ND)

    evaluate.measure("hq", sets, evaluation.Hq(sets=("lfw",), fusion="none"), embed)
    with pytest.raises(ValueError, match="needs features of mirrored images"):
        evaluate.measure("hq", sets, evaluation.Hq(sets=("lfw",)), embed)


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
    assert "not a complete JPEG" in details["first_failed"][0]["reason"]


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


def test_any_bin_file_is_a_set_by_its_name(sets):
    (sets / "cplfw.bin").rename(sets / "African-2.bin")
    hq = measure("hq", sets, evaluation.Hq(sets=("lfw", "African-2")))
    assert list(hq.metrics) == ["lfw", "African-2"]
    fiqa = measure("fiqa", sets, evaluation.Fiqa(sets=("African-2",), fmr=(0.1,)))
    assert "African-2_feature_norm_iso_pauc_fmr1e-01" in fiqa.metrics
    with pytest.raises(FileNotFoundError, match=r"African\.bin is missing: .* did you mean African-2\? there are African-2, lfw"):
        measure("hq", sets, evaluation.Hq(sets=("African",)))


@pytest.mark.parametrize("name", ["../lfw", "a b", "avg", "weights_sha256", "", "-x", "lfw.bin"])
def test_a_name_that_would_be_another_file_or_metric_is_refused(name):
    with pytest.raises(ValueError, match=r"a test set is NAME\.bin or a folder NAME"):
        evaluation.Hq(sets=(name,))


def test_pictures_and_pairs_have_the_accuracy_of_the_same_pairs_in_a_bin_file(sets):
    stored = verification_bin.load(sets / "lfw.bin")
    folder = sets / "xqlfw/images"
    folder.mkdir(parents=True)
    for row, image in enumerate(stored.images):
        (folder / f"{row}.png").write_bytes(bytes(image))
    lines = [f"{2 * pair} {2 * pair + 1} {int(same)}" for pair, same in enumerate(stored.is_same)]
    (folder.parent / "pair_list.txt").write_text("\n".join(lines))
    found = measure("hq", sets, evaluation.Hq(sets=("lfw", "xqlfw")))
    assert found.metrics["xqlfw"] == found.metrics["lfw"]
    one, other = (found.details["sets"][name] for name in ("lfw", "xqlfw"))
    assert one["threshold_per_fold"] == other["threshold_per_fold"]
    assert (one["exact_threshold"], one["tar_at_far"]) == (other["exact_threshold"], other["tar_at_far"])
    swapped = measure("hq", sets, evaluation.Hq(sets=("xqlfw",), stored_swapped=True))
    assert swapped.details["sets"] != {"xqlfw": other}
    (sets / "lfw.bin").rename(sets / "xqlfw.bin")
    with pytest.raises(ValueError, match=r"xqlfw\.bin and .*xqlfw are both test sets called xqlfw: rename or move one"):
        measure("hq", sets, evaluation.Hq(sets=("xqlfw",)))


def write_own(folder: Path, *, group: bool = True) -> None:
    """Write 40 genuine and 110 impostor pairs of 8 people, in two groups."""
    lines = ["a,b,same,fold,group" if group else "a,b,same"]
    for person in range(8):
        (folder / f"p{person}").mkdir(parents=True)
        for picture in range(5):
            (folder / f"p{person}/{picture}.png").write_bytes(small_sets.encoded(person, picture))
    for person in range(8):
        more = [f"p{person}/{k}.png,p{person}/{(k + 1) % 5}.png,1" for k in range(5)]
        more += [f"p{person}/{k % 5}.png,p{(person + 1 + k % 7) % 8}/{k % 4}.png,0" for k in range(14)]
        lines += [f"{line},{person % 2},{'dark red' if person < 4 else 'blue'}" if group else line for line in more]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")


def test_pairs_of_ones_own_have_accuracy_over_their_folds_and_rates_by_group_with_bands(sets):
    write_own(sets / "mine")
    found = measure("hq", sets, evaluation.Hq(sets=("mine",), group_fmr=0.1))
    details = found.details["sets"]["mine"]
    assert len(details["accuracy_per_fold"]) == 2
    assert set(found.metrics) == {
        "mine", "mine_fmr_dark_red", "mine_fnmr_dark_red", "mine_fmr_blue", "mine_fnmr_blue",
    }  # fmt: skip
    groups = details["groups"]
    assert (groups["fmr"], groups["bands_resampled_over"], groups["pairs_in_no_group"]) == (0.1, "identities (folder names)", 0)
    by_name = {one["group"]: one for one in groups["rates"]}
    assert list(by_name) == ["blue", "dark red", "all pairs"]
    assert (by_name["blue"]["genuine"], by_name["blue"]["impostor"]) == (20, 56)
    assert by_name["all pairs"]["fmr"]["value"] <= 0.1
    assert by_name["dark red"]["fmr"]["value"] == found.metrics["mine_fmr_dark_red"]
    for one in groups["rates"]:
        for kind in ("fmr", "fnmr"):
            assert one[kind]["low"] <= one[kind]["value"] <= one[kind]["high"]


def test_groups_that_the_pairs_cannot_resolve_have_a_reason(sets):
    write_own(sets / "mine")
    found = measure("hq", sets, evaluation.Hq(sets=("mine",), group_fmr=0.001))
    assert list(found.metrics) == ["mine"]
    reason = "FMR 0.001 needs 1000 impostor scores, got 112: add pairs or raise the target"
    assert found.details["sets"]["mine"]["fmr"] == found.details["sets"]["mine"]["fnmr"] == {"reason": reason}


def test_pairs_without_groups_have_their_accuracy_and_quality_curves(sets):
    write_own(sets / "mine", group=False)
    found = measure("hq", sets, evaluation.Hq(sets=("mine",)))
    assert list(found.metrics) == ["mine"]
    assert len(found.details["sets"]["mine"]["accuracy_per_fold"]) == 10
    fiqa = measure("fiqa", sets, evaluation.Fiqa(sets=("mine",), fmr=(0.1,)))
    assert "mine_feature_norm_iso_pauc_fmr1e-01" in fiqa.metrics
    assert fiqa.details["sets"]["mine"]["bands_resampled_over"] == "identities"


def test_a_table_of_pairs_that_does_not_fit_is_named_with_its_line(sets):
    write_own(sets / "mine")
    path = sets / "mine/pairs.csv"
    path.write_text(path.read_text().replace(",1,", ",yes,", 1))
    with pytest.raises(ValueError, match=r"mine/pairs\.csv: line 2: same should be 1"):
        measure("hq", sets, evaluation.Hq(sets=("mine",)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(ValueError, match=r"mine/pairs\.csv: its first line should name the columns a, b, same"):
        measure("hq", sets, evaluation.Hq(sets=("mine",)))


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


# protocols beside those of the first table


def test_ijb_search_gives_ranks_tpir_and_both_open_sets(sets):
    small_sets.write_search(sets / "ijb/IJBB/meta")
    switches = evaluation.Ijb(sets=("IJBB",), protocols=("1:1", "1:N"))
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
        measure("ijb", sets, evaluation.Ijb(sets=("IJBB",), protocols=("1:N",)))


def test_ijbs_gives_five_protocols_of_ranks_and_open_sets(sets):
    small_sets.write_ijbs(sets / "ijbs")
    found = measure("lq", sets, evaluation.Lq(sets=("ijbs",)))
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

    found = evaluate.measure("lq", sets, evaluation.Lq(sets=("crlfw",), crlfw_sides=(8, 20)), embed)
    assert list(found.metrics) == ["crlfw_8", "crlfw_20"]
    whole = np.stack(images_of(sets / "lfw.bin"))
    for shrunk in seen:
        np.testing.assert_array_equal(shrunk[1::2], whole[1::2])
        assert not np.array_equal(shrunk[0::2], whole[0::2])
    # 8 pixels hold less than 20
    assert np.diff(seen[0][0].astype(int), axis=0).std() < np.diff(seen[1][0].astype(int), axis=0).std()


def test_the_exact_threshold_stands_in_the_details_and_in_the_metrics_if_asked_for(sets):
    grid, exact = (
        measure("hq", sets, evaluation.Hq(sets=("lfw",), threshold=threshold)) for threshold in ("grid", "exact")
    )
    assert grid.details["sets"] == exact.details["sets"]
    assert grid.metrics["lfw"] == grid.details["sets"]["lfw"]["accuracy"]
    assert exact.metrics["lfw"] == exact.details["sets"]["lfw"]["exact_threshold"]["accuracy"]


def test_sets_beside_the_five_of_the_tables_are_not_in_the_average(sets):
    five = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")
    for place, name in enumerate(("cfp_ff", *five)):
        small_sets.write_bin(sets / f"{name}.bin", num_identities=3 + place)
    found = measure("hq", sets, evaluation.Hq(sets=("cfp_ff", *five)))
    assert found.metrics["avg"] == pytest.approx(sum(found.metrics[name] for name in five) / 5)
    assert "avg" not in found.details
