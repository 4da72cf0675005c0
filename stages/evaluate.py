"""Stage `evaluate`: evaluates a trained backbone on one suite of test sets.

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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages import recognition
from stages.config import evaluation
from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics import missing
from stages.core.metrics.features import Embed, Features, Image
from stages.core.metrics.quality import Scorer
from stages.core.metrics.suite_result import Measured, Score
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts, program, progress, set_pins

Switches = evaluation.Hq | evaluation.Ijb | evaluation.Lq | evaluation.Fiqa


def main(arguments: argparse.Namespace) -> None:
    """Read the suite's section, evaluate, write."""
    run, suite = arguments.run, arguments.suite
    path = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    section = artifacts.read_section(path, f"evaluate_{suite}", evaluation.SECTIONS[suite])
    if section.switches.sets:
        measured = measure_run(run, suite, section)
        shown = "  ".join(f"{key} {value:.4f}" for key, value in measured.metrics.items())
    else:
        reason = missing.no_set(suite, section.dataset)
        measured = measure(suite, Path(), section.switches, _nothing)
        measured.details["not_measured"] = reason
        shown = f"not measured: {reason}"
    model = artifacts.read_json(artifacts.backbone_folder(run) / "model.json")
    provenance = {"run": run, "dataset": section.dataset, "weights_sha256": model["weights_sha256"]}
    write(run, suite, measured, provenance)
    progress.say(shown)


def measure_run(run: str, suite: str, section: evaluation.Section[Any]) -> Measured:
    """Evaluate a run's backbone, and for ``fiqa`` its quality method, on the sets of its data set.

    Raises:
        FileNotFoundError: a set is missing; the message says where the sets are named.
        ValueError: files of a set are not those that were pinned, or changed meanwhile.
    """
    flip = evaluation.uses_flip(section.switches)
    scorers: dict[str, Scorer] = {}
    others: dict[str, Embed] = {}
    if isinstance(section.switches, evaluation.Fiqa):
        scorers = scoring_embedder.of_run(artifacts.quality_folder(run), section.switches.methods)
        others = {
            name: Embedder.load(recognition.backbone(name), flip=flip, keep=True)
            for name in section.switches.recognition
        }
    embedder = Embedder.load(artifacts.backbone_folder(run), flip=flip, keep=True)
    embed, scores = scoring_embedder.watched(embedder, scorers), scoring_embedder.scores_of(scorers)
    files = set_pins.recorded(run, f"evaluate_{suite}")
    folder = set_pins.checked(section.dataset, files)
    try:
        measured = measure(suite, folder, section.switches, embed, scores, others)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. If data set {section.dataset} has no such set, list those that it has: "
            f"datasets.{section.dataset}.benchmarks.{suite}.sets in params.yaml ([]: none)"
        ) from error
    if set_pins.recorded(run, f"evaluate_{suite}") != files:
        raise InputError(f"{folder}: files changed while they were measured; run it again")
    return measured


def _nothing(images: Iterable[Image]) -> Features:
    """Stand for the network where no set is evaluated."""
    raise AssertionError("a suite without sets has no image to embed")


def measure(
    suite: str,
    eval_folder: Path,
    switches: Switches,
    embed: Embed,
    scores: Mapping[str, Score] | None = None,
    others: Mapping[str, Embed] | None = None,
) -> Measured:
    """Evaluate any backbone on one suite.

    Args:
        suite: ``hq``, ``ijb``, ``lq`` or ``fiqa``: a file in stages/suites; only its own code is imported.
        eval_folder: holds the test sets.
        switches: the suite's.
        embed: aligned uint8 BGR images -> features.
        scores: quality methods by name, for ``fiqa``; the feature norm is always measured beside them.
        others: further networks by name, for ``fiqa``: their embeddings judge the scores as well.

    Raises:
        LookupError: no such suite.
        FileNotFoundError: a test set or one of its lists is missing.
        ValueError: the switches are another suite's; a file cannot be used; too many images fail; a metric is
            not finite.
    """
    if suite not in evaluation.SUITES:
        raise UnknownNameError(f"no suite {suite!r}: there are {', '.join(evaluation.SUITES)}")
    if not isinstance(switches, evaluation.SUITES[suite]):
        raise InputError(f"suite {suite} needs its own options, got {type(switches).__name__}")
    module = importlib.import_module(f"stages.suites.{suite}")
    given = (eval_folder, switches, embed, scores or {})
    measured: Measured = module.measure(*given, others) if others else module.measure(*given)
    odd = [key for key, value in measured.metrics.items() if not math.isfinite(value)]
    if odd:
        raise InputError(f"suite {suite}: {', '.join(odd)} are NaN or infinite")
    measured.details = {"suite": suite, **measured.details, "switches": switches.model_dump(mode="json")}
    return measured


def write(run: str, suite: str, measured: Measured, provenance: Mapping[str, Any]) -> None:
    """Write the outputs of a stage."""
    write_beside(artifacts.metrics_file(run, suite), artifacts.details_folder(run, suite), measured, provenance)


def write_beside(file: Path, folder: Path, measured: Measured, provenance: Mapping[str, Any]) -> None:
    """Write details and curves into a folder, then the metrics: if these exist, so do the rest."""
    with artifacts.write_folder(folder) as aside:
        fill(aside, measured, provenance)
    artifacts.write_json(file, {**measured.metrics, "weights_sha256": provenance["weights_sha256"]})


def fill(folder: Path, measured: Measured, provenance: Mapping[str, Any]) -> None:
    """Write details, curves and tables into a folder that is there."""
    artifacts.write_json(folder / "details.json", {**provenance, **measured.details})
    for name, table in measured.curves.items():
        artifacts.write_csv(folder / f"{name}.csv", table.header, table.rows)
    for name, columns in measured.tables.items():
        pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet", index=False)
    for name, document in measured.documents.items():
        artifacts.write_json(folder / f"{name}.json", document)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    commands = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__.splitlines()[0])
    commands.add_argument("run", help="run of params.yaml, for example arcface")
    commands.add_argument("suite", choices=list(evaluation.SUITES), help="suite of test sets")
    return commands


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
