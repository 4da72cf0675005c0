"""What the evaluation costs against the published scripts, which it reads from their checkouts: same numbers out.

    OMP_NUM_THREADS=1 python benchmarks/bench_protocols.py --adaface DIR --cr-fiqa DIR [--quick] [--only WORD]

Both sides run by turns in one process on the same synthetic data of the sets' true sizes (IJB-C: 469,375 images,
23,124 templates, 15,658,489 pairs; TinyFace: 3,728 x 157,871). The ratio is the median over rounds of CPU seconds
of one thread (wall beside it); memory is the peak above what was there before, of the first round. Drawing is left
out of the published side. ``--quick`` shrinks everything; only true sizes say anything.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from protocol_cases import CASES, Case, Way
from published_protocols import Checkouts


class Peak:
    """Peak memory above what was there when it was made, in MiB; Linux counts it."""

    def __init__(self) -> None:
        self.before = self._read("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")

    def above(self) -> float:
        """Return the peak since then."""
        return (self._read("VmHWM") - self.before) / 1024

    @staticmethod
    def _read(key: str) -> float:
        return float(re.findall(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def timed(way: Way) -> tuple[Any, float, float, float]:
    peak, wall, cpu = Peak(), time.perf_counter(), time.process_time()
    result = way()
    return result, time.process_time() - cpu, time.perf_counter() - wall, peak.above()


def run(case: Case, rounds: int | None) -> str:
    sides: dict[str, list[tuple[float, float, float]]] = {"theirs": [], "ours": []}
    for _ in range(rounds or case.rounds):
        results = {}
        for side, way in (("theirs", case.theirs), ("ours", case.ours)):
            results[side], *spent = timed(way)
            sides[side].append((spent[0], spent[1], spent[2]))
        if not case.same(results["theirs"], results["ours"]):
            raise SystemExit(f"{case.name}: results differ: {results['theirs']} and {results['ours']}")
    lines = [_line(case.name, [[cpu for cpu, _, _ in sides[side]] for side in sides], sides, case.scale_theirs)]
    for name, by_side in case.steps.items():
        lines.append(_line(f"&nbsp;&nbsp;{name}", [by_side["theirs"], by_side["ours"]], None, 1))
    return "\n".join(lines)


def _line(name: str, cpu: list[list[float]], sides: Any, factor: float) -> str:
    theirs, ours = ([seconds * factor for seconds in cpu[0]], cpu[1])
    ratio = statistics.median(left / right for left, right in zip(theirs, ours, strict=True))
    cells = [f"{statistics.median(theirs):.3g}", f"{statistics.median(ours):.3g}", f"**{ratio:.1f}x**"]
    if sides is None:
        return f"| {name} | {' | '.join(cells)} | | | {len(ours)} |"
    walls = [statistics.median(wall for _, wall, _ in sides[side]) for side in ("theirs", "ours")]
    peaks = [sides[side][0][2] for side in ("theirs", "ours")]
    return (
        f"| {name} | {' | '.join(cells)} | {walls[0] * factor / walls[1]:.1f}x | "
        f"{peaks[0]:,.0f} -> {peaks[1]:,.0f} | {len(ours)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adaface", type=Path, required=True, help="checkout of mk-minchul/AdaFace at c60eaa78")
    parser.add_argument("--cr-fiqa", type=Path, required=True, help="checkout of fdbtrs/CR-FIQA at a8f98da6")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the pairs")
    parser.add_argument("--only", default="", help="cases whose function has this in its name")
    parser.add_argument("--rounds", type=int, help="of each case instead of its own number")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("error: set OMP_NUM_THREADS=1: CPU seconds of several threads cannot be compared")
    found, scale = Checkouts(arguments.adaface, arguments.cr_fiqa), 0.01 if arguments.quick else 1.0
    print(f"load average {os.getloadavg()[0]:.1f} at the start, scale {scale:g}\n")
    print("| what | published, CPU s | facet, CPU s | CPU | wall | extra MiB | rounds |\n|---|---|---|---|---|---|---|")
    notes = []
    for make in CASES:
        if arguments.only in make.__name__:
            case = make(found, np.random.default_rng(0), scale)
            print(run(case, arguments.rounds), flush=True)
            notes += [f"{case.name}: {case.note}"] if case.note else []
    print("", *notes, f"load average {os.getloadavg()[0]:.1f} at the end", sep="\n")


if __name__ == "__main__":
    main()
