"""`facet show RUN`: the page of a run that DVC made, its links, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from stages.tools import show
from tests.support import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def shown(copy_reproduced: Callable[[], Project]) -> tuple[Project, str]:
    """A project whose run `adaface` has a page and whose results are in MLflow, and what `facet show` printed."""
    project = copy_reproduced()
    project.run("facet", "track")
    return project, project.run("facet", "show", "adaface")


def page_of(project: Project) -> str:
    return (project.path / "results/adaface/page/index.html").read_text(encoding="utf-8")


def test_it_prints_where_the_page_is_and_mlflow_has_the_same_page(shown: tuple[Project, str]):
    project, printed = shown
    assert "page     results/adaface/page/index.html\n" in printed
    run = re.search(r"^MLflow   run ([0-9a-f]{32})$", printed, re.MULTILINE)
    assert run, printed
    kept = list((project.path / "tracking/artifacts").rglob(f"{run[1]}/artifacts/page/index.html"))
    assert [path.read_text(encoding="utf-8") for path in kept] == [page_of(project)]


def test_it_needs_no_other_file(shown: tuple[Project, str]):
    page = page_of(shown[0])
    sources = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert [one for one in sources if not one.startswith(("data:", "../quality_pages/"))] == []
    assert page.count("<html") == 1


def test_its_numbers_are_those_that_were_measured(shown: tuple[Project, str]):
    project, _ = shown
    text = re.sub(r"<[^>]+>", " ", page_of(project))
    hq = json.loads((project.path / "results/adaface/hq.json").read_text())
    for name in ("lfw", "cfp_fp", "agedb_30"):
        assert re.search(rf"{name}\s+{100 * hq[name]:.2f}\s", text), name
    train = json.loads((project.path / "results/adaface/train.json").read_text())
    assert train["weights_sha256"] in text
    environment = json.loads((project.path / "runs/adaface/backbone/environment.json").read_text())
    assert environment["torch"] in text


def test_worst_pairs_are_counted_as_the_evaluation_did(shown: tuple[Project, str]):
    project, _ = shown
    page = page_of(project)
    details = json.loads((project.path / "results/adaface/hq/details.json").read_text())
    for name, one in details["sets"].items():
        threshold = 1 - sum(one["threshold_per_fold"]) / len(one["threshold_per_fold"]) / 2
        assert f"<h3>{name}, threshold: a cosine of {threshold:.3f}</h3>" in page
    assert page.count('<div class="two">') == sum(2 * min(5, one["pairs"] // 2) for one in details["sets"].values())


def test_it_shows_the_worst_and_the_best_images_by_the_runs_own_method(shown: tuple[Project, str]):
    project, _ = shown
    section = page_of(project).partition("<h2>Worst and best images by cr_fiqa</h2>")[2].partition("</section>")[0]
    details = json.loads((project.path / "results/adaface/fiqa/details.json").read_text())
    assert re.findall(r"<h3>(.*?)</h3>", section) == list(details["sets"])
    scores = pd.read_parquet(project.path / "results/adaface/fiqa/scores.parquet")
    of_lfw = scores.loc[scores["set"] == "lfw", "cr_fiqa"].sort_values()
    said = [float(one) for one in re.findall(r"<span>([-\d.e]+)</span>", section.partition("</h3>")[2])]
    assert said[:8] == pytest.approx(of_lfw.head(8).tolist(), rel=1e-3)
    assert said[8:16] == pytest.approx(of_lfw.tail(8).tolist()[::-1], rel=1e-3)


def test_it_says_how_to_make_the_run_again(shown: tuple[Project, str]):
    project, _ = shown
    page = page_of(project)
    assert "facet run adaface" in page
    assert "<dt>fingerprint</dt>" in page
    assert "<dt>head.margin</dt><dd>0.4</dd>" in page
    assert "<!-- recorded" not in page


def test_a_tables_page_leads_to_it_and_names_the_command_where_there_is_none(shown: tuple[Project, str]):
    project, _ = shown
    page = project.run("facet", "table", "heads", "--format", "html")
    (address,) = re.findall(r'<dt>page of the run</dt><dd><a href="(file:[^"]+)">adaface</a>', page)
    assert Path(unquote(urlsplit(address).path)) == (project.path / "results/adaface/page/index.html").resolve()
    assert "<dt>page of the run</dt><dd>facet show cosface</dd>" in page


def test_chosen_sets_and_no_pairs_at_all(shown: tuple[Project, str], monkeypatch: pytest.MonkeyPatch):
    project, _ = shown
    monkeypatch.chdir(project.path)
    page = project.path / "results/arcface/page/index.html"
    show.main(show.parser().parse_args(["arcface", "--sets", "lfw"]))
    assert "<h3>lfw, threshold" in page.read_text(encoding="utf-8")
    assert "<h3>cfp_fp, threshold" not in page.read_text(encoding="utf-8")
    show.main(show.parser().parse_args(["arcface", "--no-pairs"]))
    assert "Worst pairs" not in page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="run arcface was not measured on lfv: there are lfw, cfp_fp"):
        show.main(show.parser().parse_args(["arcface", "--sets", "lfv"]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["adaface2"], "error: run 'adaface2' was not trained here: there are adaface, arcface, cosface"),
        (["adaface", "--scale", "none"], "run `facet ablations --scale none` first"),
    ],
)
def test_what_is_not_there_is_one_sentence(shown: tuple[Project, str], options: list[str], sentence: str):
    printed = shown[0].run("facet", "show", *options, check=False)
    assert sentence in printed
    assert "Traceback" not in printed
