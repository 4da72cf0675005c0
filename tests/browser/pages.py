"""Page objects for MLflow's UI."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.tracking import recorded_ids
from pipeline.tracking.desired import Scope

# MLflow opens its assistant over a quarter of the page on a first visit, and remembers that it did
close_assistant = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
@dataclass(frozen=True)
class Shown:
    """A recorded project and its server."""

    root: Path
    url: str
    table: str
    profile: str | None = None

    @property
    def report(self) -> Any:
        """The report of the table, as data."""
        made = self.root if self.profile is None else self.root / ".facet/ablations" / self.profile
        return json.loads((made / "results/tables" / self.table / "report/table.json").read_text())

    def experiment(self, name: str) -> str:
        """Return the ID of an experiment of this project or scale: ``table.heads``."""
        found = recorded_ids.read(self.root).experiments.get(Scope(self.profile).key(name))
        assert found is not None, f"no experiment {name}"
        return found

    @property
    def model(self) -> str:
        """The name of its registered best model."""
        return Scope(self.profile).model(self.table)

    def at(self, path: str) -> str:
        """Return the address of a page in MLflow."""
        return f"{self.url}/#{path}"

    def open_experiment(self, page: Any, name: str) -> None:
        """Open an experiment as the list of experiments links to it."""
        page.goto(self.at(f"/experiments/{self.experiment(name)}/runs?workflowType=machine_learning"))

    def open_table(self, page: Any, name: str) -> None:
        """Open an experiment, then its table view by the link on its page."""
        self.open_experiment(page, name)
        follow(page, "As the table")
        page.wait_for_url(re.compile("searchFilter="))  # the view is applied; until then all runs stand there
        page.locator("[role=row][row-id]").first.wait_for()

    def current(self, name: str) -> int:
        """Return the number of runs in an experiment's table view."""
        runs = recorded_ids.read(self.root).runs[Scope(self.profile).key(name)]
        return sum(run.current for run in runs.values())


def follow(page: Any, link: str) -> None:
    """Open the address of a link in a note; a click would open it in a new page and load everything again."""
    found = page.get_by_role("link", name=link, exact=True)
    found.wait_for()
    page.goto(page.url.partition("#")[0] + found.get_attribute("href"))


def scroll_to(page: Any, link: str) -> Any:
    """Return a link in the list of runs, scrolled into view: only visible rows are drawn, 100 loaded at first."""
    found = page.get_by_role("link", name=link, exact=True)
    view = page.locator(".ag-body-viewport")
    while not found.count():
        top, height, whole = view.evaluate("one => [one.scrollTop, one.clientHeight, one.scrollHeight]")
        if top + height < whole - 1:
            view.evaluate("one => { one.scrollTop += one.clientHeight / 2; }")
        else:
            page.get_by_role("button", name="Load more").click()
        page.wait_for_timeout(150)
    return found


@dataclass(frozen=True)
class Grid:
    """The cells of MLflow's list of runs."""

    headers: list[str]
    """By position, with their kind: ``metrics.LFW``."""
    rows: list[dict[str, str]]
    """Cells by header, from the first row down; ``name`` is the run's."""


# only columns inside the page are drawn: it is read while scrolled from the left to the right
READ_GRID = """async () => {
    const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done, 150)));
    const view = document.querySelector('.ag-center-cols-viewport');
    const headers = {}, rows = {};
    for (let left = 0; ; left += view.clientWidth / 2) {
        view.scrollLeft = left;
        await drawn();
        for (const one of document.querySelectorAll('.ag-header-cell[col-id]'))
            headers[one.getAttribute('col-id')] = Number(one.getAttribute('aria-colindex'));
        for (const row of document.querySelectorAll('[role=row][row-id]')) {
            const found = rows[row.getAttribute('row-index')] ??= {};
            for (const cell of row.querySelectorAll('[role=gridcell]'))
                found[cell.getAttribute('col-id')] = cell.innerText;
        }
        if (left + view.clientWidth >= view.scrollWidth) break;
    }
    view.scrollLeft = 0;
    await drawn();
    return {
        headers: Object.keys(headers).sort((a, b) => headers[a] - headers[b]),
        rows: Object.keys(rows).sort((a, b) => a - b).map((index) => rows[index]),
    };
}"""


def read_grid(page: Any, rows: int) -> Grid:
    """Return the list of runs once it has ``rows`` rows with drawn cells."""
    page.wait_for_function(
        "rows => document.querySelectorAll('.ag-center-cols-container [role=row] [role=gridcell]').length && "
        "document.querySelectorAll('.ag-center-cols-container [role=row]').length === rows",
        arg=rows,
    )
    tree = page.evaluate(READ_GRID)
    plain = {name: re.sub(r"`", "", name) for name in tree["headers"]}
    found = []
    for row in tree["rows"]:
        cells = {plain.get(name, name): text.strip() for name, text in row.items()}
        # its colour stands before it
        cells["name"] = cells.get("attributes.Run Name", "").splitlines()[-1]
        found.append(cells)
    return Grid([plain[name] for name in tree["headers"]], found)


def number(text: str) -> float | None:
    """Return a cell's number; None if it is empty."""
    return None if text in ("-", "") else float(text)
