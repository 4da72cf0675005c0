"""Errors of the command line: a person's are one sentence, a bug keeps its traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from pipeline.execution.stage_result import message_of
from stages.core.errors import InputError
from tests.pipeline.dummy import Dummy


def raising(project: Dummy, statement: str) -> subprocess.CompletedProcess[str]:
    """Run `facet status` where the first thing that it calls is replaced by a statement that raises."""
    code = (
        "import sys\n"
        "from pipeline.base import environment\n"
        "from stages.core.errors import InputError, OperationError\n"
        f"def find_root():\n    {statement}\n"
        "environment.find_root = find_root\n"
        "from pipeline.cli import app\n"
        "sys.argv = ['facet', 'status']\n"
        "app()\n"
    )
    return project.run(sys.executable, "-c", code, code=None)


@pytest.mark.parametrize(
    ("statement", "last"),
    [
        ("{}['margin']", "KeyError: 'margin'"),
        ("[][0]", "IndexError: list index out of range"),
        ("int('three')", "ValueError: invalid literal for int() with base 10: 'three'"),
        ("raise RuntimeError('odd')", "RuntimeError: odd"),
    ],
)
def test_a_bug_shows_its_traceback(make_dummy: Callable[..., Dummy], statement: str, last: str) -> None:
    answer = raising(make_dummy(runs=1), statement)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Traceback (most recent call last):\n")
    assert answer.stderr.splitlines()[-1] == last
    assert "in find_root" in answer.stderr


@pytest.mark.parametrize("kind", ["InputError", "OperationError", "OSError"])
def test_what_a_person_or_the_machine_did_is_one_sentence(make_dummy: Callable[..., Dummy], kind: str) -> None:
    answer = raising(make_dummy(runs=1), f"raise {kind}('margin: 0.5 was wanted')")
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", "error: margin: 0.5 was wanted\n")


def test_a_misspelt_target_is_one_sentence(make_dummy: Callable[..., Dummy]) -> None:
    answer = make_dummy(runs=1).facet("run", "evaluate_lq", code=2)
    assert answer.stderr.startswith("error: no stage, table or run 'evaluate_lq': ")
    assert answer.stderr.count("\n") == 1


def test_a_stage_that_ends_by_a_bug_of_ours_is_reported_with_the_traceback() -> None:
    said: list[str] = []
    assert message_of(InputError("margin: 0.5 was wanted"), said.append) == "margin: 0.5 was wanted"
    assert said == []
    assert message_of(KeyError("margin"), said.append) == "KeyError: 'margin'"
    assert said[-1] == "KeyError: 'margin'"
