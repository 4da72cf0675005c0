"""Folders initial/RUN, on which every training depends: of a run that starts from nothing, one constant file.

Of a run that starts from weights the folder is the output of `initial@RUN`, with the weights in it. DVC's templates
cannot leave a dependency out, so the others have a folder too; nothing of another run can change it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from stages.runtime import artifacts, files

ABOUT = "initial.json"
"""Network, head, colour order, value range and digest of the weights."""
WEIGHTS = "weights.pt"
CLASSES = "classes.txt"
"""Names of the classes, a line each, where they are known; here and in a model's folder."""
NONE = "none.txt"
NONE_TEXT = "The weights that this run starts from are drawn from its seed.\n"
README = artifacts.INITIAL / "README.txt"
"""An output of `resolve`: it runs again if the folder is lost."""
README_TEXT = "The weights that runs start from, a folder for each run: trainings depend on them.\n"


def write(runs: Iterable[str], starting: Collection[str]) -> None:
    """Write the folders of all runs but those that start from weights, whose stage `initial` writes them.

    Args:
        runs: all runs.
        starting: runs that section `initial` of params.yaml names.
    """
    for run in runs:
        if run in starting:
            continue
        folder = artifacts.initial_folder(run)
        for left in (ABOUT, WEIGHTS, CLASSES):  # of when the run still started from some
            (folder / left).unlink(missing_ok=True)
        _write(folder / NONE, NONE_TEXT)
    _write(README, README_TEXT)


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with files.replacing(path, shared=True) as aside:
            aside.write_text(text, encoding="utf-8")
