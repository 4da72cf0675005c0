"""The published evaluation scripts that `bench_protocols.py` runs, imported from the checkouts the user names."""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import published


@dataclass(frozen=True)
class Checkouts:
    """The published code, imported."""

    adaface: Path
    cr_fiqa: Path

    def ijb(self) -> types.ModuleType:
        """Return AdaFace's 1:1 script; what it would print as a table, it prints as ``TAR ...``, and draws nothing."""

        class Rows(list[Any]):
            def __init__(self, header: Any) -> None:
                super().__init__()

            def add_row(self, row: Any) -> None:
                self.append(row)
                print("TAR", *row[1:])

        table = types.ModuleType("prettytable")
        table.PrettyTable = Rows  # type: ignore[attr-defined]
        return published.load(
            self.adaface / "validation_mixed/insightface_ijb_helper/eval_helper.py",
            prettytable=table, matplotlib__pyplot=published.StandIn("pyplot"),
            menpo__visualize__viewmatplotlib=_colours(),
        )  # fmt: skip

    def search(self) -> types.ModuleType:
        """Return AdaFace's 1:N script."""
        return published.load(
            self.adaface / "validation_mixed/insightface_ijb_helper/eval_helper_identification.py"
        )

    def folds(self) -> types.ModuleType:
        """Return AdaFace's ten folds."""
        return published.load(self.adaface / "evaluate_utils.py")

    def tinyface(self) -> types.ModuleType:
        """Return AdaFace's TinyFace test."""
        return published.load(self.adaface / "validation_lq/tinyface_helper.py")

    def thresholds(self) -> types.ModuleType:
        """Return CR-FIQA's search of thresholds."""
        return published.load(self.cr_fiqa / "ERC/roc.py")


def _colours() -> types.ModuleType:
    module = types.ModuleType("viewmatplotlib")
    module.sample_colours_from_colourmap = lambda count, name: [0] * count  # type: ignore[attr-defined]
    return module
