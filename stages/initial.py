"""Stage `initial`: copies the weights that a run starts from, so that training depends on them and on nothing else.

    python -m stages.initial tuned models/adaface_r50

Writes initial/RUN: weights.pt, initial.json (network, head, colour order, value range, digest) and, where the model
knows them, classes.txt. The model may be another run of the graph or an imported checkpoint. Another folder with the
same weights makes no training stale.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from stages.core.errors import InputError
from stages.runtime import artifacts, program
from stages.runtime.initial_folders import ABOUT, CLASSES, WEIGHTS

SAID = ("backbone", "head", "color_order", "value_range", "weights_sha256")
"""Fields of model.json that tell whether the weights fit a run."""


def main(arguments: argparse.Namespace) -> None:
    """Check the model, and copy what a training needs of it.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: its weights are not those that its model.json names.
    """
    source: Path = arguments.folder
    if not (source / "model.json").is_file():
        raise FileNotFoundError(
            f"{source / 'model.json'} is missing: `facet import CHECKPOINT NAME` makes models/NAME, and `dvc repro "
            "train_backbone@RUN` makes runs/RUN/backbone"
        )
    model = artifacts.read_json(source / "model.json")
    if artifacts.sha256(source / WEIGHTS) != model["weights_sha256"]:
        raise InputError(f"{source / WEIGHTS} does not match its model.json: import it again, or run `dvc checkout`")
    with artifacts.write_folder(artifacts.initial_folder(arguments.run)) as folder:
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
        if (source / CLASSES).is_file():
            shutil.copyfile(source / CLASSES, folder / CLASSES)
        artifacts.write_json(folder / ABOUT, {name: model[name] for name in SAID})


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("run", help="name under `runs` in params.yaml")
    options.add_argument("folder", type=Path, help="of the model: runs/RUN/backbone or models/NAME")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
