"""CITATION.cff names the version and the licence of pyproject.toml, and what it must have to be read."""

from __future__ import annotations

import tomllib

import yaml

from tests.support import ROOT


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


def test_issue_templates_are_forms_with_what_github_requires():
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert {path.stem for path in forms} == {"bug", "method", "number"}
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form), path.name
        assert all(part["type"] in ("checkboxes", "input", "textarea") and part["attributes"]["label"] for part in form["body"])
