"""`facet verify`: evaluates a model on the available test sets and compares the results with its published row.

facet verify adaface_r50 --dataset mine
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages import evaluate
from stages.core.errors import InputError
from stages.core.metrics.suite_result import Measured
from stages.embedding.embedder import Embedder
from stages.models import lookup, model_files, zoo
from stages.models.lookup import ModelHere
from stages.models.zoo import Published
from stages.runtime import artifacts, places, program
from stages.tools import _verification
from stages.tools._verification import Compared
from stages.tools.models import as_text

EXAMPLES = """\
The published row is that of the model's entry in models.yaml. Exit code 1: a number on a real
test set differs from the published one by more than the tolerance in models.yaml. A set of another size (the
demo's synthetic sets have the same names) is evaluated but not judged.

examples:
  facet verify adaface_r50 --dataset mine
  facet verify adaface_r50 --folder /data/faces_emore --suites hq
  facet verify adaface --dataset demo --published adaface_ir101_ms1mv2"""


def main(arguments: argparse.Namespace) -> None:
    """Evaluate, print both side by side, keep the results of an imported model."""
    listed = zoo.load()
    here = lookup.find(arguments.model)
    model = model_files.read_model(here.backbone)
    entry = arguments.published or (model.source.published if model.source else None)
    if entry is not None:
        listed.entry(entry)
    folder = arguments.folder or places.eval_folder(arguments.dataset)
    wanted = chosen(folder, arguments.suites, listed, entry, every=arguments.every_set)
    embedder = Embedder.load(here.backbone, flip=model.fusion != "none")
    measured = _verification.measure(folder, wanted, embedder, model.fusion)
    compared = _verification.compare(listed, entry, measured)
    if here.backbone != artifacts.backbone_folder(here.name):  # results of runs are DVC's
        keep(here, measured, {"run": here.name, "dataset": str(folder), "weights_sha256": model.weights_sha256})
    if arguments.json:
        print(json.dumps([vars(one) | {"verdict": one.verdict} for one in compared], indent=2))
    else:
        print(report(compared, listed, entry))
    if any(one.verdict == "OUTSIDE" for one in compared):
        raise SystemExit(1)


def chosen(
    folder: Path, suites: Sequence[str], listed: Published, entry: str | None, *, every: bool
) -> dict[str, tuple[str, ...]]:
    """Return the sets to evaluate: those available with a published number, or all that are available.

    Raises:
        FileNotFoundError: there is none.
    """
    found = {suite: sets for suite, sets in _verification.present(folder).items() if suite in suites}
    if entry is not None and not every:
        keys = listed.entry(entry).scores
        if not keys:
            raise InputError(f"{entry} has no published score: give --every-set to evaluate it anyway")
        found = {
            suite: tuple(name for name in sets if any(key.startswith(f"{suite}.{name.lower()}") for key in keys))
            for suite, sets in found.items()
        }
    wanted = {suite: sets for suite, sets in found.items() if sets}
    if not wanted:
        raise FileNotFoundError(
            f"{folder} has no test set: put NAME.bin (lfw, ...), ijb/IJBB, ijb/IJBC or tinyface there; "
            "`facet doctor` says what is missing"
        )
    return wanted


def keep(here: ModelHere, measured: Mapping[str, Measured], provenance: Mapping[str, str]) -> None:
    """Write details, curves and metrics like the stage `evaluate`, beside the model."""
    for suite, one in measured.items():
        evaluate.write_beside(here.results / f"{suite}.json", here.results / suite, one, provenance)


def report(compared: Sequence[Compared], listed: Published, entry: str | None) -> str:
    """Return the table and its reference."""
    table = [["metric, %", "measured", "published", "difference", "tolerance", "verdict"]]
    for one in compared:
        numbers = [_shown(one.measured), _shown(one.published), _shown(one.difference, sign="+")]
        table.append([one.metric, *numbers, f"{one.tolerance:.2f}", one.verdict])
    text = as_text(table, left=(0, 5))
    if entry is None:
        return f"{text}\n\nno published row: give --published ENTRY"
    model = listed.entry(entry)
    return f"{text}\n\npublished: {entry}, {listed.sources[model.source].document}"


def _shown(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet verify",
        description="Evaluate a model on the available test sets and compare the results with its published row.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("model", help="a run of params.yaml, a name under models/, or a folder")
    where = options.add_mutually_exclusive_group(required=True)
    where.add_argument("--dataset", help="data set of params.yaml: uses its test sets")
    where.add_argument("--folder", type=Path, help="a folder with NAME.bin, ijb/IJBB, tinyface, ...")
    options.add_argument("--suites", nargs="+", choices=_verification.SUITES, default=list(_verification.SUITES))
    options.add_argument("--published", metavar="ENTRY", help="entry of models.yaml to compare with")
    options.add_argument("--every-set", action="store_true", help="also evaluate sets without a published number")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
