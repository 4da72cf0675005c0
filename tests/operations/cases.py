"""All pieces of work that the harness knows."""

from __future__ import annotations

from tests.operations import pipeline_cases, stage_cases, tool_cases
from tests.operations.case import Case

ALL: dict[str, Case] = {case.name: case for case in (*stage_cases.CASES, *tool_cases.CASES, *pipeline_cases.CASES)}
