"""Which of a table's findings is shown: the one about these results, whatever scale it is of."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from stages.config.table import Finding
from stages.reporting import findings

HERE = findings.digest(())
ELSEWHERE = "0" * 16


def finding(text: str, digest: str) -> Finding:
    return Finding(text=text, date=datetime.date(2026, 1, 2), digest=digest)


@pytest.mark.parametrize(
    ("demo", "large", "shown"),
    [(ELSEWHERE, HERE, ("large", True)), (HERE, HERE, ("demo", True)), (HERE, ELSEWHERE, ("demo", True)),
     (ELSEWHERE, ELSEWHERE, ("demo", False))],
)  # fmt: skip
def test_the_finding_about_these_results_comes_before_that_of_the_profile(demo: str, large: str, shown: tuple[str, bool]) -> None:
    # demo_large builds on demo, and has its profile
    there = {"demo": finding("demo", demo), "demo_large": finding("large", large)}
    comparison: Any = SimpleNamespace(table=SimpleNamespace(findings=there), scale=SimpleNamespace(profile="demo"), lines=())
    found = findings.found(comparison)
    assert found is not None
    assert (found.text, found.here) == shown


def test_a_profile_without_a_finding_shows_that_of_no_other() -> None:
    there = {"demo": finding("demo", ELSEWHERE)}
    comparison: Any = SimpleNamespace(table=SimpleNamespace(findings=there), scale=SimpleNamespace(profile="paper"), lines=())
    assert findings.found(comparison) is None
