"""Reads files of image names and quality scores, in the formats that methods of quality assessment write.

    PATH SCORE                             a line each: CR-FIQA, evaluation/getQualityScore.py at 7b742afd
    Filename;NAME;...;NAME.scalar;...      OFIQ, OFIQlib/src/OFIQSampleApp.cpp at 064ca5eb
    {PATH: SCORE}                          a pickle: eDifFIQA, FROQ (stages/core/formats/score_pickle.py)
    {"quality_scores_by_sample_id_per_algorithm": {NAME: {IMAGE: SCORE}}}
                                           JSON: dasec/quality-assessment-evaluation, example_data.json at 2a66097f
    image,score                            CSV or Parquet, with more columns as they come; a column `set` is heeded

OFIQ's default is the unified quality score from 0 to 100, ``UnifiedQualityScore.scalar``. Its -1 means that it could
not assess the image, and so does an empty or NaN score anywhere: NaN here. Of a name that is listed several times the
last score counts, as in CR-FIQA's ERC/erc.py (its list for XQLFW names an image once for each of its pairs).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import InputError, UnknownNameError
from stages.core.formats import score_pickle
from stages.io import parquet, text

DASEC = "quality_scores_by_sample_id_per_algorithm"
OFIQ_COLUMN = "UnifiedQualityScore.scalar"
NAMES = ("image", "file", "filename", "name", "path", "image_path", "img", "sample", "sample_id")
SCORES = ("score", "quality", "quality_score", "score_value")

ANY = ""
"""Key of scores that are not said to be of one set."""

Row = tuple[str, str, float]


@dataclass(frozen=True)
class ScoreFile:
    """Scores by set and image; NaN: the method could not assess the image."""

    path: Path
    kind: str
    column: str
    by_set: Mapping[str, Mapping[str, float]]
    num_changed: int
    """Names that were listed again with another score."""

    def of(self, name: str) -> Mapping[str, float]:
        """Return the scores of one set.

        Raises:
            LookupError: the file says which sets it has, and this is none of them.
        """
        if name not in self.by_set and ANY not in self.by_set:
            there = ", ".join(self.by_set) or "none"
            raise UnknownNameError(f"{self.path} has no scores of set {name!r}: there are {there}")
        return self.by_set.get(name, self.by_set.get(ANY, {}))


def read(path: Path, column: str | None = None) -> ScoreFile:
    """Read one file; its format is known by its content, of Parquet, JSON and pickles by the ending.

    Args:
        path: the file.
        column: which score, where the file has several.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is in none of the formats, has several scores and none was chosen, or a score is no number.
        LookupError: it has no such column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a file of image names and scores")
    readers = {".parquet": _parquet, ".json": _json, ".pkl": _pickle, ".pickle": _pickle}
    kind, chosen, rows = readers.get(path.suffix.lower(), _text)(path, column)
    by_set: dict[str, dict[str, float]] = {}
    changed = 0
    for of_set, name, score in rows:
        known = by_set.setdefault(of_set, {})
        changed += name in known and known[name] != score and not (math.isnan(known[name]) and math.isnan(score))
        known[name] = score
    if not by_set:
        raise InputError(f"{path} holds no scores")
    return ScoreFile(path, kind, chosen, by_set, changed)


def _parquet(path: Path, column: str | None) -> tuple[str, str, Iterable[Row]]:
    return "Parquet", *_of_frame(path, parquet.read_frame(path), column)


def _of_frame(path: Path, frame: pd.DataFrame, column: str | None) -> tuple[str, Iterable[Row]]:
    names = _name_column(path, list(map(str, frame.columns)))
    numeric = [str(one) for one in frame.columns if pd.api.types.is_numeric_dtype(frame[one]) and one != names]
    chosen = _choose(path, column, numeric)
    for text_column in {names, "set"} & set(frame.columns):
        if any(isinstance(one, bytes) for one in frame[text_column]):
            raise InputError(f"{path}, column {text_column}: wanted text, got bytes")
    sets = frame["set"].map(str) if "set" in frame.columns else [ANY] * len(frame)
    return chosen, zip(sets, frame[names].map(str), frame[chosen].astype(float), strict=True)


def _name_column(path: Path, columns: Sequence[str]) -> str:
    found = [one for one in columns if one.lower() in NAMES]
    if not found:
        raise InputError(f"{path} has no column of image names ({', '.join(NAMES)}), only {', '.join(columns)}")
    return found[0]


def _choose(path: Path, column: str | None, there: Sequence[str]) -> str:
    """Return the column of scores: the one asked for, the only one, or the one of a usual name."""
    if column is not None:
        if column not in there:
            raise UnknownNameError(f"{path} has no score {column!r}: there are {', '.join(there) or 'none'}")
        return column
    usual = [one for one in there if one.lower() in SCORES]
    if len(there) == 1 or len(usual) == 1:
        return there[0] if len(there) == 1 else usual[0]
    raise InputError(f"{path} has {len(there)} columns of numbers: choose one of {', '.join(there) or 'none'}")


def _json(path: Path, column: str | None) -> tuple[str, str, Iterable[Row]]:
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if isinstance(tree, dict) and isinstance(tree.get(DASEC), dict):
        chosen = _choose(path, column, list(tree[DASEC]))
        return "dasec JSON", chosen, _pairs(path, tree[DASEC][chosen])
    return "JSON", "score", _pairs(path, tree)


def _pickle(path: Path, column: str | None) -> tuple[str, str, Iterable[Row]]:
    try:
        return "pickle", "score", _pairs(path, score_pickle.read(path.read_bytes()))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _pairs(path: Path, tree: Any) -> Iterator[Row]:
    if not isinstance(tree, dict):
        raise InputError(f"{path} should map image names to scores, got {type(tree).__name__}")
    for name, score in tree.items():
        if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
            raise InputError(f"{path}, {name}: wanted a number, got {score!r}"[:200])
        yield ANY, name, math.nan if score is None else float(score)


def _text(path: Path, column: str | None) -> tuple[str, str, Iterable[Row]]:
    lines = [line for line in text.read_lines(path) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    if lines[0].startswith("Filename;"):
        return "OFIQ", *_ofiq(path, lines, column)
    if "," in lines[0]:
        return "CSV", *_csv(path, lines, column)
    return "text", "score", _words(path, lines)


def _ofiq(path: Path, lines: Sequence[str], column: str | None) -> tuple[str, Iterable[Row]]:
    heads = lines[0].rstrip().rstrip(";").split(";")
    chosen = _choose(path, OFIQ_COLUMN if column is None else column, heads[1:])
    at, scalar = heads.index(chosen), f"{chosen.removesuffix('.scalar')}.scalar"
    success = heads.index(scalar) if scalar in heads else at

    def rows() -> Iterator[Row]:
        for number, line in enumerate(lines[1:], start=2):
            fields = line.split(";")
            # an image that OFIQ could not read has no fields behind its name
            known = len(fields) > max(at, success) and _number(path, number, fields[success]) != -1
            yield ANY, fields[0], _number(path, number, fields[at]) if known else math.nan

    return chosen, rows()


def _csv(path: Path, lines: Sequence[str], column: str | None) -> tuple[str, Iterable[Row]]:
    rows = list(csv.reader(lines))
    if len(rows[0]) == 2 and _is_number(rows[0][1]):  # no header
        return "score", ((ANY, name, _number(path, at, score)) for at, (name, score) in _numbered(path, rows, 1))
    heads = rows[0]
    names = heads.index(_name_column(path, heads))
    numeric = [
        head
        for at, head in enumerate(heads)
        if at != names and all(len(row) <= at or not row[at] or _is_number(row[at]) for row in rows[1:])
    ]
    chosen = _choose(path, column, numeric)
    score, of_set = heads.index(chosen), heads.index("set") if "set" in heads else None
    body = _numbered(path, rows[1:], 2, len(heads))
    return chosen, (
        (ANY if of_set is None else row[of_set], row[names], _number(path, at, row[score])) for at, row in body
    )


def _numbered(path: Path, rows: Sequence[list[str]], first: int, width: int = 2) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(rows, start=first):
        if len(row) != width:
            raise InputError(f"{path}, line {number}: wanted {width} fields, got {len(row)}")
        yield number, row


def _words(path: Path, lines: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        words = line.rsplit(maxsplit=1)
        if len(words) != 2:
            raise InputError(f"{path}, line {number}: wanted an image and its score, got {line[:80]!r}")
        yield ANY, words[0].strip(), _number(path, number, words[1])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, word: str) -> float:
    if not word.strip():
        return math.nan
    if not _is_number(word):
        raise InputError(f"{path}, line {line}: wanted a number as score, got {word[:40]!r}")
    return float(word)
