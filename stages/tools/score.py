"""`facet score`: quality of every face in a folder as CSV, Parquet or JSON, with a sheet of the worst and the best.

Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import InputError
from stages.core.formats.file_names import readable
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.models import lookup
from stages.pictures import detect, score
from stages.pictures.meaning import Meaning
from stages.pictures.score import Row, Scoring
from stages.runtime import artifacts, program, progress
from stages.tools import _drawing, _meaning

EXAMPLES = """\
examples:
  facet score photos --model adaface
  facet score photos --model adaface --every-face --out quality.parquet --sheet sheet.png
  facet score photos --model adaface --discard 5%                  which faces a cut drops that drops 5 % of lfw
  facet score photos --model adaface --fnmr .01@fmr=1e-3 --set lfw the mildest cut that reaches an FNMR of .01"""
SHEET_FACES = 12


def main(arguments: argparse.Namespace) -> None:
    """Score, write the table, draw the sheet, delete the journal."""
    out: Path = arguments.out
    if out.suffix not in (".csv", ".parquet", ".json"):
        raise InputError(f"--out should end in .csv, .parquet or .json, got {out}")
    model = lookup.find(arguments.model)
    scorers = scoring_embedder.of_pictures(model.quality)
    scorers |= scoring_embedder.untrained(name for name in arguments.method or () if name not in scorers)
    scores = scoring_embedder.scores_of(scorers)
    methods = ["feature_norm", *(name for name in scores if name != "feature_norm")]
    by = arguments.by or methods[-1]
    means = _meaning.of(arguments, model, scorers, by)
    options = {
        "aligned": arguments.aligned, "detector": arguments.detector, "every_face": arguments.every_face,
        "methods": sorted(scores),
    }  # fmt: skip
    how = Scoring(
        detect.choose(arguments.detector, aligned=arguments.aligned),
        scoring_embedder.watched(Embedder.load(model.backbone, flip=False), scorers),
        scores,
        arguments.every_face,
        score.key_of(model.backbone, model.quality, **options),
    )
    journal = out.with_name(out.name + ".journal")
    rows = score.score_folder(arguments.folder, how, journal)
    dropped = _meaning.add(rows, means) if means else 0
    write(out, rows, methods, means)
    if arguments.sheet:
        draw_sheet(arguments, how, [row for row in rows if row["face"]], by, means)
    journal.unlink()
    progress.say(said_of(rows, out))
    if means:
        progress.say(f"{means.text()}\n{dropped} of the {sum(row['face'] > 0 for row in rows)} faces are below it")


def write(out: Path, rows: Sequence[Row], methods: Sequence[str], means: Meaning | None = None) -> None:
    """Write one row per face, and one per picture without a face."""
    places = ["percent", "kept"] if means else []
    columns = ["file", "face", *methods, *places, "detector_score", "left", "top", "width", "height", "problem"]
    named = [row | _readable(row) for row in rows]
    with artifacts.write_file(out) as aside:
        if out.suffix == ".json":
            faces = [{column: row.get(column) for column in columns} for row in named]
            aside.write_text(json.dumps({"cut": means.tree() if means else None, "faces": faces}, indent=2) + "\n")
            return
        # before pandas sees them: it cannot hold a name that is not UTF-8
        frame = pd.DataFrame(named).reindex(columns=columns)
        if out.suffix == ".csv":
            frame.to_csv(aside, index=False)
        else:
            frame.to_parquet(aside, index=False)


def _readable(row: Row) -> Row:
    return {name: readable(row[name]) for name in ("file", "problem") if row[name] is not None}


def draw_sheet(
    arguments: argparse.Namespace, how: Scoring, scored: Sequence[Row], by: str, means: Meaning | None = None
) -> None:
    """Draw the worst and the best faces, with their scores; with a cut, their places on its scale and its words."""
    if not scored:
        raise InputError("no face was found, so there is no sheet to draw")
    if by not in scored[0]:
        raise InputError(f"--by {by}: there are {', '.join(name for name in ('feature_norm', *how.scores))}")
    ordered = sorted(scored, key=lambda row: float(row[by]))
    shown = {"worst": ordered[:SHEET_FACES], "best": ordered[::-1][:SHEET_FACES]}
    _drawing.draw_sheet(
        arguments.sheet,
        by,
        {
            name: (score.images_of(arguments.folder, rows, how), [_label(row, by) for row in rows])
            for name, rows in shown.items()
        },
        means.text() if means else "",
    )


def _label(row: Row, by: str) -> str:
    label = f"{row[by]:.3g}"
    return label if "kept" not in row else f"{label} · {row['percent']:.0f}{'' if row['kept'] else ' dropped'}"


def said_of(rows: Sequence[Row], out: Path) -> str:
    """Return the numbers of faces and of pictures without a face, in words."""
    without = [row for row in rows if not row["face"]]
    text = f"{len(rows) - len(without)} faces in {out}"
    if without:
        text += f"; {len(without)} pictures without, the first: {without[0]['file']}: {without[0]['problem']}"
    return readable(text)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet score",
        description="Score the quality of every face in a folder; higher is better. An interrupted run resumes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("folder", type=Path, help="folder of pictures, searched recursively")
    options.add_argument("--model", required=True, help="a run of params.yaml, a name under models/, or a folder")
    options.add_argument("--out", type=Path, default=Path("quality.csv"), help=".csv, .parquet or .json (quality.csv)")
    options.add_argument("--every-face", action="store_true", help="use all faces of a picture, not only the largest")
    options.add_argument("--aligned", action="store_true", help="each picture is one aligned face; skip detection")
    options.add_argument("--detector", help="YuNet's model file, or mtcnn (facenet-pytorch); default: YuNet if found")
    options.add_argument("--sheet", type=Path, help="draw the worst and the best faces to this PNG")
    options.add_argument(
        "--method", action="append", choices=scoring_embedder.UNTRAINED,
        help="also score by this method; repeatable",
    )  # fmt: skip
    cut = options.add_mutually_exclusive_group()
    cut.add_argument("--discard", metavar="5%", help="cut that drops this share of a set's images; 5%%@fmr=1e-3")
    cut.add_argument("--fnmr", metavar=".01@fmr=1e-3", help="mildest cut that leaves at most this FNMR on a set")
    options.add_argument("--set", default="lfw", help="evaluated set that says what a cut does (default lfw)")
    options.add_argument("--dataset", help="measure it now on the test sets of this data set, not read the evaluation")
    options.add_argument("--by", help="method that sorts and cuts (default: the model's quality method)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
