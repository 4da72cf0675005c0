"""Adds to a table's page what stages cannot know: what DVC locked for each run, the commit, and its run in MLflow."""

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
    locked, git, links = lineage.read(project).entries, lineage.git_state(root), run_links(root, profile)

    def facts(found: re.Match[str]) -> str:
        stage = f"train_backbone@{found[1]}"
        entry = locked.get(stage)
        if entry is None:
            return _entry("recorded", f"{stage} is not in dvc.lock")
        said = _entry("fingerprint", lineage.fingerprint(entry))
        if commit := git.get("commit"):
            said += _entry("commit", commit + (", with changes" if git["dirty"] == "true" else ""))
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
