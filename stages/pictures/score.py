"""Scores the quality of every face in many pictures; an interrupted run resumes where it stopped.

Shapes: N faces.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.formats.file_names import readable
from stages.core.metrics.features import Embed
from stages.core.metrics.suite_result import Score
from stages.pictures.detect import Detect, Face, Image, read_picture
from stages.runtime import artifacts, files, progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
BATCH_SIZE = 64

Row = dict[str, Any]


@dataclass(frozen=True)
class Scoring:
    """Settings for turning pictures into rows."""

    detect: Detect
    embed: Embed
    """Embedder that also passes the images to methods that need them (stages/embedding/scoring_embedder.py)."""
    scores: Mapping[str, Score]
    """Quality methods by name; the feature norm is always there."""
    every_face: bool
    key: str
    """Key of the model and the options: rows made with others are not reused."""

    def rows(self, folder: Path, paths: Sequence[Path]) -> list[Row]:
        """Return the rows of some pictures: one per face, or one with the reason if there is none."""
        rows: list[Row] = []
        faces: list[Face] = []
        for path in paths:
            name = path.relative_to(folder).as_posix()
            found = self._faces(path)
            if isinstance(found, str):
                rows.append(_row(name, 0) | {"problem": found})
                continue
            for place, face in enumerate(found, 1):
                rows.append(_row(name, place, face))
                faces.append(face)
        if faces:
            self._score([row for row in rows if row["face"]], faces)
        return rows

    def _faces(self, path: Path) -> list[Face] | str:
        try:
            found = self.detect(read_picture(path))
        except (ValueError, OSError) as error:
            return str(error)
        return (found if self.every_face else found[:1]) or "no face found"

    def _score(self, rows: Sequence[Row], faces: Sequence[Face]) -> None:
        features = self.embed([face.aligned_HW3 for face in faces])
        by_method = {"feature_norm": features.feature_norm_N}
        by_method |= {name: score(features) for name, score in self.scores.items()}
        for name, value_N in by_method.items():
            for row, value in zip(rows, value_N, strict=True):
                row[name] = float(value)


def _row(name: str, place: int, face: Face | None = None) -> Row:
    box = face.box if face else (None,) * 4
    sides = dict(zip(("left", "top", "width", "height"), box, strict=True))
    return {"file": name, "face": place, **sides, "detector_score": face.score if face else None, "problem": None}


def pictures(folder: Path) -> list[Path]:
    """Return every picture under a folder and under folders linked there, sorted by name; say what was passed over.

    Hidden files are passed over, among them those that macOS adds to archives (``._1.jpg``).

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    found, others = [], Counter[str]()
    for path in _files(folder):
        if path.name.startswith("."):
            others["hidden"] += 1
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            others[path.suffix.lower() or "without an ending"] += 1
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    if not found:
        raise FileNotFoundError(f"{folder} has no pictures ({said or 'no file'}): supported are {', '.join(SUFFIXES)}")
    if others:
        progress.say(f"passed over {others.total()} files that are no pictures by their names: {readable(said)}")
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder; a folder that links lead to twice, or round in a circle, is entered once."""
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in names if (path := Path(here, name)).is_file())


def score_folder(folder: Path, scoring: Scoring, journal: Path) -> list[Row]:
    """Return the rows of all pictures under ``folder`` in the order of their names.

    Args:
        folder: is searched with all folders in it.
        scoring: how.
        journal: file of what is done, a line for each picture; what an earlier call wrote there with the same model and
            options is not done again, unless the picture has changed since.
    """
    paths = pictures(folder)
    done = dict(_read_journal(journal, scoring.key))
    left = [path for path in paths if _stamp(folder, path) not in done]
    if len(left) < len(paths):
        progress.say(f"{len(paths) - len(left)} of {len(paths)} pictures were already scored")
    lines = progress.Progress("score", len(left), "pictures")
    journal.parent.mkdir(parents=True, exist_ok=True)
    cut_short = files.is_cut_short(journal)
    with journal.open("a", encoding="utf-8") as stream:
        stream.write("\n" if cut_short else "")
        for start in range(0, len(left), BATCH_SIZE):
            batch = left[start : start + BATCH_SIZE]
            by_name: dict[str, list[Row]] = {}
            for row in scoring.rows(folder, batch):
                by_name.setdefault(row["file"], []).append(row)
            for path in batch:
                stamp = _stamp(folder, path)
                done[stamp] = by_name[path.relative_to(folder).as_posix()]
                stream.write(json.dumps({"key": scoring.key, "stamp": stamp, "rows": done[stamp]}) + "\n")
            stream.flush()
            lines.advance(len(batch))
    return [row for path in paths for row in done[_stamp(folder, path)]]


def _read_journal(journal: Path, key: str) -> Iterator[tuple[str, list[Row]]]:
    if not journal.is_file():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when it was killed
        if entry["key"] == key:
            yield entry["stamp"], entry["rows"]


def _stamp(folder: Path, path: Path) -> str:
    status = path.stat()
    return f"{path.relative_to(folder).as_posix()} {status.st_size} {status.st_mtime_ns}"


def key_of(model: Path, quality: Path | None, **options: Any) -> str:
    """Return a key of a model and its options."""
    files = [model / "weights.pt", *([quality / "quality.json"] if quality else [])]
    if quality and (quality / "weights.pt").is_file():
        files.append(quality / "weights.pt")
    text = json.dumps([[artifacts.sha256(file) for file in files], options], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def images_of(folder: Path, rows: Sequence[Row], scoring: Scoring) -> list[Image]:
    """Return the aligned faces of some rows, detected again."""
    return [scoring.detect(read_picture(folder / row["file"]))[row["face"] - 1].aligned_HW3 for row in rows]
