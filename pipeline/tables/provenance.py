"""Adds provenance to a table's page: each run's lock entry and MLflow address, which stages cannot know."""

from __future__ import annotations

import re
from html import escape

from pipeline.base.workspace import Workspace
from pipeline.servers import servers
from pipeline.tracking import lineage, recorded_ids

MARKER = re.compile(r"<!-- recorded ([a-z][a-z0-9_]*) -->")
"""Placeholder that stages/reporting/provenance.py leaves for a run."""


def add(html: str, where: Workspace, *, pages: bool = True) -> str:
    """Return a page with the fingerprint, the commit and the link of each run.

    Args:
        html: a page of a table, or of all.
        where: the workspace in which it was made.
        pages: whether to link to the pages of single runs.
    """
    if MARKER.search(html) is None:
        return html
    locked, runs, address = lineage.read(where.folder).entries, recorded_ids.runs(where), mlflow_url(where)

    def facts(found: re.Match[str]) -> str:
        stage = f"train_backbone@{found[1]}"
        entry = locked.get(stage)
        if entry is None:
            return _entry("recorded", f"{stage} is not in dvc.lock")
        identity = lineage.fingerprint(entry)
        run = runs.get(identity)
        said = _entry("fingerprint", identity)
        # not the commit of today: the page may be made long after the training
        said += _entry("recorded at commit", (run and run.commit) or "not recorded in this store")
        said += _page(where, found[1]) if pages else ""
        if run and address:
            said += f'<dt>MLflow</dt><dd><a href="{escape(run.url(address))}">{escape(stage)}</a></dd>'
        return said

    return MARKER.sub(facts, html)


def _page(where: Workspace, run: str) -> str:
    """Return the link to the page of a single run, or the command that draws it; `facet show` knows no sweeps."""
    path = where.folder / "results" / run / "page" / "index.html"
    if path.is_file():
        return f'<dt>page of the run</dt><dd><a href="{escape(path.resolve().as_uri())}">{escape(run)}</a></dd>'
    scale = f" --scale {where.name}" if where.kind == "ablations" else ""
    return "" if where.kind == "sweep" else _entry("page of the run", f"facet show {run}{scale}")


def mlflow_url(where: Workspace) -> str:
    """Return the address of the MLflow server of a workspace's project; empty if there is none, or only a database."""
    server = servers.known(where.project).get(servers.MLFLOW)
    address = servers.elsewhere().get(servers.MLFLOW) or (server.url if server else "")
    return address if recorded_ids.has_pages(address) else ""


def _entry(name: str, value: str) -> str:
    return f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
