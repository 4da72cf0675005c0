"""Adds to a table's page what stages cannot know: what DVC locked for each run, and where that is recorded."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from pipeline import ablation_workspace, lineage, services, store
from pipeline.wanted import Scope

MARKER = re.compile(r"<!-- recorded ([a-z][a-z0-9_]*) -->")
"""Where stages/reporting/provenance.py leaves room for a run."""


def add(html: str, root: Path, profile: str = "") -> str:
    """Return a page with the fingerprint, the commit and the link of each run.

    Args:
        html: a page of a table, or of all.
        root: of the project.
        profile: whose ablations the runs belong to; empty: the project's own.
    """
    if MARKER.search(html) is None:
        return html
    project = ablation_workspace.folder(root, profile) if profile else root
    locked, links = lineage.read(project).entries, run_links(root, profile)
    commits = store.commits(store.uri(root), Scope(profile or None))

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


def run_links(root: Path, profile: str) -> dict[str, str]:
    """Return where MLflow shows each recorded stage, if its server is up; else nothing."""
    server = services.known(root).get(services.MLFLOW)
    url = services.elsewhere().get(services.MLFLOW) or (server.url if server else "")
    scope = Scope(profile) if profile else Scope()
    return {
        stage: f"{url.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
        for stage, experiment, run in (store.current_runs(store.uri(root), scope) if url else ())
    }


def _entry(name: str, value: str) -> str:
    return f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>"
