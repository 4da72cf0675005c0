"""Adds provenance to a table's page: each run's lock entry and MLflow address, which stages cannot know."""

from __future__ import annotations

import re
from html import escape

from pipeline.base.workspace import Workspace
from pipeline.servers import servers
from pipeline.tracking import lineage, store, subprocess_client
from pipeline.tracking.desired import scope_of

MARKER = re.compile(r"<!-- recorded ([a-z][a-z0-9_]*) -->")
"""Placeholder that stages/reporting/provenance.py leaves for a run."""


def add(html: str, where: Workspace) -> str:
    """Return a page with the fingerprint, the commit and the link of each run.

    Args:
        html: a page of a table, or of all.
        where: the workspace in which it was made.
    """
    if MARKER.search(html) is None:
        return html
    locked, links = lineage.read(where.folder).entries, run_links(where)
    commits = store.commits(store.uri(where.project), scope_of(where))

    def facts(found: re.Match[str]) -> str:
        stage = f"train_backbone@{found[1]}"
        entry = locked.get(stage)
        if entry is None:
            return _entry("recorded", f"{stage} is not in dvc.lock")
        identity = lineage.fingerprint(entry)
        said = _entry("fingerprint", identity)
        # not the commit of today: the page may be made long after the training
        said += _entry("recorded at commit", commits.get(identity, "not recorded in this store"))
        if link := links.get(stage):
            said += f'<dt>MLflow</dt><dd><a href="{escape(link)}">{escape(stage)}</a></dd>'
        return said

    return MARKER.sub(facts, html)


def run_links(where: Workspace) -> dict[str, str]:
    """Return where MLflow shows each recorded stage of a workspace, if its server is up; else nothing."""
    server = servers.known(where.project).get(servers.MLFLOW)
    url = servers.elsewhere().get(servers.MLFLOW) or (server.url if server else "")
    return subprocess_client.run_links(where, url) if url else {}


def _entry(name: str, value: str) -> str:
    return f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
