"""Invented evaluation results, for tests of the code that reads results."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

SCALE = {"profile": "demo", "data": {"demo": {"synthetic": True}}}
HQ = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")
SKILL = {"arcface": 1.0, "cosface": 1.1, "adaface": 1.3}  # how well apart the scores of a run stand
TABLE: dict[str, Any] = {
    "title": "AdaFace against ArcFace and CosFace",
    "source": "AdaFace README.md at c60eaa78",
    "columns": [
        {"name": "LFW", "metric": "hq.lfw"},
        {"name": "IJB-B TAR at FAR 1e-4", "metric": "ijb.ijbb_tar_at_far_1e-04"},
        {"name": "TinyFace Rank-1", "metric": "lq.tinyface_rank1"},
        {"name": "EDC AUC", "metric": "fiqa.lfw_cr_fiqa_edc_auc_fmr1e-02", "unit": "fraction",
         "higher_is_better": False, "decimals": 4},
    ],
    "ablation": ["head.name", "head.margin"],
    "rows": {
        "arcface": {"label": "ArcFace", "run": "arcface", "published": {"IJB-B TAR at FAR 1e-4": 94.25}},
        "cosface": {"label": "CosFace", "run": "cosface", "published": {"IJB-B TAR at FAR 1e-4": 94.80}},
        "adaface": {"label": "AdaFace", "run": "adaface",
                    "published": {"LFW": 99.82, "IJB-B TAR at FAR 1e-4": 95.67, "TinyFace Rank-1": 68.21}},
    },
}  # fmt: skip


def write_project(
    root: Path, table: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None
) -> None:
    """Write resolved/ and results/ of three runs in one table; ``metrics`` overrides RUN.SUITE.KEY."""
    table = table or TABLE
    for run in SKILL:
        write_run(root, run, metrics or {})
    measured = {key: {f"heads-{key}": row["run"]} for key, row in table["rows"].items() if row.get("run")}
    resolved = {"table": full(table), "scale": SCALE, "measured": measured}
    write(root / "resolved/tables/heads.yaml", yaml.safe_dump(resolved, sort_keys=False))


def full(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with every field set, as `resolve` writes it."""
    column = {"unit": "percent", "higher_is_better": True, "decimals": 2}
    row: dict[str, Any] = {"run": None, "published": {}}
    return {
        "note": "", "ablation": [], **table,
        "columns": [column | given for given in table["columns"]],
        "rows": {key: row | given for key, given in table["rows"].items()},
    }  # fmt: skip


def weights_sha256(run: str, margin: float = 0.5) -> str:
    """Return an invented hash of a run's weights."""
    return hashlib.sha256(f"{run} {margin}".encode()).hexdigest()


def write_run(root: Path, run: str, metrics: dict[str, Any], margin: float = 0.5) -> None:
    """Write resolved/runs/RUN.yaml and results/RUN; a larger margin or seed gives better results."""
    base, _, seed = run.partition("_s")  # adaface_s1: seed 1 of adaface, a little better
    skill = SKILL[base] + margin - 0.5 + 0.01 * int(seed or 0)
    train = {
        "dataset": "demo", "backbone": {"name": "iresnet", "feature_dim": 8},
        "head": {"name": base, "margin": margin}, "seed": int(seed or 0), "schedule": {"epochs": 6, "milestones": [4, 5]},
    }  # fmt: skip
    write(root / f"resolved/runs/{run}.yaml", yaml.safe_dump({"train": train}, sort_keys=False))
    measured: dict[str, dict[str, Any]] = {
        "train": {"loss": 2.0 / skill, "epochs": 6},
        "quality": {"loss": 0.1},
        "hq": {name: round(0.6 + 0.1 * skill + 0.01 * i, 6) for i, name in enumerate(HQ)},
        "ijb": {"ijbb_tar_at_far_1e-04": 0.2 * skill},
        "lq": {"tinyface_rank1": 0.3 * skill, "scface_d1": 0.1 * skill},
        "fiqa": {"lfw_cr_fiqa_edc_auc_fmr1e-02": 0.05 / skill, "lfw_spearman_feature_norm": 0.4 * skill},
    }
    for suite, values in measured.items():
        values["weights_sha256"] = weights_sha256(run, margin)
        values.update(
            {key.split(".")[2]: value for key, value in metrics.items() if key.startswith(f"{run}.{suite}.")}
        )
        missing = [key for key, value in values.items() if value is None]
        for key in missing:  # as evaluation does: no key at all, and the reason in the details
            del values[key]
        write(root / f"results/{run}/{suite}.json", json.dumps(values, indent=2))
        if suite not in ("train", "quality"):
            sets = {
                key.split("_")[0]: {"_".join(key.split("_")[1:]): {"reason": "too few impostor pairs"}}
                for key in missing
            }
            write(root / f"results/{run}/{suite}/details.json", json.dumps({"sets": sets}))
    for suite, stem, header, lines in curves(skill):
        write_curve(root / f"results/{run}/{suite}/{stem}.csv", header, lines)
    epochs = [(epoch, round(8 / epoch / skill, 4), 0.1) for epoch in range(1, 7)]
    write_curve(root / f"results/{run}/train.csv", ("epoch", "loss", "learning_rate"), epochs)


def curves(skill: float) -> Iterator[tuple[str, str, Sequence[str], list[Sequence[Any]]]]:
    """Yield suite, file, header and lines of each curve."""
    rates = [10 ** (-k / 8) for k in range(24, -1, -1)]
    for suite, names in (("hq", HQ), ("ijb", ("IJBB",)), ("lq", ("crlfw_8",))):
        tar = {far: far ** (0.35 / skill) for far in rates}
        lines = [(name, f"{far:.6g}", f"{tar[far]:.6g}", f"{1 - tar[far]:.6g}") for name in names for far in rates]
        yield suite, "roc", ("set", "far", "tar", "fnmr"), lines
    ranks = [1, 2, 3, 5, 10, 20]
    for suite, names in (("lq", ("tinyface", "scface_d1")), ("ijb", ("IJBB",))):
        lines = [(name, k, f"{1 - 0.7 / k ** (0.3 * skill):.6g}") for name in names for k in ranks]
        yield suite, "cmc", ("set", "rank", "rate"), lines
    yield (
        "fiqa",
        "edc",
        ("set", "method", "fmr", "convention", "discard", "fnmr"),
        [
            (
                name,
                method,
                fmr,
                convention,
                f"{step / 20:.2f}",
                f"{0.2 / skill * math.exp(-step / speed):.6g}",
            )
            for name in ("lfw", "cplfw")
            for method, speed in (("cr_fiqa", 6), ("feature_norm", 12))
            for fmr in (0.01, 0.001)
            for convention in ("iso", "cr_fiqa")
            for step in range(20)
        ],
    )


def write_curve(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write one curve."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *lines])


def write(path: Path, text: str) -> None:
    """Write a file, creating the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
