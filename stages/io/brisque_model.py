"""BRISQUE's regression, read from the data files of the package ``brisque`` (0.2.0); none of its code is run.

They are the released program's: support vectors in libsvm's text format, and the range of each feature as a pickle of
two lists. The package's own code stops at numpy 2.4; ``stages/core/images/brisque.py`` computes the features.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images import brisque
from stages.core.images.brisque import Regression

NUM_FEATURES = 36


def installed() -> Path:
    """Return the folder of the package's data files.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec("brisque")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "BRISQUE, as a quality method or as AdaFace's proxy one_minus_brisque, needs its trained numbers, which "
            "come with the package brisque: run `pip install --no-deps brisque==0.2.0`"
        )
    return Path(found.submodule_search_locations[0]) / "models"


def read(folder: Path) -> Regression:
    """Return the regression.

    Raises:
        ValueError: a file is not what it should be.
        FileNotFoundError: a file is missing.
    """
    ranges = _ranges(folder / "normalize.pickle")
    header, _, body = (folder / "svm.txt").read_text(encoding="ascii").partition("\nSV\n")
    fields = dict(line.split(" ", 1) for line in header.splitlines())
    if fields.get("kernel_type") != "rbf" or fields.get("svm_type") != "epsilon_svr":
        raise InputError(f"{folder / 'svm.txt'}: wanted libsvm's epsilon_svr with an rbf kernel, got {header[:60]!r}")
    rows = [line.split() for line in body.splitlines() if line.strip()]
    vector_SF = np.zeros((len(rows), NUM_FEATURES))
    for row, (_, *cells) in enumerate(rows):
        for cell in cells:
            index, value = cell.split(":")
            vector_SF[row, int(index) - 1] = float(value)
    weight_S = np.array([float(cells[0]) for cells in rows])
    low_F, high_F = (np.array(ranges[key], dtype=np.float64) for key in ("min_", "max_"))
    return Regression(vector_SF, weight_S, float(fields["gamma"]), float(fields["rho"]), low_F, high_F)


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise InputError(f"the file should hold lists of numbers, but names {module}.{name}, which would run code")


def _ranges(path: Path) -> dict[str, list[float]]:
    with path.open("rb") as file:
        tree = _Plain(file).load()
    good = isinstance(tree, dict) and all(len(tree.get(key, ())) == NUM_FEATURES for key in ("min_", "max_"))
    if not good:
        raise InputError(f"{path}: wanted `min_` and `max_` of {NUM_FEATURES} features")
    ranges: dict[str, list[float]] = tree
    return ranges


def qualities(image_BHW3: NDArray[np.uint8], regression: Regression) -> NDArray[np.float32]:
    """Return 1 - BRISQUE / 100 of each image, uint8, blue first: shape (B,), in [0, 1]."""
    return np.array([brisque.quality(image_HW3, regression) for image_HW3 in image_BHW3], np.float32)
