"""Pages of quality methods: what a person looks for is there, and its numbers are those that were measured."""

from __future__ import annotations

import base64
import html
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Features
from stages.datasets import verification_bin
from stages.quality_pages import charts, index_page, parts, reading
from stages.runtime import artifacts
from stages.tools import quality_pages
from tests.stages import small_sets

METHODS = ("contrast", "feature_norm")


def contrast(features):
    return features.feature_ND[:, 3]


def embed_by_grey(images):
    """Another network: coarse brightness."""
    feature_ND = np.array([cv2.resize(image, (2, 2)).mean(axis=2).ravel() - 100 for image in images], np.float32)
    return Features(feature_ND, feature_ND)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with two methods on a set whose quality is known, one whose is not, and templates."""
    folder = tmp_path_factory.mktemp("pages")
    small_sets.write_bin(folder / "eval/lfw.bin", num_pairs=200)
    small_sets.write_bin(folder / "eval/cplfw.bin", num_pairs=200)
    small_sets.write_ijb(folder / "eval/ijb", "IJBC")
    random = np.random.default_rng(0)
    truth = {
        "set": "lfw", "image": [str(i) for i in range(400)], "identity": random.integers(0, 8, 400),
        "quality": random.random(400),
    }  # fmt: skip
    pd.DataFrame(truth).to_parquet(folder / "eval/truth.parquet")
    switches = evaluation.Fiqa(sets=("lfw", "cplfw", "IJBC"), fmr=(0.1, 0.001), recognition=("other",))
    scores = {"contrast": contrast}
    measured = evaluate.measure("fiqa", folder / "eval", switches, small_sets.embed, scores, {"other": embed_by_grey})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.write("r", "fiqa", measured, {"run": "r", "dataset": "small", "weights_sha256": "0" * 64})
        quality_pages.main(quality_pages.parser().parse_args([]))
    return folder


def test_a_run_without_a_set_for_quality_scores_has_no_pages_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = evaluate.measure("fiqa", tmp_path, evaluation.Fiqa(sets=()), small_sets.embed)
    measured.details["not_measured"] = "data set small has no set for quality scores"
    evaluate.write("r", "fiqa", measured, {"run": "r", "dataset": "small", "weights_sha256": "0" * 64})
    assert quality_pages.measured_runs() == []
    with pytest.raises(ValueError, match="run r has no pages: data set small has no set for quality scores"):
        reading.read("r")


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return reading.read("r")


def page_of(folder, name):
    return (folder / f"results/r/quality_pages/{name}.html").read_text(encoding="utf-8")


def text_of(page):
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.parametrize("name", ["index", *METHODS])
def test_a_page_needs_nothing_beside_it_but_the_other_pages(folder, name):
    page = page_of(folder, name)
    pages = {path.name for path in (folder / "results/r/quality_pages").iterdir()}
    assert pages == {"index.html", *(f"{method}.html" for method in METHODS)}
    assert "<script" not in page
    assert "@import" not in page
    assert set(re.findall(r'<a href="([^"]+)"', page)) <= pages
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]+)"', page))
    # names of XML namespaces are no addresses
    assert not re.findall(r'(?<!xmlns=")(?<!xmlns:xlink=")https?://', page)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]+)\)", page))


def test_numbers_on_a_page_are_those_measured(folder, run):
    metrics = artifacts.read_json(folder / "results/r/fiqa.json")
    section = page_of(folder, "contrast").split("<h2>Numbers</h2>")[1].split("</section>")[0]
    rows = dict(re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', section, re.DOTALL))
    assert list(rows) == run.sets
    for name, row in rows.items():
        cells = [text_of(cell) for cell in re.findall(r"<td.*?</td>", row)]
        rho = metrics.get(f"{name}_spearman_contrast")
        assert cells[2] == parts.number(rho)
        assert cells[3].split()[0] == parts.number(metrics.get(f"{name}_contrast_edc_auc_fmr1e-01"))
        assert cells[5].split()[0] == parts.number(metrics[f"{name}_contrast_iso_pauc_fmr1e-01"])
        assert "unresolved: FMR 0.001 needs 1000 impostor scores, got 1" in cells[6]
    assert "400 8 people 200 100 genuine" in text_of(rows["lfw"])
    assert "people" not in text_of(rows["cplfw"])
    area = run.area("lfw", "contrast", "1e-01")
    assert area["less"] == pytest.approx(
        metrics["lfw_feature_norm_edc_auc_fmr1e-01"] - metrics["lfw_contrast_edc_auc_fmr1e-01"]
    )
    assert f"[{parts.number(area['low'])}, {parts.number(area['high'])}]" in text_of(rows["lfw"])


def test_other_networks_areas_stand_beside_the_runs_own(folder):
    metrics = artifacts.read_json(folder / "results/r/fiqa.json")
    section = page_of(folder, "contrast").split("<h2>Judged by other networks</h2>")[1].split("</section>")[0]
    row = text_of(section.split('<th scope="row">lfw</th>')[1].split("</tr>")[0]).split()
    keys = [f"lfw_contrast_edc_auc_fmr1e-01{by}" for by in ("", "_by_other")]
    assert row == [*(parts.number(metrics.get(key)) for key in keys), "–", "–"]


def test_the_index_marks_the_best_of_each_set(folder, run):
    page = page_of(folder, "index")
    for name in ("lfw", "cplfw"):
        areas = [run.measured(name, method, "1e-01")["iso_pauc"] for method in METHODS]
        assert areas[0] != areas[1]
        assert f"<b>{parts.number(min(areas))}</b>" in page
        assert f"<td>{parts.number(max(areas))}" in page


def test_the_worst_image_is_that_of_the_lowest_score_and_the_best_that_of_the_highest(folder, run):
    page = page_of(folder, "contrast")
    sheet = page.split("<h2>Worst and best images</h2>")[1]
    lfw = sheet.split("<h3>lfw</h3>")[1].split("<h3>")[0]
    worst, best, above, below = lfw.split('<div class="strip">')[1:]
    rows = run.of("lfw").set_index("row")
    images = decoded(folder)
    for strip, row in ((worst, rows["contrast"].idxmin()), (best, rows["contrast"].idxmax())):
        first = strip.split("</li>")[0]
        assert f'alt="lfw {row}"' in first
        assert f"<span>{rows.loc[row, 'contrast']:#.4g}</span>" in first
        assert f"{rows.loc[row, 'known_quality']:.2f}</span>" in first
        packed = base64.b64decode(re.search(r"base64,([^\"]+)", first)[1])
        shown = cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(shown.astype(float) - images[row]).mean() < 4
    assert (worst.count("<img"), best.count("<img"), above.count("<img"), below.count("<img")) == (8, 8, 4, 4)
    excess = rows["contrast"].rank() - rows["known_quality"].rank()
    assert f'alt="lfw {excess.idxmax()}"' in above.split("</li>")[0]
    assert f'alt="lfw {excess.idxmin()}"' in below.split("</li>")[0]


def decoded(folder):
    return [verification_bin.decode(image) for image in verification_bin.load(folder / "eval/lfw.bin").images]


def test_without_known_quality_a_page_does_without_levels(folder, run):
    sheet = page_of(folder, "contrast").split("<h2>Worst and best images</h2>")[1]
    cplfw = sheet.split("<h3>cplfw</h3>")[1].split("<h3>")[0]
    assert cplfw.count('<div class="strip">') == 2
    assert 'class="known"' not in cplfw
    drawn = charts.histogram(run.of("cplfw"), "contrast", "cplfw", (-2, 2), None)
    assert "Spearman" not in drawn
    assert "var(--q" not in drawn
    known = charts.histogram(run.of("lfw"), "contrast", "lfw", (-2, 2), 0.123)
    assert "Spearman ρ 0.12" in known
    assert all(f"var(--q{level})" in known for level in range(5))


def test_levels_count_every_image_once(run):
    rows = run.of("lfw")
    counts = [int(count) for count in re.findall(r"n (\d+)<", charts.histogram(rows, "contrast", "", (-2, 2), 0.1))]
    expected = np.histogram(rows["known_quality"], np.linspace(0, 1, 6))[0].tolist()
    assert counts == expected
    assert sum(counts) == 400


def test_bands_hold_their_curves_and_these_are_the_ones_of_the_table(folder, run):
    curves = pd.read_csv(folder / "results/r/fiqa/edc.csv")
    assert len(run.bands) == len(curves)
    both = run.bands.merge(curves, on=["set", "method", "fmr", "convention", "discard"])
    assert len(both) == len(curves)
    np.testing.assert_array_equal(both["fnmr_x"], both["fnmr_y"])
    banded = run.bands.dropna()
    assert len(banded) > 0.8 * len(curves)
    assert (banded["low"] <= banded["fnmr"]).all()
    assert (banded["fnmr"] <= banded["high"]).all()


def test_where_pairs_cannot_resolve_a_rate_a_panel_says_so_instead_of_a_curve(folder):
    charts_of = page_of(folder, "contrast").split("<h2>Error versus discard</h2>")[1].split("<section>")[0]
    groups = dict(zip(["0.1", "0.001"], charts_of.split("<h3>FMR ")[1:], strict=True))
    assert [group.count("FNMR unresolved") for group in groups.values()] == [0, 3]
    assert "needs 1000 impostor" in text_of(groups["0.001"])
    assert groups["0.1"].count("<figure>") == 3


def test_bands_are_over_identities_where_these_are_known(run):
    over = {name: run.details["sets"][name]["bands_resampled_over"] for name in run.sets}
    assert over == {"lfw": "identities", "cplfw": "pairs", "IJBC": "people linked by genuine pairs"}


def test_pages_name_what_bands_were_resampled_over(folder, run):
    """A .bin file names nobody: bands over its pairs are no bands over people."""
    details = {**run.details, "sets": {name: {**one, "bands_resampled_over": "pairs"} for name, one in run.details["sets"].items()}}
    unknown = reading.Run(**{**vars(run), "details": details})
    assert "95 % intervals, resampled over identities" in text_of(page_of(folder, "index"))
    shown = text_of(index_page.html(unknown))
    assert "95 % intervals, resampled over pairs" in shown
    assert "people" not in shown.split("Numbers")[0].split("beyond chance")[1]


def test_the_feature_norm_is_not_drawn_against_itself(folder):
    assert "<h2>Score against feature norm</h2>" in page_of(folder, "contrast")
    assert "<h2>Score against feature norm</h2>" not in page_of(folder, "feature_norm")


def test_the_index_says_how_alike_methods_are(run):
    rho = np.mean([run.of(name)["contrast"].corr(run.of(name)["feature_norm"], "spearman") for name in run.sets])
    shown = text_of(index_page.html(run)).split("How alike the methods order images")[1].split("Worst and best")[0]
    assert shown.count(parts.number(rho, 2)) == 2


def test_a_page_is_the_same_every_time(folder, run):
    assert index_page.html(run) == page_of(folder, "index")


def test_a_run_measured_by_an_older_version_is_told_what_to_do(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/old/fiqa").mkdir(parents=True)
    (tmp_path / "results/old/fiqa/details.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"lacks scores\.parquet.*python -m stages\.evaluate old fiqa"):
        quality_pages.main(quality_pages.parser().parse_args(["old"]))
    with pytest.raises(FileNotFoundError, match="no run under results has results of suite fiqa"):
        quality_pages.main(quality_pages.parser().parse_args([]))
