"""The live board of `facet run` in a real terminal, the same from another one, and what stands in its place elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.board.live import is_terminal
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy
from tests.pipeline.terminal import Terminal

pytestmark = pytest.mark.slow

FACET = [sys.executable, "-m", "pipeline.cli"]
OF_A_STAGE = re.compile(r"Task run|Beginning flow run|Finished in state")


@pytest.fixture
def project(tmp_path: Path, api_url: str) -> Dummy:
    project = dummy.make(tmp_path / "project", 2, {"train_backbone": 4.0}, api_url)
    project.tell_to("fail", "train_backbone@r1")
    return project


@pytest.fixture
def open_terminal(project: Dummy) -> Callable[..., Terminal]:
    def open_(*arguments: str, **extra: str) -> Terminal:
        return Terminal([*FACET, *arguments], project.path, project.environment(**extra))

    return open_


def test_a_terminal_shows_the_board_and_another_one_the_same(
    project: Dummy, open_terminal: Callable[..., Terminal]
) -> None:
    run = open_terminal("run", "--jobs", "2", "--no-track")
    project.wait_for("train_backbone@r0")
    watching = open_terminal("status", "--watch")
    plain = project.facet("status", "--watch").stdout
    assert (run.wait(), watching.wait()) == (1, 0)
    for shown in (run, watching):
        assert re.search(r"cpu:\d  train_backbone@r0 ", shown.text), shown.text
        assert OF_A_STAGE.search(shown.text) is None
        assert re.search(r"facet  all +.*7 of 7 stages, 1 failed, 2 skipped", shown.text)
        # the last picture
        last = shown.text[shown.text.rindex("facet  all ") :]
        assert re.search(r"\n  r0 +✓ +✓ *\n", last), last
        assert re.search(r"\n  r1 +✗ +– *\n", last), last
        assert shown.raw.endswith("\x1b[?25h") or "\x1b[?25h" in shown.raw, "the cursor is there again"
    assert "train_backbone@r1: error: train_backbone@r1 was told to fail (exited with 2)" in watching.text
    assert run.text.count("train_backbone@r1: error: train_backbone@r1 was told to fail (exited with 2); see ") == 1
    told = [line.partition(" | ")[2] for line in plain.splitlines()]
    assert "train_backbone@r0 begins on cpu:0" in told or "train_backbone@r0 begins on cpu:1" in told
    assert any(re.fullmatch(r"train_backbone@r0 executed in 0:0\d: train_backbone@r0 ends", line) for line in told)
    assert any(line.startswith("train_backbone@r1 failed after 0:0") for line in told)
    assert project.facet("status", "--watch").stdout == "nothing is running here: `facet run` runs what is stale\n"


def test_without_a_terminal_and_with_plain_there_are_lines(
    project: Dummy, open_terminal: Callable[..., Terminal]
) -> None:
    project.slow_down()
    shown = open_terminal("run", "resolve", "unpack", "--no-track", "--plain")
    assert shown.wait() == 0
    assert "\x1b[?25l" not in shown.raw
    project.write_params(project.params() | {"data": 2})
    # the variable makes rich take a pipe for a terminal
    piped = project.facet("run", "resolve", "unpack", "--no-track", FORCE_COLOR="1").stderr
    for text in (shown.text, piped):
        assert re.search(r"Flow run 'resolve, unpack' - unpack begins on cpu:0", text), text
        assert re.search(r"Flow run 'resolve, unpack' - unpack executed( in 0:0\d)?: unpack ends", text), text
        assert "Task run" not in text


def test_a_terminal_that_cannot_move_its_cursor_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setenv("TERM", "xterm")
        assert is_terminal(stream)
        monkeypatch.setenv("TERM", "dumb")
        assert not is_terminal(stream)
    os.close(ours)
