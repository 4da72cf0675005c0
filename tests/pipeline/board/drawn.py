"""Snapshots for tests of the board, and what is drawn of them."""

from __future__ import annotations

import io

from rich.console import Console

from pipeline.board.screen import Board
from pipeline.board.snapshot import Snapshot, StageNow
from pipeline.execution.history import FlowRun, this_flow_run

NOW = 1_700_000_000.0
KINDS = ("train_backbone", "train_quality", "evaluate_hq", "evaluate_ijb", "evaluate_lq", "evaluate_fiqa")
SENTENCE = "error: data/demo/train/train.rec is missing: it is written by the stage `synthesize`; run `dvc repro` (exited with 2)"


def stages_of(run: str, states: str) -> list[StageNow]:
    """Return the stages of a run: one letter of ``states`` for each, `d` done, `r` running, `f` failed, `s` skipped, `w` waiting."""
    names = {"d": "executed", "r": "running", "f": "failed", "s": "skipped", "w": "waiting"}
    return [
        StageNow(
            f"{kind}@{run}", "heads", run, names[letter], expected_s=40.0, began=NOW - 20 if letter == "r" else 0.0,
            device="cpu:0", line=f"train {run}  57%  2200/6000 images  1043/s  12 s left  loss 3.214" if kind == KINDS[0] else "",
            heard=NOW - 2, message=SENTENCE if letter == "f" else "",
        )
        for kind, letter in zip(KINDS, states, strict=True)
    ]


def snapshot(*stages: StageNow, flow_run: FlowRun | None = None, began: float = NOW - 70, **changed: object) -> Snapshot:
    """Return a run of these stages, after two that made its data, before its table."""
    data = [StageNow("resolve", "data", state="executed"), StageNow("unpack@demo", "data", state="executed")]
    after = [*(StageNow(f"row@heads-{i}", "heads") for i in "abc"), StageNow("tabulate@heads", "heads"), StageNow("track", "results")]
    values = {"left_s": 80.0, "url": "http://127.0.0.1:4200/runs/flow-run/2f1e", "logs": ".facet/logs", "at": NOW, **changed}
    return Snapshot("heads", flow_run or this_flow_run("2f1e"), began, (*data, *stages, *after), **values)  # type: ignore[arg-type]


def draw(one: Snapshot, width: int = 80, height: int = 30, colours: bool = False, encoding: str = "utf-8") -> list[str]:
    """Return the lines of the board in a terminal of this size."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=out, width=width, height=height, force_terminal=colours, color_system="truecolor" if colours else None).print(
        Board(one, NOW)
    )
    out.seek(0)
    return out.read().splitlines()


