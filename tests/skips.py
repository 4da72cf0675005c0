"""Counts the skipped tests of a whole run against `skips.yaml`: a test that no longer runs fails the run.

A selection of tests (paths, `-k`, another `-m` than the one of `make check`, a run that was stopped) is not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

TABLE = Path(__file__).with_name("skips.yaml")
SELECTIONS = {"": "all", "not slow": "not slow"}
"""What may be said with `-m`, and what `skips.yaml` calls it."""
NARROWING = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")


class Counted:
    """A plugin of the process that reports, be it alone or over workers."""

    def __init__(self, config: pytest.Config, table: Path = TABLE) -> None:
        self.config = config
        self.table = table
        # by test: each worker collects, and so skips, a whole file
        self.reasons: dict[str, str] = {}
        self.complaint = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped, failed as expected, or passed against expectation."""
        if hasattr(report, "wasxfail"):
            self.reasons[report.nodeid] = f"{'xfail' if report.skipped else 'xpass'}: {report.wasxfail}"
        elif report.skipped:
            self.reasons[report.nodeid] = reason_of(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped file."""
        if report.skipped:
            self.reasons[report.nodeid] = reason_of(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a whole run that skipped more than it may."""
        selection = selection_of(self.config, session)
        if selection is None:
            return
        shared = "shared" if (self.config.rootpath.parent / "shared").is_dir() else "alone"
        extra = surplus(self.reasons.values(), yaml.safe_load(self.table.read_text()), selection, shared)
        if extra:
            self.complaint = f"{len(extra)} reasons skipped more tests than {self.table.name} allows: {'; '.join(extra)}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print which skips are new."""
        if self.complaint:
            terminalreporter.section("skipped tests", red=True)
            terminalreporter.line(self.complaint)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why it was skipped."""
    found = report.longrepr
    return str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")


def selection_of(config: pytest.Config, session: pytest.Session) -> str | None:
    """Return the name of the selection if it is one whose skips are known, None for any other."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    narrowed = any(config.getoption(name, default=None) for name in NARROWING)
    if not whole or narrowed or session.shouldstop or session.shouldfail:
        return None
    return SELECTIONS.get(config.getoption("markexpr"))


def surplus(reasons: Iterable[str], table: Sequence[Mapping[str, Any]], selection: str, shared: str) -> list[str]:
    """Return what was skipped beyond the table: how often, how often it may be, and why.

    >>> rows = [{"reason": reason, "all": {"shared": 1}} for reason in ("no mouse", "no c.t")]
    >>> surplus(["no cat here", "no cat there", "no mouse", "no dog"], rows, "all", "shared")
    ["1 (0 allowed): 'no dog'", "2 (1 allowed): 'no cat there'"]
    """
    found: Counter[str] = Counter()
    shown: dict[str, str] = {}
    allowed: dict[str, int] = {}
    for reason in reasons:
        row = next((row for row in table if re.match(row["reason"], reason)), None)
        key = reason if row is None else row["reason"]
        found[key] += 1
        shown[key] = reason
        allowed[key] = 0 if row is None else row.get(selection, {}).get(shared, 0)
    return sorted(f"{n} ({allowed[key]} allowed): {shown[key]!r}" for key, n in found.items() if n > allowed[key])
