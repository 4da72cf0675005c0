"""How the cost of the evaluation grows with images and pairs: three sizes, the last one a set's true size.

    OMP_NUM_THREADS=1 python benchmarks/bench_protocols_growth.py [--quick] [--rounds 3]

CPU seconds of one thread, the least over rounds; beside them the same per million. Linear means: the last column
of a row's three sizes stays as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from protocol_cases import FARS, FMRS, make_ijb, unit

from stages.core.metrics import pooling, rates
from stages.core.metrics.discard_curves import erc_curve
from stages.protocols import identification, ijb_1to1

SCALES = (0.25, 0.5, 1.0)


def cpu_s(way: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds of a few rounds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        way()
        spent.append(time.process_time() - start)
    return min(spent)


def ijb(scale: float, rounds: int) -> Iterator[tuple[str, int, float]]:
    """Templates by images, scores and rates by pairs."""
    data = make_ijb(np.random.default_rng(0), scale, in_order=True)
    images = (data.feature_ND, data.template_N, data.media_N)
    yield "IJB-C templates", len(data.feature_ND), cpu_s(lambda: pooling.pool_templates(*images), rounds)
    templates = ijb_1to1.Templates(*pooling.pool_templates(*images))
    order = np.random.default_rng(1).permutation(data.first_P.size)
    mixed = (data.first_P[order], data.second_P[order])
    yield (
        "IJB-C pairs, sorted", data.first_P.size,
        cpu_s(lambda: ijb_1to1.compare(templates, data.first_P, data.second_P), rounds),
    )  # fmt: skip
    yield "IJB-C pairs, unsorted", data.first_P.size, cpu_s(lambda: ijb_1to1.compare(templates, *mixed), rounds)
    compared, is_same_P = ijb_1to1.compare(templates, data.first_P, data.second_P), data.label_P == 1
    yield (
        "IJB-C rates", data.first_P.size,
        cpu_s(lambda: rates.read_rates(*compared.sides(is_same_P), FARS), rounds),
    )  # fmt: skip


def tinyface(scale: float, rounds: int) -> Iterator[tuple[str, int, float]]:
    """Probes against a gallery of true size, a quarter of the probes at most."""
    rng, num_probe = np.random.default_rng(0), int(932 * scale)
    gallery_GD = unit(rng.standard_normal((157_871, 512), dtype=np.float32))
    subject_G = np.where(np.arange(157_871) < 4443, np.arange(157_871) % 2221, identification.NOBODY)
    subject_P = rng.integers(0, 2221, num_probe)
    probe_PD = unit(gallery_GD[subject_P] + rng.standard_normal((num_probe, 512), dtype=np.float32) * np.float32(0.2))
    yield (
        "TinyFace cells", num_probe * 157_871,
        cpu_s(lambda: identification.closed_set(probe_PD, subject_P, gallery_GD, subject_G), 1),
    )  # fmt: skip


def discard(scale: float, rounds: int) -> Iterator[tuple[str, int, float]]:
    """CR-FIQA's curve of scores that are given."""
    rng, num_pairs = np.random.default_rng(0), int(15_658_489 * scale)
    is_same_P = rng.random(num_pairs) < 0.00125
    score_P, quality_P = rng.normal(0, 0.12, num_pairs) + 0.45 * is_same_P, rng.random(num_pairs)
    yield "CR-FIQA curve", num_pairs, cpu_s(lambda: erc_curve(score_P, is_same_P, quality_P, FMRS), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth of every size")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("error: set OMP_NUM_THREADS=1: CPU seconds of several threads cannot be compared")
    print(f"load average {os.getloadavg()[0]:.1f}\n\n| what | size | CPU s | CPU s per million |\n|---|---|---|---|")
    for measure in (ijb, tinyface, discard):
        found = [
            row for scale in SCALES for row in measure(scale / (50 if arguments.quick else 1), arguments.rounds)
        ]
        for name in dict.fromkeys(name for name, _, _ in found):
            for _, size, seconds in (row for row in found if row[0] == name):
                print(f"| {name} | {size:,} | {seconds:.3g} | {1e6 * seconds / size:.3g} |", flush=True)


if __name__ == "__main__":
    main()
