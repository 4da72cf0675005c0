"""`facet compare`: compares faces of pictures: similarity, quality of each face, and a verdict with its error rate.

facet compare a.jpg b.jpg --model adaface --picture out.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from stages.core.errors import InputError
from stages.core.metrics.features import Fusion
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.models import lookup
from stages.models.lookup import ModelHere
from stages.pictures import compare
from stages.pictures import detect as faces
from stages.pictures.compare import Calibration, Comparison, Found
from stages.runtime import program
from stages.tools import _drawing

EXAMPLES = """\
examples:
  facet compare anna.jpg unknown.png --model adaface
  facet compare photos/*.jpg --model adaface --fmr 1e-3 --picture similarity.png
  facet compare --aligned a.png b.png --model qgface --json"""


def main(arguments: argparse.Namespace) -> None:
    """Find the faces, compare all pairs, print."""
    model = lookup.find(arguments.model)
    detect = faces.choose(arguments.detector, aligned=arguments.aligned)
    found = compare.find_faces(arguments.pictures, detect, every_face=arguments.every_face)
    if len(found.entries) < 2:
        raise InputError("; ".join(["comparing needs at least two faces", *found.left_out.values()]))
    fusion = evaluated_fusion(model)
    embedder = Embedder.load(model.backbone, flip=fusion != "none")
    scorers = scoring_embedder.of_pictures(model.quality)
    embed = scoring_embedder.watched(embedder, scorers)
    comparison = compare.compare(found.entries, embed, scoring_embedder.scores_of(scorers), fusion)
    limit, why_not = verdict_limit(model, arguments)
    if arguments.picture:
        _drawing.draw_comparison(arguments.picture, comparison, [e.face.aligned_HW3 for e in found.entries], limit)
    print(as_json(comparison, found, limit) if arguments.json else as_text(comparison, limit, why_not))
    for line in [*found.notes, *(f"skipped: {why}" for why in found.left_out.values())]:
        print(line, file=sys.stderr)


def evaluated_fusion(model: ModelHere) -> Fusion:
    """Return the fusion of image and flip with which the model was evaluated, and so its thresholds."""
    details = model.results / "hq" / "details.json"
    if not details.is_file():
        return "pre_norm_sum"
    fusion: Fusion = json.loads(details.read_text(encoding="utf-8"))["switches"]["fusion"]
    return fusion


def verdict_limit(model: ModelHere, arguments: argparse.Namespace) -> tuple[Calibration | None, str]:
    """Return the threshold of the verdict, or the reason why there is none."""
    if arguments.threshold is not None:
        return Calibration(arguments.threshold, float("nan"), float("nan"), "given"), ""
    try:
        return compare.calibration(model.results / "hq" / "details.json", arguments.set, arguments.fmr), ""
    except (OSError, LookupError, ValueError) as error:
        return None, str(error.args[0] if isinstance(error, KeyError) else error)


def as_text(comparison: Comparison, limit: Calibration | None, why_not: str) -> str:
    """Return the matrix, the qualities and the verdicts as lines."""
    names = comparison.names_N
    width = max(len(name) for name in names)
    column = max(8, width)
    lines = [" " * width + "".join(f"  {name:>{column}}" for name in [*names, *comparison.quality])]
    for i, name in enumerate(names):
        cells = [f"  {value:>{column}.4f}" for value in comparison.similarity_NN[i]]
        cells += [f"  {values[i]:>{max(column, len(key))}.4f}" for key, values in comparison.quality.items()]
        lines.append(f"{name:>{width}}" + "".join(cells))
    lines.append("")
    if limit is None:
        return "\n".join([*lines, f"no verdict: {why_not}"])
    for first, second, cosine in comparison.pairs():
        lines.append(f"{first} and {second}: {'same person' if cosine >= limit.threshold else 'different people'}")
    return "\n".join([*lines, said_of(limit)])


def said_of(limit: Calibration) -> str:
    """Return a sentence on the basis of the verdict."""
    if limit.fmr != limit.fmr:
        return f"same person: cosine of {limit.threshold:g} or more, as given"
    return (
        f"same person: cosine of {limit.threshold:.4f} or more; there {limit.fmr:.2%} of impostor pairs match, and "
        f"{limit.tar:.1%} of genuine ones (measured on {limit.where})"
    )


def as_json(comparison: Comparison, found: Found, limit: Calibration | None) -> str:
    """Return everything as JSON for another program."""
    calibration = None if limit is None else {k: v if v == v else None for k, v in vars(limit).items()}
    pairs = [
        {"first": a, "second": b, "cosine": cosine, "same": None if limit is None else cosine >= limit.threshold}
        for a, b, cosine in comparison.pairs()
    ]
    tree = {
        "faces": [
            {"name": entry.name, "box": entry.face.box, "detector_score": entry.face.score}
            | {"quality": {key: values[i] for key, values in comparison.quality.items()}}
            for i, entry in enumerate(found.entries)
        ],
        "pairs": pairs,
        "calibration": calibration,
        "left_out": found.left_out,
        "notes": found.notes,
    }
    return json.dumps(tree, indent=2)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet compare",
        description="Compare the faces of pictures: cosine similarity, quality of each, and a verdict.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("pictures", nargs="+", type=Path, help="JPEG, PNG, WebP, TIFF or BMP, of any size")
    options.add_argument("--model", required=True, help="a run of params.yaml, a name under models/, or a folder")
    options.add_argument("--every-face", action="store_true", help="use all faces of a picture, not only the largest")
    options.add_argument("--aligned", action="store_true", help="each picture is one aligned face; skip detection")
    options.add_argument("--detector", help="YuNet's model file, or mtcnn (facenet-pytorch); default: YuNet if found")
    options.add_argument("--fmr", type=float, default=1e-3, help="false match rate of the verdict (default 1e-3)")
    options.add_argument("--set", default="lfw", help="evaluated set that calibrates the threshold (default lfw)")
    options.add_argument("--threshold", type=float, help="cosine threshold, instead of the calibrated one")
    options.add_argument("--picture", type=Path, help="draw faces and similarities to this PNG")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
