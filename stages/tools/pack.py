"""`facet pack`: the images of a test set, or of people, in one record file, with a table of what is known of each.

Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import errno
import functools
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.core.errors import InputError, OperationError
from stages.packing import people, pictures, plan, write
from stages.packing.journal import Row
from stages.pictures import detect
from stages.runtime import artifacts, program, progress

DESCRIPTION = """\
Pack a folder into one record file (mxnet's), its index and one table (Parquet).

SOURCE is IJBB, IJBC, IJB-S, TinyFace, SCface, Adience or XQLFW in its official layout, pictures with pairs.csv
(a,b,same), a folder of such sets and .bin files (eval/), or a folder of images for each person, which becomes a
training set. TARGET is the new folder; a test set is read there as it is read in SOURCE, with equal results to the last
bit. Nothing is written to SOURCE.

Bytes of aligned images are kept as they are. Pictures of people and of pairs.csv that are not 112 x 112 are searched
for their largest face, as by `facet score`; those without one are in without_face.csv. An interrupted pack resumes."""
EXAMPLES = """\
examples:
  facet pack /data/IJB/IJBC /data/packed/eval/ijb/IJBC
  facet pack /data/faces/eval /data/packed/eval
  facet pack photos_by_person /data/mine/train --jpeg 95
then name the folder in params.yaml: datasets: {packed: {root: /data/packed}}"""


def main(arguments: argparse.Namespace) -> None:
    """Pack a folder, or each set in it."""
    if arguments.jpeg is not None and not 1 <= arguments.jpeg <= 100:
        raise InputError(f"--jpeg wanted a quality of 1 to 100, got {arguments.jpeg}")
    source, target = arguments.source, arguments.target
    sets = plan.inside(source) if source.is_dir() else []
    if not sets:
        pack(source, target, arguments)
        return
    progress.say(f"{source} holds {', '.join(sets)}")
    for name in sets:
        if (target / name).exists():
            progress.say(f"{target / name} is there already, and is left as it is")
        else:
            pack(source / name, target / name, arguments)
    for path in [*sorted(source.glob("*.bin")), source / "truth.parquet"]:
        if path.is_file() and not (target / path.name).exists():
            with artifacts.write_file(target / path.name) as aside:
                shutil.copyfile(path, aside)


def pack(source: Path, target: Path, arguments: argparse.Namespace) -> None:
    """Pack one folder."""
    planned = plan.of(source)
    progress.say(f"{planned.title}: {len(planned.paths):,} images of {source} to {target}")
    for line in planned.passed_over:
        progress.say(f"passed over: {line}")
    options = {"detector": arguments.detector, "jpeg": arguments.jpeg}
    find = functools.cache(lambda: detect.choose(arguments.detector))
    take = pictures.Aligned(find, arguments.jpeg) if planned.align else pictures.as_it_is
    try:
        rows = write.write(source, target, planned, take, **options if planned.align else {})
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OperationError(
            f"no space is left where {target} is written: make room and run the same command; it goes on with what is "
            f"packed, in {target.name}.partial beside it"
        ) from error
    progress.say(said_of(planned, rows, target))


def said_of(planned: plan.Plan, rows: Sequence[Row], target: Path) -> str:
    """Return how many images were packed, how many not, and why, in words."""
    problems = Counter(row.problem for row in rows if row.problem)
    packed = len(rows) - problems.total()
    text = f"{packed:,} images in {target / (people.RECORDS if planned.people else 'images.rec')}"
    if planned.people:
        text += f", {len({row.label for row in rows if not row.problem}):,} people"
    if problems:
        most = ", ".join(f"{count:,}: {problem}" for problem, count in problems.most_common(3))
        text += f"; {problems.total():,} without a record ({most})"
        text += f", listed in {target / write.WITHOUT_FACE}" if planned.align else ""
    return text


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet pack", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("source", type=Path, help="folder that is packed")
    options.add_argument("target", type=Path, help="folder that is made")
    options.add_argument("--detector", help="YuNet's model file, or mtcnn (facenet-pytorch); default: YuNet if found")
    options.add_argument("--jpeg", type=int, metavar="QUALITY", help="of faces that are aligned here; default: PNG")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
