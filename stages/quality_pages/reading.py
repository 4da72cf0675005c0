"""Reads the files that suite `fiqa` stores for the pages: scores of each image, faces, curves with bands, details."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import InputError
from stages.runtime import artifacts

FILES = ("details.json", "scores.parquet", "faces.parquet", "bands.csv", "areas.csv")
LEVELS = ("0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1")
"""Levels of known quality."""
_OTHER = {"set", "row", "image", "identity", "known_quality", "norm"}


@dataclass(frozen=True)
class Run:
    """One run's quality methods on all sets."""

    name: str
    details: dict[str, Any]
    scores: pd.DataFrame
    """A row for each image: ``set``, ``row``, ``known_quality``, ``level``, ``norm``, and a column per method."""
    faces: dict[tuple[str, int], bytes]
    """JPEGs by set and row."""
    bands: pd.DataFrame
    areas: pd.DataFrame
    texts: dict[str, str]
    """Description of each method: the first paragraphs of its file's docstring, or the file its scores are from."""
    source: str
    """Where all this was read."""

    @property
    def methods(self) -> list[str]:
        """The run's own method first, the feature norm last."""
        names = [name for name in self.scores.columns if name not in _OTHER | {"level"}]
        return sorted(names, key=lambda name: name == "feature_norm")

    @property
    def sets(self) -> list[str]:
        """In the order they were measured."""
        return list(self.details["sets"])

    @property
    def rates(self) -> list[str]:
        """The false match rates, as written in keys, the largest first."""
        return [f"{rate:.0e}" for rate in sorted(self.details["switches"]["fmr"], reverse=True)]

    @property
    def resampled_over(self) -> str:
        """What bands were resampled over, set by set, each once: identities, or pairs where nobody knows them."""
        return ", ".join(sorted({str(one.get("bands_resampled_over")) for one in self.details["sets"].values()}))

    def of(self, name: str) -> pd.DataFrame:
        """Return the rows of one set."""
        return self.scores[self.scores["set"] == name]

    def has_truth(self, name: str) -> bool:
        """Return whether the quality of a set's images is known."""
        return bool(self.of(name)["known_quality"].notna().any())

    def people(self, name: str) -> int:
        """Return the number of people in a set; 0 if they are not known."""
        identity = self.of(name)["identity"]
        return int(identity[identity >= 0].nunique())

    def measured(self, name: str, method: str, rate: str) -> dict[str, Any]:
        """Return a set's areas at a rate: null with a ``reason`` if the pairs cannot resolve it."""
        tree: dict[str, Any] = self.details["sets"][name]["methods"][method][rate]
        return tree

    @property
    def networks(self) -> list[str]:
        """Other networks whose embeddings also judge the scores."""
        return list(self.details["switches"].get("recognition", []))

    def judged(self, name: str, method: str, rate: str, network: str) -> dict[str, Any]:
        """Return the same as ``measured``, by another network's embeddings."""
        tree: dict[str, Any] = self.details["sets"][name]["recognition"][network]["methods"][method][rate]
        return tree

    def spearman(self, name: str, method: str) -> float | None:
        """Return the rank correlation with known quality; None if it is not known."""
        rho: float | None = self.details["sets"][name]["methods"][method]["spearman"]["rho"]
        return rho

    def curve(self, name: str, method: str, rate: str, convention: str) -> pd.DataFrame:
        """Return ``discard``, ``fnmr``, ``low`` and ``high`` by rising discard; empty if not resolved."""
        bands = self.bands
        chosen = (bands["set"] == name) & (bands["method"] == method) & (bands["convention"] == convention)
        return bands[chosen & (bands["fmr"] == float(rate))].sort_values("discard")

    def area(self, name: str, method: str, rate: str) -> dict[str, float] | None:
        """Return the area with its interval, and the difference from the norm's; None if there is none."""
        areas = self.areas
        chosen = (areas["set"] == name) & (areas["method"] == method) & (areas["fmr"] == float(rate))
        found = areas[chosen].to_dict("records")
        return {str(key): value for key, value in found[0].items()} if found else None


def read(run: str) -> Run:
    """Read results/RUN/fiqa.

    Raises:
        FileNotFoundError: the run was not measured, or by a version that kept less.
        ValueError: its data set has no set for quality scores.
    """
    return read_folder(run, artifacts.details_folder(run, "fiqa"))


def read_folder(run: str, folder: Path, source: str | None = None) -> Run:
    """Read the results of suite `fiqa` in any folder; ``source`` is what pages call it, where it will be moved.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: there is no set for quality scores.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: run `facet run` (or `python -m stages.evaluate {run} fiqa`) first"
        )
    details = artifacts.read_json(folder / "details.json")
    if not details["sets"]:
        raise InputError(f"run {run} has no pages: {details.get('not_measured', 'its sets have no pairs')}")
    scores = pd.read_parquet(folder / "scores.parquet")
    scores["level"] = (scores["known_quality"] * len(LEVELS)).clip(upper=len(LEVELS) - 1) // 1
    faces = pd.read_parquet(folder / "faces.parquet")
    images = {(name, row): jpeg for name, row, jpeg in zip(faces["set"], faces["row"], faces["jpeg"], strict=True)}
    bands, areas = (pd.read_csv(folder / name) for name in ("bands.csv", "areas.csv"))
    found = Run(run, details, scores, images, bands, areas, {}, source or folder.as_posix())
    of_files = details.get("files", {})
    texts = {method: of_files.get(method) or _say(method) for method in found.methods}
    return Run(**{**vars(found), "texts": texts})


def _say(method: str) -> str:
    """Return the first two paragraphs of a method's docstring, without importing the networks behind it."""
    path = Path(__file__).parents[1] / "quality" / f"{method}.py"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8").split('"""')[1]
    return " ".join(" ".join(text.split("\n\n")[:2]).split())
