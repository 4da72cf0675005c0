"""`facet overlap`: people of test sets who are also trained on, near-duplicates, and people under two labels.

facet overlap mine --model adaface_r50 --set lfw
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.core.metrics import overlap
from stages.embedding.embedder import Embedder
from stages.models import lookup, model_files
from stages.quality_pages import overlap_page
from stages.runtime import artifacts, places, program, progress
from stages.suites import _overlap, _pairs
from stages.suites._overlap import Audit, Training
from stages.training.dataset import open_records

EXAMPLES = """\
A person of a test set is compared with the mean embedding of each training identity. The threshold is where so many
training identities would be taken for another one (--false-alarm). A model that was trained elsewhere is the better
judge: one trained on these very people keeps them farther apart than strangers, so it flags more strangers than stated.

examples:
  facet overlap mine --model adaface_r50
  facet overlap mine --model adaface_r50 --set lfw --set cplfw --false-alarm 0.001 --out overlap"""


def main(arguments: argparse.Namespace) -> None:
    """Embed both sides, flag, measure accuracy with and without, write list and page."""
    folder = places.eval_folder(arguments.test_dataset or arguments.dataset)
    names = arguments.set or _pairs.named(folder)
    if not names:
        raise FileNotFoundError(f"{folder} has no set of pairs: NAME.bin, or a folder NAME of pictures and pairs")
    here = lookup.find(arguments.model)
    model = model_files.read_model(here.backbone)
    embedder = Embedder.load(here.backbone, flip=model.fusion != "none", keep=True)
    training = _overlap.train(open_records(arguments.dataset), embedder, model.fusion, arguments.images_per_identity)
    audits = [
        _overlap.audit(folder, name, training, embedder, model.fusion, arguments.false_alarm) for name in names
    ]
    equal, near = _overlap.duplicates(training, arguments.near)
    alike = overlap.twins(training.centre_CD, arguments.twins)
    tree = {
        "dataset": arguments.dataset, "model": here.name, "weights_sha256": model.weights_sha256,
        "sets": {one.name: as_tree(one, training) for one in audits},
        "training": inside(training, equal, near, alike, arguments),
    }  # fmt: skip
    with artifacts.write_folder(arguments.out) as aside:
        artifacts.write_json(aside / "overlap.json", tree)
        page = overlap_page.html(tree, training, audits, near, alike)
        (aside / "index.html").write_text(page, encoding="utf-8")
    if arguments.json:
        print(json.dumps(tree, indent=2))
    else:
        print("\n".join([*(said(one) for one in audits), said_inside(tree["training"])]))
    progress.say(str(arguments.out / "index.html"))


def as_tree(one: Audit, training: Training) -> dict[str, Any]:
    """Return the result on one set for JSON."""
    return {
        "people": one.people, "people_known_by": one.known_by,
        "threshold": one.level.threshold, "false_alarm": one.level.false_alarm,
        "recall_expected": one.level.recall, "measured_on_identities": one.level.people,
        "false_alarms_expected": one.level.false_alarm * one.people,
        "pairs": one.pairs, "pairs_without": one.pairs_without,
        "accuracy": one.accuracy, "accuracy_without": one.accuracy_without, "reason": one.reason or None,
        "found": [
            {"images": found.names, "identity": int(training.identity_C[found.identity]), "cosine": found.cosine}
            for found in one.found
        ],
    }  # fmt: skip


def inside(
    training: Training, equal: Sequence[Sequence[int]], near: Sequence[tuple[int, int, float]],
    alike: Sequence[tuple[int, int, float]], arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Return what was found within the training set, for JSON; records are named by their keys."""
    key_N, label_N = training.records.key_N, training.records.label_N
    return {
        "images": int(training.row_N.size), "identities": int(training.identity_C.size),
        "equal_pixels": [
            {"records": [int(key_N[row]) for row in rows], "labels": sorted({int(label_N[row]) for row in rows})}
            for rows in equal
        ],
        "near_duplicates_at": arguments.near,
        "near_duplicates": [
            {"records": [int(key_N[a]), int(key_N[b])], "label": int(label_N[a]), "cosine": cosine}
            for a, b, cosine in near
        ],
        "one_person_at": arguments.twins,
        "one_person_under_two_labels": [
            {"labels": [int(training.identity_C[a]), int(training.identity_C[b])], "cosine": cosine}
            for a, b, cosine in alike
        ],
    }  # fmt: skip


def said(one: Audit) -> str:
    """Return the result on one set in words."""
    text = (
        f"{one.name}: {len(one.found)} of {one.people} people ({one.known_by}) are flagged as trained on, at a cosine "
        f"of {one.level.threshold:.4f}; of people who are not, {one.level.false_alarm:.2%} would be flagged "
        f"({one.level.false_alarm * one.people:.1f} here), of those who are, {one.level.recall:.0%} (measured on "
        f"{one.level.people} training identities)\n  accuracy {one.accuracy:.2%} on {one.pairs} pairs"
    )
    if one.accuracy_without is None:
        return f"{text}; without the flagged people none: {one.reason}"
    return f"{text}, {one.accuracy_without:.2%} on the {one.pairs_without} without flagged people"


def said_inside(tree: dict[str, Any]) -> str:
    """Return what was found within the training set, in words."""
    across = sum(len(one["labels"]) > 1 for one in tree["equal_pixels"])
    return (
        f"training set, {tree['images']} images of {tree['identities']} identities: {len(tree['equal_pixels'])} groups "
        f"of images with equal pixels, {across} of them across labels; {len(tree['near_duplicates'])} pairs of one "
        f"label with a cosine of {tree['near_duplicates_at']:g} or more; {len(tree['one_person_under_two_labels'])} "
        f"pairs of labels whose means have {tree['one_person_at']:g} or more"
    )


def cosine(text: str) -> float:
    """Return a cosine that was given as text."""
    value = float(text)
    if not -1 <= value <= 1:
        raise InputError(f"a cosine lies in [-1, 1], got {text}")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet overlap",
        description="List people of test sets who are also trained on, with cosines and pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("dataset", metavar="DATASET", help="data set of params.yaml, whose training set is searched")
    options.add_argument("--model", required=True, help="a run of params.yaml, a name under models/, or a folder")
    options.add_argument("--set", action="append", help="set of pairs; repeatable (default: all of the data set)")
    options.add_argument("--test-dataset", help="data set with the test sets (default: DATASET)")
    options.add_argument("--false-alarm", type=float, default=0.01, help="share of others flagged (default 0.01)")
    options.add_argument(
        "--images-per-identity", type=int, default=20, help="training images embedded of each identity (default 20)"
    )
    options.add_argument("--near", type=cosine, default=0.98, help="cosine of near-duplicates (default 0.98)")
    options.add_argument("--twins", type=cosine, default=0.9, help="cosine of labels that may be one person (0.9)")
    options.add_argument("--out", type=Path, default=Path("overlap"), help="folder for list and page (overlap)")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
