"""Stage `row`: gathers one run's results for one row of a table, with reasons for missing ones and provenance.

`tabulate` and the tracker read this file alone, so that a table depends on its own rows and nothing else.

Run as `python -m stages.row heads-adaface adaface`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.protocols import averages
from stages.runtime import artifacts, program, yaml_text

SUITES = ("quality", "hq", "ijb", "lq", "fiqa")
CURVES = {"hq": ("roc",), "ijb": ("roc", "cmc"), "lq": ("cmc", "roc"), "fiqa": ("edc",)}


def main(arguments: argparse.Namespace) -> None:
    """Write results/tables/TABLE/rows/TABLE-ROW[-N].json."""
    run = arguments.run
    suites = ("train", *arguments.suites)
    measured = {suite: read_metrics(artifacts.metrics_file(run, suite)) for suite in suites}
    means, missing = averages.averages(measured)
    curves = {suite: stems for suite, stems in CURVES.items() if suite in suites}
    details = {suite: read_details(artifacts.details_folder(run, suite) / "details.json") for suite in curves}
    unmeasured = {suite: dict(_reasons({**tree.get("sets", {}), **_average(tree)})) for suite, tree in details.items()}
    tree = {
        "run": run,
        "weights_sha256": common_weights(run, measured),
        "parameters": read_parameters(run),
        "measured_on": next((tree["dataset"] for tree in details.values() if "dataset" in tree), ""),
        "switches": {suite: switches(tree) for suite, tree in details.items()},
        "measured": {**measured, "averages": means},
        "groups": {
            name: tree["groups"] for name, tree in details.get("hq", {}).get("sets", {}).items() if "groups" in tree
        },
        "counts": {suite: counts(tree) for suite, tree in details.items()},
        "unmeasured": {**unmeasured, "averages": missing},
        "curves": {
            suite: {stem: read_curve(artifacts.details_folder(run, suite) / f"{stem}.csv") for stem in stems}
            for suite, stems in curves.items()
        },
    }
    table = arguments.row.partition("-")[0]
    with artifacts.write_file(artifacts.row_file(table, arguments.row)) as aside:
        aside.write_text(as_json(tree), encoding="utf-8")


def read_metrics(path: Path) -> dict[str, Any]:
    """Return a flat metrics file; every number in it is finite."""
    _must_be_there(path)
    metrics = artifacts.read_json(path)
    for key, value in metrics.items():
        if isinstance(value, (dict, list)):
            raise InputError(f"{path}: metrics must be flat, but {key} is a {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{path}: {key} is {value}; write null for a metric that cannot be measured")
    return metrics


def read_details(path: Path) -> dict[str, Any]:
    """Return a suite's details: versions, options, counts, and why metrics are missing."""
    _must_be_there(path)
    return artifacts.read_json(path)


def switches(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measurement settings of a suite: the version of each protocol, and every option.

    >>> switches({"protocol": {"ijbs": "1"}, "switches": {"use_norm": True}, "sets": {}})
    {'protocol.ijbs': '1', 'use_norm': True}
    """
    versions = {f"protocol.{name}": version for name, version in details.get("protocol", {}).items()}
    return versions | dict(flatten(details.get("switches", {})))


def counts(details: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the whole numbers that a suite's details give of each set.

    >>> counts({"sets": {"lfw": {"pairs": 40, "accuracy": 0.9, "exact_threshold": {}}}})
    {'lfw': {'pairs': 40}}
    """
    return {
        name: {key: value for key, value in tree.items() if isinstance(value, int) and not isinstance(value, bool)}
        for name, tree in details.get("sets", {}).items()
    }


def _average(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a suite's details say of its average."""
    return {"avg": details["avg"]} if "avg" in details else {}


def _reasons(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield each ``reason`` with its path of keys, as ``IJBB.tar_at_far.1e-04``; ``methods`` only groups."""
    if isinstance(tree.get("reason"), str):
        yield ".".join(above), tree["reason"]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _reasons(value, above if key == "methods" else (*above, key))


def common_weights(run: str, measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the backbone, which must be the same in all suites.

    Raises:
        ValueError: they measured different ones, or none says which.
    """
    by_suite = {
        suite: str(metrics["weights_sha256"])
        for suite, metrics in measured.items()
        if metrics.get("weights_sha256")
    }
    if len(set(by_suite.values())) != 1:
        found = ", ".join(f"{suite} {digest[:12]}" for suite, digest in by_suite.items()) or "none"
        raise InputError(
            f"results/{run}: all suites should have the same weights_sha256, found {found}; run `dvc repro`"
        )
    return next(iter(by_suite.values()))


def read_parameters(run: str) -> dict[str, Any]:
    """Return the section `train` of the resolved run, flattened."""
    path = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    _must_be_there(path)
    return dict(flatten(yaml_text.read(path)["train"]))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield leaves with dotted names; lists are leaves.

    >>> dict(flatten({"head": {"name": "arcface", "margin": 0.5}, "seed": 1}))
    {'head.name': 'arcface', 'head.margin': 0.5, 'seed': 1}
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a curve's CSV file; numbers as numbers, an empty field as None.

    Raises:
        ValueError: a number is not finite, with file and line.
    """
    _must_be_there(path)
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            {key: _value(text, f"{path}, line {number}, {key}") for key, text in line.items()}
            for number, line in enumerate(csv.DictReader(stream), start=2)
        ]


def _value(text: str | None, where: str) -> float | int | str | None:
    if not text:
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            raise InputError(f"{where}: {text} cannot be plotted; leave the field empty")
        return value
    return text


def as_json(tree: Mapping[str, Any]) -> str:
    """Return JSON that gives readable diffs, with each point of a curve on one line instead of five."""
    head = json.dumps({**tree, "curves": None}, indent=2, allow_nan=False, ensure_ascii=False)
    suites = []
    for suite, curves in tree["curves"].items():
        stems = []
        for stem, points in curves.items():
            lines = ",\n".join(f"        {json.dumps(point, allow_nan=False)}" for point in points)
            stems.append(f"      {json.dumps(stem)}: [\n{lines}\n      ]")
        suites.append(f"    {json.dumps(suite)}: {{\n" + ",\n".join(stems) + "\n    }")
    return head.removesuffix("null\n}") + "{\n" + ",\n".join(suites) + "\n  }\n}\n"


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: an earlier stage writes it; run `dvc repro`")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("row", help="TABLE-ROW or TABLE-ROW-N, as under `rows` in params.yaml")
    options.add_argument("run", help="run of this row")
    options.add_argument(
        "--suites", type=_suites, default=SUITES, metavar=",".join(SUITES), help="what to gather; default: all"
    )
    return options


def _suites(text: str) -> tuple[str, ...]:
    suites = tuple(suite for suite in text.split(",") if suite)
    if unknown := [suite for suite in suites if suite not in SUITES]:
        raise argparse.ArgumentTypeError(f"no suite {', '.join(unknown)}: there are {', '.join(SUITES)}")
    return suites


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
