"""Stage `evaluate`: measures a trained backbone on one suite of test sets.

    python -m stages.evaluate arcface hq

Writes results/RUN/SUITE.json (metrics as fractions, and which weights they belong to) and results/RUN/SUITE/ with
details.json (protocol and version, every switch, folds, thresholds, counts, failures), the curves as CSV and larger
tables as Parquet.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages import artifacts, benchmarks, plugins, program, progress
from stages.core.features import Embed
from stages.core.measured import Measured, Score
from stages.embedder import Embedder

Switches = benchmarks.Hq | benchmarks.Ijb | benchmarks.Lq | benchmarks.Fiqa


def main(arguments: argparse.Namespace) -> None:
    """Read the suite's section, measure, write."""
    run, suite = arguments.run, arguments.suite
    path = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    section = artifacts.read_section(path, f"evaluate_{suite}", benchmarks.SECTIONS[suite])
    scores = load_scores(artifacts.quality_folder(run)) if suite == "fiqa" else {}
    embedder = Embedder.load(artifacts.backbone_folder(run), flip=uses_flip(section.switches), keep=True)
    measured = measure(suite, artifacts.eval_folder(section.dataset), section.switches, embedder, scores)
    model = artifacts.read_json(artifacts.backbone_folder(run) / "model.json")
    provenance = {"run": run, "dataset": section.dataset, "weights_sha256": model["weights_sha256"]}
    write(run, suite, measured, provenance)
    progress.say("  ".join(f"{key} {value:.4f}" for key, value in measured.metrics.items()))


def measure(
    suite: str, eval_folder: Path, switches: Switches, embed: Embed, scores: Mapping[str, Score] | None = None
) -> Measured:
    """Measure any backbone on one suite.

    Args:
        suite: ``hq``, ``ijb``, ``lq`` or ``fiqa``: a file in stages/suites; only its own code is imported.
        eval_folder: holds the test sets.
        switches: the suite's.
        embed: aligned uint8 BGR images -> features.
        scores: quality methods by name, for ``fiqa``; the feature norm is always measured beside them.

    Raises:
        LookupError: no such suite.
        FileNotFoundError: a test set or one of its lists is missing.
        ValueError: the switches are another suite's; a file cannot be used; too many images fail; a metric is
            not finite.
    """
    if suite not in benchmarks.SUITES:
        raise LookupError(f"no suite {suite!r}: there are {', '.join(benchmarks.SUITES)}")
    if not isinstance(switches, benchmarks.SUITES[suite]):
        raise ValueError(f"suite {suite} wants switches of its own, got {type(switches).__name__}")
    module = importlib.import_module(f"stages.suites.{suite}")
    measured: Measured = module.measure(eval_folder, switches, embed, scores or {})
    odd = [key for key, value in measured.metrics.items() if not math.isfinite(value)]
    if odd:
        raise ValueError(f"suite {suite}: {', '.join(odd)} came out as NaN or infinite")
    measured.details = {"suite": suite, **measured.details, "switches": switches.model_dump(mode="json")}
    return measured


def uses_flip(switches: Switches) -> bool:
    """Return whether mirrored images are needed: embedding them takes as long as the images themselves."""
    if isinstance(switches, benchmarks.Lq):
        return switches.fusion != "none" or ("ijbs" in switches.sets and switches.ijbs_fusion != "none")
    return switches.fusion != "none"


def load_scores(folder: Path) -> dict[str, Score]:
    """Return the run's quality method by its name."""
    name = str(artifacts.read_json(folder / "quality.json")["name"])
    return {name: plugins.load("quality", name).Scorer.load(folder).score}


def write(run: str, suite: str, measured: Measured, provenance: Mapping[str, Any]) -> None:
    """Write details and curves, then the metrics: whoever finds these finds the rest."""
    with artifacts.write_folder(artifacts.details_folder(run, suite)) as folder:
        artifacts.write_json(folder / "details.json", {**provenance, **measured.details})
        for name, table in measured.curves.items():
            artifacts.write_csv(folder / f"{name}.csv", table.header, table.rows)
        for name, columns in measured.tables.items():
            pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet", index=False)
    metrics = {**measured.metrics, "weights_sha256": provenance["weights_sha256"]}
    artifacts.write_json(artifacts.metrics_file(run, suite), metrics)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    commands = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__.splitlines()[0])
    commands.add_argument("run", help="a run of params.yaml, e.g. arcface")
    commands.add_argument("suite", choices=list(benchmarks.SUITES), help="test sets to measure on")
    return commands


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
