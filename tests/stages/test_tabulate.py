"""The stage `tabulate` on rows of invented results: every format, its cells, and that bytes repeat."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stages import row, tabulate
from stages.reporting import plots
from tests import fake_results

REPORT = Path("results/tables/heads/report")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tabulate")
    metrics = {"cosface.ijb.ijbb_tar_at_far_1e-04": 0.19, "arcface.lq.tinyface_rank1": None}
    fake_results.write_project(path, metrics=metrics)
    with contextlib.chdir(path):
        make()
    return path


@pytest.fixture
def report(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report of a table with one hole; tests leave it as it is."""
    monkeypatch.chdir(made)
    return made / REPORT


def make() -> None:
    for run in fake_results.SKILL:
        row.main(row.parser().parse_args([f"heads-{run}", run]))
    tabulate.main(argparse.Namespace(table="heads"))


def test_markdown_golden(report: Path):
    lines = (report / "table.md").read_text().splitlines()
    assert lines[0] == "# AdaFace against ArcFace and CosFace"
    # ArcFace 20, CosFace 19, AdaFace 26 against 94.25, 94.80, 95.67: (2 - 1) / 3; 3 of the 6 orders reach 1/3
    assert lines[2] == (
        "Kendall's τ +0.33: 2 of 3 pairs of rows, in one column, are in the published order. "
        "Of all possible orders of 3 rows, 50% agree at least as well."
    )
    assert lines[4:16] == [
        "|  |  | LFW | IJB-B TAR at FAR 1e-4 | TinyFace Rank-1 | EDC AUC ↓ |",
        "| :-- | :-- | --: | --: | --: | --: |",
        "| **ArcFace** | measured | 70.00 | 20.00 | not measurable | 0.0500 |",
        "|  | published |  | 94.25 |  |  |",
        "|  | difference |  | −74.25 |  |  |",
        "| **CosFace** | measured | 71.00 | 19.00 | 33.00 | 0.0455 |",
        "|  | published |  | 94.80 |  |  |",
        "|  | difference |  | −75.80 |  |  |",
        "| **AdaFace** | measured | **73.00** | **26.00** | **39.00** | **0.0385** |",
        "|  | published | 99.82 | 95.67 | 68.21 |  |",
        "|  | difference | −26.82 | −69.67 | −29.21 |  |",
        "| Kendall's τ |  | not comparable | +0.33 | not comparable | not comparable |",
    ]
    assert "- TinyFace Rank-1 (ArcFace): not measurable: too few impostor pairs." in lines


def test_csv_has_empty_fields_where_nothing_is_known_and_never_a_zero(report: Path):
    with (report / "table.csv").open() as stream:
        rows = {line["row"]: line for line in csv.DictReader(stream)}
    assert rows["ArcFace"]["LFW published"] == rows["ArcFace"]["LFW difference"] == ""
    assert rows["ArcFace"]["TinyFace Rank-1"] == "not measurable"
    assert rows["ArcFace"]["TinyFace Rank-1 reason"] == "too few impostor pairs"
    assert rows["ArcFace"]["LFW reason"] == rows["AdaFace"]["TinyFace Rank-1 reason"] == ""
    assert rows["AdaFace"]["IJB-B TAR at FAR 1e-4 difference"] == "-69.67"
    assert rows["CosFace"]["head.name"] == "cosface"


def test_json_has_every_cell_in_its_unit_and_the_agreement(report: Path):
    tree = json.loads((report / "table.json").read_text())
    assert tree["agreement"]["tau"] == pytest.approx(1 / 3, abs=1e-6)
    assert tree["columns"][0]["agreement"]["tau"] is None
    cells = {line["label"]: line["cells"] for line in tree["rows"]}
    assert cells["AdaFace"]["EDC AUC"]["measured"] == 0.0385
    assert cells["AdaFace"]["LFW"] == {
        "measured": 73.0, "published": 99.82, "difference": -26.82, "best": True, "missing": "", "reason": "",
    }  # fmt: skip
    assert cells["ArcFace"]["TinyFace Rank-1"]["missing"] == "not measurable"


class Page(HTMLParser):
    """Collects text, attributes and that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


@pytest.fixture
def page(report: Path) -> Page:
    parsed = Page()
    parsed.feed((report / "table.html").read_text())
    assert parsed.open == []
    return parsed


def test_html_has_every_cell_of_the_table(report: Path, page: Page):
    with (report / "table.csv").open() as stream:
        heads, *rows = csv.reader(stream)
    for cells in rows:
        for head, cell in zip(heads, cells, strict=True):
            if head.endswith(" reason") or not cell:
                assert not cell or any(text.endswith(f": {cell}.") for text in page.text)
                continue
            # of the ablation parameters the page shows name and value together
            shown = cell.replace("-", "−", 1) if cell.startswith("-") else cell
            assert shown in page.text or any(text.endswith(f" {shown}") for text in page.text), cell


def test_html_needs_nothing_beside_it(page: Page):
    outside = [value for name, value in page.attributes if name in {"src", "href", "xlink:href"} and value]
    assert [value for value in outside if not value.startswith("#")] == []


def test_ids_in_the_page_are_referred_to_and_not_given_to_two_things(report: Path, page: Page):
    text = (report / "table.html").read_text()
    definitions: dict[str, set[str]] = {}
    for tag, identity in re.findall(r'(<[a-zA-Z]+[^>]*? id="([^"]+)"[^>]*>)', text):
        definitions.setdefault(identity, set()).add(tag)
    assert all(len(tags) == 1 for tags in definitions.values())
    assert set(definitions) <= set(re.findall(r"#([\w-]+)[\")]", text))


def test_no_nan_reaches_a_reader(report: Path):
    for path in report.iterdir():
        assert not re.search(r"\b(nan|inf|None|null<)\b", path.read_text().replace("null", "")), path


def test_plots_show_every_set_and_every_row(report: Path):
    drawn = {path.name: path.read_text() for path in report.glob("*.svg")}
    assert set(drawn) == {"order.svg", "roc.svg", "det.svg", "rank.svg", "discard.svg"}
    for label in ("LFW", "cfp_fp", "IJBB", "ArcFace", "CosFace", "AdaFace"):
        assert f">{label}<" in drawn["roc.svg"], label
    for title in ("LFW, score cr_fiqa, iso curve", "cplfw, score feature_norm, cr_fiqa curve"):
        assert f">{title}<" in drawn["discard.svg"], title
    assert ">IJB-B TAR at FAR 1e-4 (τ +0.33)<" in drawn["order.svg"]


def test_the_same_rows_give_the_same_bytes(report: Path):
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    make()
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before


def test_names_in_a_table_cannot_break_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    table = {**fake_results.TABLE, "title": "<script>alert(1)</script> & more"}
    fake_results.write_project(tmp_path, table)
    drawn = plots.plots
    monkeypatch.setattr(plots, "plots", lambda comparison: drawn(comparison, ("order",)))  # others take seconds
    make()
    text = (tmp_path / REPORT / "table.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_a_row_that_is_missing_or_another_runs_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    path = Path("results/tables/heads/rows/heads-arcface.json")
    path.write_text(path.read_text().replace('"run": "arcface"', '"run": "cosface"', 1))
    with pytest.raises(ValueError, match="is of run cosface, but the table needs arcface"):
        tabulate.main(argparse.Namespace(table="heads"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"row@heads-arcface writes it"):
        tabulate.main(argparse.Namespace(table="heads"))
    assert (REPORT / "table.md").is_file(), "the old report stays"
