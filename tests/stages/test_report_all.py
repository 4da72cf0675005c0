"""The stage `report`: all tables in one folder, and two profiles side by side, on invented results."""

from __future__ import annotations

import argparse
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import report_all, row, tabulate
from stages.reporting import plots
from stages.reporting.comparison import Comparison
from stages.runtime import artifacts
from tests import fake_results

SEEDS = (0, 1, 2)
# of the table of DEMO under any profile; of other results it was found elsewhere
FINDING = {"text": "What it shows.", "date": "2026-01-02", "digest": "3ae64beffb7d49ac"}


def write_table(root: Path, name: str, profile: str, x: dict[str, tuple[float, ...]]) -> None:
    """Write a table of one published column, and a row for each run and seed."""
    table: dict[str, Any] = {
        "title": f"Table {name} & more", "source": "S", "note": "What it asks.", "findings": {profile: FINDING},
        "columns": [{"name": "X", "metric": "hq.x"}],
        "rows": {key: {"label": key.upper(), "run": key, "published": {"X": 90.0 + i}} for i, key in enumerate(x)},
        "claims": [{"text": "C is best", "source": "S", "better": ["c"], "worse": ["a"]}],
    }  # fmt: skip
    table["rows"]["other"] = {"label": "Other", "published": {"X": 99.0}}
    measured: dict[str, dict[str, str]] = {key: {} for key in x}
    for key, values in x.items():
        for seed, value in enumerate(values):
            full_name = f"{name}-{key}" + (f"-{seed}" if seed else "")
            measured[key][full_name] = f"{key}_s{seed}"
            gathered = {
                "run": f"{key}_s{seed}", "weights_sha256": f"{key}{seed}", "parameters": {"seed": seed, "dataset": "demo"},
                "switches": {"hq": {"protocol.verification": "2", "fusion": "none"}},
                "measured": {"hq": {"x": value}}, "unmeasured": {}, "curves": {},
            }  # fmt: skip
            fake_results.write(root / f"results/tables/{name}/rows/{full_name}.json", json.dumps(gathered))
    tree = {"table": fake_results.full(table), "scale": {**fake_results.SCALE, "profile": profile}, "measured": measured}
    fake_results.write(root / f"resolved/tables/{name}.yaml", yaml.safe_dump(tree))


DEMO = {"a": (0.1, 0.11, 0.12), "b": (0.2, 0.21, 0.22), "c": (0.3, 0.31, 0.32)}
# b and c change places in every seed
FACES = {"a": (0.5, 0.51, 0.52), "b": (0.9, 0.91, 0.92), "c": (0.6, 0.61, 0.62)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("all")
    write_table(root / "demo", "one", "demo", DEMO)
    write_table(root / "demo", "two", "demo", FACES)
    write_table(root / "faces", "one", "faces", FACES)
    fake_results.write(root / "demo/results/tables/one/report/table.html", "<style>p {}</style><p>of one</p>")
    arguments = ["--root", str(root / "demo"), "--beside", str(root / "faces"), "--out", str(root / "docs")]
    report_all.main(report_all.parser().parse_args(arguments))
    return root / "docs"


def test_the_folder_has_one_page_for_all_and_those_of_tables_that_are_made(folder: Path):
    names = {path.name for path in folder.iterdir()}
    assert names == {"index.html", "index.md", "index.csv", "index.tex", "index.json", "one.html", "page.css"}
    text = (folder / "index.html").read_text()
    assert 'href="one.html"' in text
    assert 'href="two.html"' not in text
    assert (folder / "one.html").read_text() == '<link rel="stylesheet" href="page.css"><p>of one</p>'
    assert '<link rel="stylesheet" href="page.css">' in text
    assert "<style>" not in text


def test_the_page_shows_the_agreement_of_each_table_with_its_interval_and_what_it_shows(folder: Path):
    text = (folder / "index.html").read_text()
    overview = text[text.index('class="overview"') : text.index("</table>")]
    lines = re.findall(r"<tr>(.*?)</tr>", overview)[1:]
    assert len(lines) == 2
    cells = re.findall(r"<td>(.*?)</td>", lines[0])
    assert cells[:3] == ["+1.00", "[+1.00, +1.00]", "+1.00, +1.00, +1.00"]
    assert cells[-1] == "+0.33 [+0.33, +0.33]"
    one, two = text[text.index('id="table-one"') :].split('id="table-two"')
    assert '<p class="finding">What it shows.</p>' in one[: one.index("</h1>") + 200]
    assert "in other results" not in one
    fold = "<details><summary>Found on 2026-01-02, in other results of this table</summary>"
    assert f'{fold}<p class="finding">What it shows.</p>' in two
    assert two.count("What it shows.") == 1
    assert "Only the order of the rows is tested." in text
    assert "published only" in text


def test_a_measured_value_leads_to_runs_weights_and_switches(folder: Path):
    text = (folder / "index.html").read_text()
    links = set(re.findall(r'href="#(made-[\w-]+)"', text))
    assert links == {f"made-two-{row}" for row in "abc"}, "those of one are on its own page"
    ids = re.findall(r' id="((?:made|table)-[^"]+)"', text)
    assert links <= set(ids)
    assert len(ids) == len(set(ids))
    made = text[text.index('id="made-two-c"') :]
    made = made[: made.index("</details>")]
    for shown in ("c_s0", "c_s1", "c_s2", "c2", "<!-- recorded c_s1 -->", "61.00"):
        assert shown in made, shown
    shared = text[text.index("<summary>All rows</summary>") :]
    shared = shared[: shared.index("</details>")]
    for shown in ("protocol.verification", "fusion"):
        assert shown in shared
        assert shown not in made


class Opened(HTMLParser):
    """Refuses what is closed in another order than it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_names_cannot_break_it(folder: Path):
    text = (folder / "index.html").read_text()
    page = Opened()
    page.feed(text)
    assert page.open == []
    assert "Table one &amp; more" in text
    assert not re.search(r'(?:src|href)="(?!#|one\.html|page\.css)', text.replace('xlink:href="#', "")), "nothing from elsewhere"


def test_two_profiles_stand_side_by_side_and_say_where_they_differ(folder: Path):
    text = (folder / "index.html").read_text()
    assert "published, demo, faces: side by side" in text
    assert "<td>2 · 2 · 1</td>" in text
    tree = json.loads((folder / "index.json").read_text())
    pairings = {(one["left"], one["right"]): one for one in tree["beside"]["one"]}
    assert pairings["published", "demo"]["tau"] == 1
    assert pairings["demo", "faces"]["tau"] == pytest.approx(1 / 3)
    assert pairings["demo", "faces"]["reversed"] == ["X: C above B"]
    assert (
        "demo and faces: τ +0.33 [+0.33, +0.33]; of 3 pairs that the seeds separate on both sides, 2 agree. "
        "Reversed on faces: X: C above B."
    ) in (folder / "index.md").read_text()


def test_data_of_all_tables_is_one_line_a_cell(folder: Path):
    with (folder / "index.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 8
    assert lines[1] == {
        "table": "one", "row": "b", "label": "B", "run": "b", "column": "X", "metric": "hq.x", "unit": "percent",
        "higher_is_better": "true", "measured": "21.00", "std": "1.00", "seeds": "3", "published": "91.00",
        "difference": "-70.00", "missing": "", "reason": "",
    }  # fmt: skip
    assert (lines[3]["measured"], lines[3]["seeds"], lines[3]["run"]) == ("", "", "")
    text = (folder / "index.tex").read_text()
    assert text.startswith(r"\documentclass")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2


def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path):
    root = folder.parent
    arguments = ["--root", str(root / "demo"), "--beside", str(root / "faces"), "--out", str(tmp_path / "again")]
    report_all.main(report_all.parser().parse_args(arguments))
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_tables_that_differ_in_rows_or_are_not_there_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="has no finished table: run `dvc repro resolve`"):
        report_all.read(tmp_path)
    write_table(tmp_path / "demo", "one", "demo", DEMO)
    write_table(tmp_path / "faces", "one", "faces", {key: FACES[key] for key in "ab"} | {"d": (0.1,)})
    path = tmp_path / "faces/resolved/tables/one.yaml"
    path.write_text(path.read_text().replace("- c\n", "- b\n"))
    comparisons: list[Comparison] = report_all.read(tmp_path / "demo")[0]
    with pytest.raises(ValueError, match=r"table one has other rows at scale faces: \['a', 'b', 'd', 'other'\]"):
        report_all.witnesses(comparisons, tmp_path / "faces")


def test_a_table_with_a_row_that_is_not_there_yet_is_named_and_the_others_are_shown(tmp_path: Path):
    write_table(tmp_path, "one", "demo", DEMO)
    write_table(tmp_path, "two", "demo", DEMO)
    (tmp_path / "results/tables/two/rows/two-b-1.json").unlink()
    report_all.main(report_all.parser().parse_args(["--root", str(tmp_path)]))
    text = (tmp_path / "results/report/index.html").read_text()
    assert "Not finished: two." in text
    assert "row@two-b-1 writes it" in text
    assert 'id="table-one"' in text
    assert 'id="table-two"' not in text


def test_rows_of_several_seeds_go_through_row_and_tabulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From results/RUN of four runs to the page of one table: two seeds of ArcFace."""
    monkeypatch.chdir(tmp_path)
    fake_results.write_project(tmp_path)
    for path in [*Path("results/arcface").rglob("*.*"), Path("resolved/runs/arcface.yaml")]:
        if path.is_file():
            other = Path(str(path).replace("arcface", "arcface_s1"))
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_text(path.read_text().replace("seed: 0", "seed: 1").replace('"lfw": 0.7', '"lfw": 0.72'))
    resolved = Path("resolved/tables/heads.yaml")
    tree = yaml.safe_load(resolved.read_text())
    tree["measured"]["arcface"]["heads-arcface-1"] = "arcface_s1"
    resolved.write_text(yaml.safe_dump(tree, sort_keys=False))
    drawn = plots.plots
    monkeypatch.setattr(plots, "plots", lambda comparison: drawn(comparison, ("seeds",)))  # others take seconds
    for name, run in [item for rows in tree["measured"].values() for item in rows.items()]:
        row.main(row.parser().parse_args([name, run]))
    tabulate.main(argparse.Namespace(table="heads"))
    report = artifacts.report_folder("heads")
    assert "| **ArcFace** | measured | 71.00 ± 1.41 | 20.00 ± 0.00 |" in (report / "table.md").read_text()
    cell = json.loads((report / "table.json").read_text())["rows"][0]["cells"]["LFW"]
    assert (cell["measured"], cell["std"], cell["by_seed"]) == (71.0, 1.41, {"0": 70.0, "1": 72.0})
    with (report / "table.csv").open() as stream:
        first = next(csv.DictReader(stream))
    assert (first["LFW std"], first["LFW seeds"]) == ("1.41", "2")
    assert (report / "seeds.svg").is_file()
    assert r"ArcFace & measured & 71.00 $\pm$ 1.41" in (report / "table.tex").read_text()
