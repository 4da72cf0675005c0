"""Stage `recognition`: records a network whose embeddings judge the quality scores of all runs (cross-model curves).

    python -m stages.recognition arcface runs/arcface/backbone
    python -m stages.recognition

Writes recognition/NAME.json: its folder, and which weights are in it. Suite `fiqa` looks there for the names under
``benchmarks.fiqa.recognition``. Without arguments it writes recognition/names.json, so that the folder is there for
DVC to depend on where nobody is named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.errors import InputError
from stages.models import lookup
from stages.runtime import artifacts, program

FOLDER = Path("recognition")
NOBODY = "names"


def main(arguments: argparse.Namespace) -> None:
    """Write the record.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: a name without a folder, or the one name that is taken.
    """
    if arguments.name is None:
        artifacts.write_json(FOLDER / f"{NOBODY}.json", {})
        return
    if arguments.folder is None or arguments.name == NOBODY:
        raise InputError(f"give a name other than `{NOBODY}` and a folder, got {arguments.name} {arguments.folder}")
    model = arguments.folder / "model.json"
    if not model.is_file():
        raise FileNotFoundError(f"{model} is missing: give the folder of a trained or imported network")
    weights = artifacts.read_json(model)["weights_sha256"]
    tree = {"folder": arguments.folder.as_posix(), "weights_sha256": weights}
    artifacts.write_json(FOLDER / f"{arguments.name}.json", tree)


def backbone(name: str) -> Path:
    """Return the folder of a network by its name under `recognition`, else of the run or imported model of that name.

    Raises:
        LookupError: nothing has that name.
        ValueError: its folder holds other weights than were named.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return lookup.find(name).backbone
    tree = artifacts.read_json(path)
    folder = Path(tree["folder"])
    if artifacts.read_json(folder / "model.json")["weights_sha256"] != tree["weights_sha256"]:
        raise InputError(f"{folder} has other weights than recorded in {path}: run `dvc repro`")
    return folder


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    commands = argparse.ArgumentParser(prog="python -m stages.recognition", description=__doc__.splitlines()[0])
    commands.add_argument("name", nargs="?", help="its name in metrics: SET_METHOD_..._by_NAME")
    commands.add_argument("folder", nargs="?", type=Path, help="folder with model.json and weights.pt")
    return commands


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
