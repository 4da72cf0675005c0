"""`facet judge`: error versus discard of any quality scores in a file, judged by any recognition models.

facet judge scores.txt --set XQLFW --recognition adaface --dataset mine
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import evaluate
from stages.config.evaluation import Fiqa, uses_flip
from stages.core.errors import InputError, UnknownNameError
from stages.core.metrics.suite_result import Measured
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.io import score_files
from stages.models import lookup
from stages.models.lookup import ModelHere
from stages.quality.scores_file import Scorer
from stages.quality_pages import reading
from stages.runtime import artifacts, places, program, progress
from stages.suites import _pairs
from stages.suites._quality_pairs import TEMPLATES
from stages.tools import quality_pages
from stages.tools.models import as_text

EXAMPLES = """\
A FILE holds image names and scores, higher is better: lines "PATH SCORE" (CR-FIQA), OFIQ's CSV, the pickles of eDifFIQA
and FROQ, dasec's JSON, CSV or Parquet with a column image. Names are matched by the ends of their paths.

examples:
  facet judge quality-scores.pkl --set xqlfw --recognition adaface --dataset mine
  facet judge ofiq.csv crfiqa.txt --set lfw --set IJBC --recognition adaface arcface --folder /data/eval --fmr 1e-3
  facet judge scores.parquet --column cr_fiqa --set lfw --recognition adaface --dataset demo --method sharpness"""


def main(arguments: argparse.Namespace) -> None:
    """Read the files, judge them by each model, write curves and pages, print the areas."""
    folder = arguments.folder or places.eval_folder(arguments.dataset)
    named = [spelled(folder, name) for name in arguments.set]
    files = labelled(arguments.files, arguments.label)
    scorers = {
        label: Scorer(score_files.read(path, arguments.column), arguments.max_missing) for label, path in files.items()
    }
    switches = Fiqa.model_validate(
        {"sets": named, "fmr": arguments.fmr, "fusion": arguments.fusion, "methods": arguments.method or ()}
    )
    judged: dict[str, Measured] = {}
    for name in arguments.recognition:
        model = lookup.find(name)
        judged[model.name] = judge(model, folder, switches, scorers)
        judged[model.name].details["files"] = {label: described(scorer) for label, scorer in scorers.items()}
        keep(arguments.out / model.name, model, folder, judged[model.name])
    if arguments.json:
        print(json.dumps({name: one.details["sets"] for name, one in judged.items()}, indent=2))
        return
    print(report(judged, list(files)))
    for label, scorer in scorers.items():
        print(f"{label}: {described(scorer)}")
    for line in names_said(next(iter(judged.values())), list(files)):
        print(line)


def judge(model: ModelHere, folder: Path, switches: Fiqa, files: Mapping[str, Scorer]) -> Measured:
    """Return the suite `fiqa` of the files' scores, of the model's feature norm and of further methods."""
    scorers = {**scoring_embedder.untrained(switches.methods), **files}
    embedder = Embedder.load(model.backbone, flip=uses_flip(switches), keep=True)
    embed, scores = scoring_embedder.watched(embedder, scorers), scoring_embedder.scores_of(scorers)
    return evaluate.measure("fiqa", folder, switches, embed, scores)


def described(scorer: Scorer) -> str:
    """Return where scores come from, in words."""
    scores = scorer.scores
    again = ""
    if scores.num_changed:
        again = f"; {scores.num_changed} names are listed again with another score, and the last one counts"
    return f"Scores of {scores.path} ({scores.kind}, {scores.column}), higher is better{again}."


def spelled(folder: Path, name: str) -> str:
    """Return the name of a set as the folder has it: XQLFW is ``xqlfw``.

    Raises:
        LookupError: there is no such set.
    """
    there = [*_pairs.named(folder), *(one for one in TEMPLATES if (folder / "ijb" / one).is_dir())]
    for one in there:
        if name in (one, one.lower()) or name.lower() == one.lower():
            return one
    raise UnknownNameError(f"{folder} has no test set {name!r}: there are {', '.join(there) or 'none'}")


def labelled(files: Sequence[Path], labels: Sequence[str] | None) -> dict[str, Path]:
    """Return the files by the names of their scores: given, or the files' own without their endings.

    >>> labelled([Path("a/CRFIQAS_lfw.txt")], None)
    {'CRFIQAS_lfw': PosixPath('a/CRFIQAS_lfw.txt')}
    """
    if labels is not None and len(labels) != len(files):
        raise InputError(f"--label names each file, got {len(labels)} labels for {len(files)} files")
    names = [re.sub(r"[^\w-]+", "_", name) for name in labels or [path.stem for path in files]]
    taken = [name for name in names if names.count(name) > 1 or name in ("feature_norm", "index")]
    if taken:
        got = ", ".join(names)
        raise InputError(f"scores need different names, and not feature_norm or index, got {got}: give --label")
    return dict(zip(names, files, strict=True))


def keep(folder: Path, model: ModelHere, sets: Path, measured: Measured) -> None:
    """Write metrics, curves and tables like the stage `evaluate`, and the pages that show them."""
    weights = artifacts.read_json(model.backbone / "model.json")["weights_sha256"]
    provenance = {"run": model.name, "dataset": str(sets), "weights_sha256": weights}
    with artifacts.write_folder(folder) as aside:
        evaluate.fill(aside, measured, provenance)
        artifacts.write_json(aside / "metrics.json", measured.metrics)
        quality_pages.fill(aside, reading.read_folder(model.name, aside, folder.as_posix()))
    progress.say(f"{folder / 'index.html'}")


def report(judged: Mapping[str, Measured], files: Sequence[str]) -> str:
    """Return one line for each set, model, method and false match rate."""
    lines = [["set", "recognition", "scores", "FMR", "FNMR", "CR-FIQA area", "95 %", "ISO pAUC", "best possible"]]
    reasons: dict[str, None] = {}
    for model, measured in judged.items():
        areas = {row[:3]: row for row in measured.curves["areas"].rows}
        whole = {row[:3]: row[5] for row in measured.curves["bands"].rows if row[3:5] == ("cr_fiqa", 0.0)}
        for name, details in measured.details["sets"].items():
            methods = sorted(details["methods"], key=lambda method: method not in files)
            for method in methods:
                for rate, tree in details["methods"][method].items():
                    if not isinstance(tree, dict) or "edc_auc" not in tree:
                        continue
                    if tree.get("reason"):
                        reasons[f"{name}, FMR {float(rate):g}: {tree['reason']}"] = None
                    key = (name, method, rate)
                    cells = _cells(tree, areas.get(key), whole.get(key))
                    lines.append([name, model, method, f"{float(rate):g}", *cells])
    return "\n".join([as_text(lines, left=(0, 1, 2)), "", *reasons]).rstrip()


def _cells(tree: Mapping[str, Any], area: Sequence[Any] | None, fnmr_of_all: Any) -> list[str]:
    band = f"[{area[4]:.4f}, {area[5]:.4f}]" if area is not None else "-"
    shown = [fnmr_of_all, tree.get("edc_auc"), tree.get("iso_pauc"), tree.get("iso_pauc_of_perfect_quality")]
    fnmr, erc, iso, best = ("-" if value is None else f"{value:.4f}" for value in shown)
    return [fnmr, erc, band, iso, best]


def names_said(measured: Measured, files: Sequence[str]) -> list[str]:
    """Return what did not fit between the names of a file and those of a set, in words."""
    said = []
    for name, details in measured.details["sets"].items():
        for label in files:
            tree = details["methods"][label]["names"]
            for key, words in (
                ("missing", "images of the set without a line in the file (discarded first)"),
                ("not_assessed", "images that the method could not assess (discarded first)"),
                ("unknown", "names in the file that the set does not have"),
            ):
                if tree[key]:
                    said.append(f"{name}, {label}: {tree[key]} {words}: {_first(tree[f'first_{key}'], tree[key])}")
    return said


def _first(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:5])
    return shown if count <= 5 else f"{shown}, ..."


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet judge",
        description="Judge quality scores in files: error versus discard by CR-FIQA's and ISO's convention.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("files", nargs="+", type=Path, metavar="FILE", help="image names and scores")
    options.add_argument("--set", action="append", required=True, help="test set, such as lfw or XQLFW; repeatable")
    options.add_argument("--recognition", nargs="+", required=True, metavar="MODEL", help="models that compare faces")
    where = options.add_mutually_exclusive_group(required=True)
    where.add_argument("--dataset", help="data set of params.yaml: uses its test sets")
    where.add_argument("--folder", type=Path, help="a folder with NAME.bin, xqlfw, ijb/IJBC, ...")
    options.add_argument("--column", help="which score, where a file has several")
    options.add_argument("--label", nargs="+", help="a name for each file's scores (default: the file's name)")
    options.add_argument("--fmr", nargs="+", type=float, default=[1e-2, 1e-3], help="false match rates (1e-2 1e-3)")
    options.add_argument("--fusion", default="pre_norm_sum", help="of image and flip; CR-FIQA: concat")
    options.add_argument(
        "--method", action="append", choices=scoring_embedder.UNTRAINED, help="judge this one too; repeatable"
    )
    options.add_argument(
        "--max-missing", type=float, default=0.01, help="share of a set's images that a file may not name (0.01)"
    )
    options.add_argument("--out", type=Path, default=Path("judged"), help="folder for curves and pages (judged)")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
