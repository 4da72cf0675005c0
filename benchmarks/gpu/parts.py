"""Runs one part in a process of its own: nothing of one part is left for the next."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.gpu import machine
from benchmarks.gpu.bench import DRY, FULL, Bench, explain, rows
from benchmarks.gpu.results import MACHINE, Results, Row
from stages.runtime import program
from stages.training.cost import Card

END_S = 5.0
"""Seconds that a measurement may go on after its part's time is up."""
NEW = multiprocessing.get_context("spawn")
"""CUDA does not work in a fork of a process that has asked for GPUs, as some import may: each process begins anew."""
FORKED = multiprocessing.get_context("forkserver")
"""For dry runs, in which starting would take longer than measuring."""
FORKED.set_forkserver_preload(["benchmarks.gpu.bench", "torch._dynamo"])


def measure(part: str, results: Results, limit_s: float, until_s: float, *, dry: bool) -> None:
    """Run one part in a process of its own, and keep what it sends until it ends or its time is up.

    Args:
        part: its name.
        results: where its rows go; those of part `machine` give the roofline's card.
        limit_s: seconds that it may take once its process has started.
        until_s: by ``time.monotonic``, when nothing more may begin.
        dry: measure tiny sizes.
    """
    if time.monotonic() > until_s:
        results.add(Row(part=part, what="all", verdict="not run: no time left"))
        return
    context = FORKED if dry else NEW
    receiver, sender = context.Pipe(duplex=False)
    card = machine.card(results.numbers(MACHINE))
    process = context.Process(target=work, args=(part, results.folder, card, limit_s, until_s, dry, sender), name=part)
    process.start()
    sender.close()
    begin, late = time.monotonic(), False
    try:
        while not late:
            # the part names itself what it has no time for, unless a measurement takes much longer than there was
            late = not receiver.poll(max(0.0, until_s - time.monotonic()) + END_S)
            row = None if late else receiver.recv()
            if row is not None:
                results.add(row)
            elif not late:
                begin = time.monotonic()
                until_s = min(until_s, begin + limit_s)
    except EOFError:
        process.join(END_S)
    finally:
        end(process)
    if late or process.exitcode:
        why = f"stopped after {time.monotonic() - begin:.0f} s"
        if not late:
            why = f"failed: its process ended with {process.exitcode}"
        results.add(Row(part=part, what="the rest", verdict=why))


def end(process: BaseProcess) -> None:
    """End a process that still runs."""
    for stop in (process.terminate, process.kill):
        if process.is_alive():
            stop()
            process.join(END_S)


def work(
    part: str, folder: Path, card: Card, limit_s: float, until_s: float, dry: bool, sender: Connection
) -> None:
    """Measure one part; send None when it begins, and each row."""
    program.die_with_parent()
    sender.send(None)
    until_s = min(until_s, time.monotonic() + limit_s)
    bench = Bench(DRY if dry else FULL, folder.resolve(), card)
    try:
        module = importlib.import_module(f"benchmarks.gpu.{part}")
        for row in rows(part, module.items(bench), until_s):
            sender.send(row)
    except Exception as error:  # such as a device that cannot be used: the other parts tell, too
        sender.send(Row(part=part, what="all", verdict=f"failed: {explain(error)}"))
