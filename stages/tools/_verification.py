"""Compares a model's measured numbers with the published ones: available test sets, and tolerances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.features import Embed, Fusion
from stages.core.metrics.missing import SETS
from stages.core.metrics.published_sets import COUNTS
from stages.core.metrics.suite_result import Measured
from stages.models.zoo import Published

AVERAGED = ("lfw", "cfp_fp", "cplfw", "calfw", "agedb_30")
SUITES = ("hq", "ijb", "lq")


@dataclass(frozen=True)
class Compared:
    """One published number and ours; percent."""

    metric: str
    measured: float | None
    published: float | None
    tolerance: float
    remark: str = ""
    """Why it cannot be judged; empty if it can."""

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points."""
        return None if self.measured is None or self.published is None else self.measured - self.published

    @property
    def verdict(self) -> str:
        """``within``, ``outside``, or the reason why there is none."""
        if self.remark:
            return self.remark
        if self.difference is None:
            return "not published" if self.published is None else "not measured"
        # published to 0.01: a hundredth of that is rounding of ours
        return "within" if abs(self.difference) <= self.tolerance + 1e-4 else "OUTSIDE"


def present(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the sets of each suite whose files are in a folder."""
    candidates: dict[str, tuple[Iterable[str], Callable[[str], Path]]] = {
        "hq": (SETS["hq"], lambda name: folder / f"{name}.bin"),
        "ijb": (get_args(evaluation.IjbName), lambda name: folder / "ijb" / name),
        "lq": (("tinyface", "scface"), lambda name: folder / name),
    }
    found = {
        suite: tuple(name for name in names if where(name).exists()) for suite, (names, where) in candidates.items()
    }
    return {suite: names for suite, names in found.items() if names}


def switches(suite: str, sets: tuple[str, ...], fusion: Fusion) -> evaluate.Switches:
    """Return the options with which the published numbers were measured."""
    made: evaluate.Switches = evaluation.SUITES[suite].model_validate({"sets": sets, "fusion": fusion})
    return made


def measure(
    folder: Path, wanted: Mapping[str, tuple[str, ...]], embed: Embed, fusion: Fusion
) -> dict[str, Measured]:
    """Return the results of each suite.

    Raises:
        FileNotFoundError: a set is incomplete.
        ValueError: a file cannot be used.
    """
    return {
        suite: evaluate.measure(suite, folder, switches(suite, sets, fusion), embed) for suite, sets in wanted.items()
    }


def compare(published: Published, entry: str | None, measured: Mapping[str, Measured]) -> list[Compared]:
    """Return every number that was published or could have been, with ours beside it."""
    scores = published.entry(entry).scores if entry else {}
    ours = {
        f"{suite}.{key}": 100 * value
        for suite, one in measured.items()
        for key, value in one.metrics.items()
    }
    shown = list(scores) + [key for key in ours if key not in scores]
    return [
        Compared(
            key,
            ours.get(key),
            scores.get(key),
            published.tolerance[key.partition(".")[0]],  # type: ignore[index]
            _remark(key, measured) if key in ours and key in scores else "",
        )
        for key in shown
    ]


def _remark(metric: str, measured: Mapping[str, Measured]) -> str:
    suite, _, key = metric.partition(".")
    sets: Mapping[str, Any] = measured[suite].details["sets"]
    names = AVERAGED if key == "avg" else [name for name in sets if key.startswith(name.lower())]
    for name in names:
        for what, official in COUNTS.get(name, {}).items():
            if (size := sets[name].get(what, official)) != official:
                return f"another set: {size:,} {what} instead of {official:,}"
    return ""
