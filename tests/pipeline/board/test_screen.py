"""The board as a picture, at the sizes of terminals."""

from __future__ import annotations

import time

import pytest

from pipeline.board import wording
from pipeline.board.snapshot import Snapshot, StageNow
from pipeline.execution.history import FlowRun, this_flow_run
from tests.pipeline.board.drawn import NOW, SENTENCE, draw, snapshot, stages_of

RUNNING = stages_of("arcface", "rwwwww")
DONE = stages_of("cosface", "dddddd")
FAILED = stages_of("adaface", "fsssss")


def test_a_running_stage_shows_bar_rate_loss_time_left_and_device() -> None:
    (line,) = (line for line in draw(snapshot(*RUNNING)) if line.startswith("cpu:0"))
    name, bar, *rest = line.removeprefix("cpu:0").split()
    assert name == "train_backbone@arcface"
    assert bar == "━" * 7
    # it said so two seconds ago
    assert " ".join(rest) == "57% 1043/s loss 3.214 0:10 left"


def test_a_stage_that_prints_no_progress_shows_what_part_of_its_usual_time_has_passed() -> None:
    (line,) = (line for line in draw(snapshot(*stages_of("arcface", "ddrwww"))) if line.startswith("cpu:0"))
    assert line.split()[1] == "evaluate_hq@arcface"
    assert line.split()[-3:] == ["~50%", "0:20", "left"]


def test_stages_stand_by_table_and_run() -> None:
    lines = draw(snapshot(*RUNNING, *DONE, *FAILED))
    table = lines.index(next(line for line in lines if line.startswith("heads  ")))
    assert lines[table].split() == ["heads", "backbone", "quality", "hq", "ijb", "lq", "fiqa"]
    assert [line.split() for line in lines[table + 1 : table + 5]] == [
        ["arcface", "57%", *"·····"],
        ["cosface", *"✓✓✓✓✓✓"],
        ["adaface", "✗", *"–––––"],
        ["row", "0/3", "·", "tabulate@heads", "·"],
    ]
    assert "data  resolve ✓   unpack@demo ✓" in lines


def test_the_whole_says_how_many_are_done_and_how_long_the_rest_takes() -> None:
    title, bar, *_ = draw(snapshot(*RUNNING, *DONE))
    assert title.startswith("facet  heads ")
    assert title.endswith("8 of 19 stages, 1 running")
    assert bar.endswith("  1:10  about 1:20 left")
    assert draw(snapshot(*RUNNING, left_is="more than"))[1].endswith("  more than 1:20 left")
    assert draw(snapshot(*RUNNING, left_s=None))[1].endswith("%  1:10")


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_failure_is_told_in_its_whole_sentence_within_the_width(width: int) -> None:
    lines = draw(snapshot(*RUNNING, *FAILED), width)
    assert max(map(len, lines)) <= width
    assert f"train_backbone@adaface: {SENTENCE}" in " ".join(line.strip() for line in lines)
    assert lines[-2:] == ["logs    .facet/logs", "Prefect http://127.0.0.1:4200/runs/flow-run/2f1e"]


@pytest.mark.parametrize("height", [14, 24, 50])
def test_a_hundred_runs_fit_a_terminal_and_those_that_work_are_seen(height: int) -> None:
    runs = [*(stages_of(f"done{i}", "dddddd") for i in range(40)), RUNNING, FAILED, *(stages_of(f"later{i}", "wwwwww") for i in range(60))]
    begun_s = time.process_time()
    lines = draw(snapshot(*(stage for run in runs for stage in run)), height=height)
    assert time.process_time() - begun_s < 0.5
    assert len(lines) < height
    assert any(line.startswith("cpu:0") for line in lines)
    if height >= 24:
        shown = {line.split()[0] for line in lines if line.startswith("  ")}
        assert {"arcface", "adaface"} <= shown
        later = sum(name.startswith("later") for name in shown)
        assert f"  40 runs are done, {60 - later} more wait" in lines


def test_without_colours_there_is_no_colour_and_without_such_signs_there_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    one = snapshot(*RUNNING, *DONE, *FAILED)
    assert any("\x1b[32m" in line or "\x1b[36m" in line for line in draw(one, colours=True))
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {code.split("m")[0] for line in draw(one, colours=True) for code in line.split("\x1b[")[1:]}
    assert codes <= {"0", "1", "2"}, "bold and dim alone"
    text = "\n".join(draw(one, encoding="ascii"))
    assert text.isascii()
    assert ["cosface", *"++++++"] in [line.split() for line in text.splitlines()]


def test_a_run_whose_process_died_says_so() -> None:
    dead = FlowRun("2f1e", pid=2**22 + 1, born=0.0)
    assert draw(snapshot(*RUNNING, flow_run=dead))[0].startswith("facet  heads  its process has died ")
    ended = FlowRun("2f1e", pid=1, born=0.0, state="COMPLETED")
    assert draw(snapshot(*DONE, flow_run=ended))[0].startswith("facet  heads  completed ")
    assert draw(snapshot(*RUNNING, stopping="stopped by Ctrl-C"))[0].startswith("facet  heads  stopped by Ctrl-C ")


def test_a_first_stage_that_took_long_is_not_half_of_a_run_of_which_nothing_else_is_known() -> None:
    done = StageNow("resolve", "data", state="executed", seconds=20.0)
    waiting = [StageNow(f"train_backbone@r{i}", "heads", f"r{i}") for i in range(19)]
    assert wording.share_done(Snapshot("all", this_flow_run("1"), NOW, (done, *waiting)), NOW) == pytest.approx(5.0)
