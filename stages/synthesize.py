"""Stage `synthesize`: draws an embedded data set in the official layouts, with the truth beside it.

    python -m stages.synthesize demo

Reads the section `synthesize` of resolved/embedded/NAME.yaml; writes data/NAME/train and data/NAME/eval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import pandas as pd

from stages import artifacts, program
from stages.datasets import insightface_rec, verification_bin
from stages.progress import Progress
from stages.synthesis import layouts, plan
from stages.synthesis.config import Config
from stages.synthesis.drawing import Drawn, cores, draw_all


def main(arguments: argparse.Namespace) -> None:
    """Draw the training set, then the test sets."""
    config = artifacts.read_section(artifacts.RESOLVED / "embedded" / f"{arguments.dataset}.yaml", "synthesize", Config)
    cv2.setNumThreads(1)  # one face is too small to share
    studio = Studio(config, arguments.processes or cores())
    with artifacts.write_folder(artifacts.train_folder(arguments.dataset)) as folder:
        studio.write_train(folder)
    with artifacts.write_folder(artifacts.eval_folder(arguments.dataset)) as folder:
        studio.write_eval(folder)


class Studio:
    """Draws and writes the sets of one configuration."""

    def __init__(self, config: Config, processes: int) -> None:
        self.config, self.processes = config, processes

    def write_train(self, folder: Path) -> None:
        """Write the training set and its truth: key, identity, quality and more of each image."""
        rows: list[dict[str, object]] = []

        def images() -> Iterator[tuple[bytes, int]]:
            for drawn in self._draw("train", plan.train_sittings(self.config)):
                rows.extend({"key": one.slot + 1, **_known(one)} for one in drawn)
                yield from ((one.jpeg, one.identity) for one in drawn)

        insightface_rec.write(folder, images(), self.config.train.identities)
        pd.DataFrame(rows).to_parquet(folder / "truth.parquet", index=False)

    def write_eval(self, folder: Path) -> None:
        """Write every test set, and one table of what each image shows."""
        rows: list[dict[str, object]] = []
        for name in plan.PAIR_SETS:
            pairs = plan.pairs(self.config, name)
            drawn = self._in_order(name, pairs.sittings)
            verification_bin.write(folder / f"{name}.bin", [one.jpeg for one in drawn], pairs.is_same)
            rows += _truth(name, drawn, [str(one.slot) for one in drawn])
        ijb = plan.ijb(self.config)
        drawn = self._in_order("IJBB", ijb.sittings)
        rows += _truth("IJBB", drawn, layouts.write_ijb(folder / "ijb" / "IJBB", ijb, drawn))
        tinyface = plan.tinyface(self.config)
        drawn = self._in_order("tinyface", tinyface.sittings)
        rows += _truth("tinyface", drawn, layouts.write_tinyface(folder / "tinyface", tinyface, drawn))
        scface = plan.scface(self.config)
        drawn = self._in_order("scface", scface.sittings)
        rows += _truth("scface", drawn, layouts.write_scface(folder / "scface", scface, drawn))
        pd.DataFrame(rows).to_parquet(folder / "truth.parquet", index=False)

    def _in_order(self, name: str, sittings: Sequence[plan.Sitting]) -> list[Drawn]:
        return sorted((one for drawn in self._draw(name, sittings) for one in drawn), key=lambda one: one.slot)

    def _draw(self, name: str, sittings: Sequence[plan.Sitting]) -> Iterator[list[Drawn]]:
        progress = Progress(f"draw {name}", sum(len(sitting.pictures) for sitting in sittings), "images")
        for drawn in draw_all(self.config.seed, sittings, self.processes):
            progress.advance(len(drawn))
            yield drawn


def _truth(name: str, drawn: Sequence[Drawn], images: Sequence[str]) -> list[dict[str, object]]:
    return [{"set": name, "image": image, **_known(one)} for one, image in zip(drawn, images, strict=True)]


def _known(one: Drawn) -> dict[str, object]:
    """Return what is known: quality in [0, 1], angles in degrees, age from 0 (young) to 1 (old)."""
    face, wear = one.shot.face, one.shot.wear
    return {
        "identity": one.identity,
        "quality": one.quality,
        "yaw_deg": face.yaw,
        "pitch_deg": face.pitch,
        "age": face.age,
        "glasses": wear.glasses,
        "hat": wear.hat,
    }


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("dataset", help="a name under `embedded` in params.yaml")
    options.add_argument("--processes", type=int, default=0, help="how many draw at a time (default: every core)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
