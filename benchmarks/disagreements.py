"""Why rows of the papers' tables stand in another order than published: chance, or something else.

Each pair of rows in each column is put where it belongs. *Published close*: the gap of the published numbers is within
two standard errors of the test set they were measured on (binomial, the two as if drawn apart, so on the wide side).
*Measured close*: our gap is within two standard errors of training again: the deviation over seeds of that metric,
pooled over all runs of the workspace that have several. What is left stands clearly one way in both: as published, or
reversed; the reversed ones are what needs another explanation.

    python -m benchmarks.disagreements .facet/ablations/demo            # a table in Markdown, then the reversed pairs
    python -m benchmarks.disagreements .facet/ablations/demo --of qgface_ablation
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# trials behind a published number: pairs, genuine pairs of 1:1, probes; sizes as in reference protocols
TRIALS = {
    "hq.lfw": 6000, "hq.cfp_fp": 7000, "hq.cplfw": 6000, "hq.calfw": 6000, "hq.agedb_30": 6000,
    "averages.hq_avg": 31000, "ijb.ijbb_tar_at_far_1e-04": 10270, "ijb.ijbc_tar_at_far_1e-04": 19557,
    "lq.tinyface_rank1": 3728, "lq.tinyface_rank5": 3728, "lq.tinyface_rank20": 3728,
    "lq.scface_d1": 650, "lq.scface_d2": 650, "lq.scface_d3": 650,
}  # fmt: skip
WIDE = 2.0
KINDS = ("published close", "measured close", "as published", "reversed")


@dataclass(frozen=True)
class Pair:
    """Two rows in a column, the better published first; gaps in the column's unit, standard errors beside."""

    table: str
    column: str
    better: str
    worse: str
    published: float
    measured: float
    published_error: float
    measured_error: float

    @property
    def agrees(self) -> bool:
        """Whether we measured the same order."""
        return self.measured > 0

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        if self.published <= WIDE * self.published_error:
            return KINDS[0]
        if not abs(self.measured) > WIDE * self.measured_error:  # also where no metric has several seeds: nan
            return KINDS[1]
        return KINDS[2] if self.agrees else KINDS[3]


def deviations(workspace: Path) -> dict[str, float]:
    """Return the deviation over seeds of each metric, as a fraction, pooled over runs with two seeds or more."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in (workspace / "results").glob("*/*.json"):
        run = re.sub(r"_s\d+$", "", path.parent.name)
        for key, value in json.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(value, (int, float)):
                values[run, f"{path.stem}.{key}"].append(float(value))
    squares: dict[str, list[float]] = defaultdict(list)
    for (_, metric), each in values.items():
        if len(each) > 1:
            squares[metric].append(float(np.var(each, ddof=1)))
    return {metric: math.sqrt(float(np.mean(each))) for metric, each in squares.items()}


def pairs(workspace: Path) -> Iterator[Pair]:
    """Yield every pair of rows that a paper orders and we measured."""
    cells = pd.read_csv(workspace / "results/report/index.csv")
    cells = cells[cells.published.notna() & cells.measured.notna()]
    of_seeds = deviations(workspace)
    # averages are in no file of a run: their deviation is that of the cells with several seeds
    spread = cells[cells["std"].notna()].groupby("metric")["std"].apply(lambda each: math.sqrt((each**2).mean()))
    for (table, column), rows in cells.groupby(["table", "column"], sort=False):
        for one, other in itertools.combinations(rows.itertuples(), 2):
            if one.published == other.published:
                continue
            first = (one.published > other.published) == bool(one.higher_is_better)
            above, below = (one, other) if first else (other, one)
            sign, scale = (1 if one.higher_is_better else -1), (100.0 if one.unit == "percent" else 1.0)
            deviation = of_seeds[one.metric] * scale if one.metric in of_seeds else spread.get(one.metric, math.nan)
            yield Pair(
                str(table), str(column), above.label, below.label,
                sign * (above.published - below.published), sign * (above.measured - below.measured),
                _published_error(one.metric, above.published, below.published),
                deviation * math.sqrt(1 / above.seeds + 1 / below.seeds),
            )  # fmt: skip


def _published_error(metric: str, *percent: float) -> float:
    """Return the standard error of the gap of two published shares, in percent; 0 where trials are not known."""
    trials = TRIALS.get(metric)
    if trials is None:
        return 0.0
    return math.sqrt(sum(max(each * (100 - each), 0) for each in percent) / trials)


def main() -> None:
    """Print what was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("workspace", type=Path, help="a workspace of `facet ablations`, with its report")
    options.add_argument("--of", help="one table alone")
    arguments = options.parse_args()
    found = [pair for pair in pairs(arguments.workspace) if arguments.of in (None, pair.table)]
    heads = ("table", "pairs", "in published order", *KINDS[:2], *(f"clear: {kind}" for kind in KINDS[2:]))
    print("| " + " | ".join(heads) + " |\n|:--" + "|--:" * (len(heads) - 1) + "|")
    for table in [*dict.fromkeys(pair.table for pair in found), None]:
        these = [pair for pair in found if table in (None, pair.table)]
        counts = [sum(pair.kind == kind for pair in these) for kind in KINDS]
        agree = sum(pair.agrees for pair in these)
        print(f"| {table or 'all'} | {len(these)} | {agree} | " + " | ".join(map(str, counts)) + " |")
    print("\nClearly reversed:\n")
    for pair in sorted((pair for pair in found if pair.kind == KINDS[3]), key=lambda pair: pair.measured):
        errors = f"+- {pair.published_error:.2f}", f"+- {pair.measured_error:.2f}"
        said = f"published {pair.published:+.2f} {errors[0]}, measured {pair.measured:+.2f} {errors[1]}"
        print(f"- {pair.table}, {pair.column}: {pair.better} over {pair.worse}: {said}")


if __name__ == "__main__":
    main()
