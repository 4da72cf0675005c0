"""Stage `synthesize`: renders a synthetic data set in the official layouts, with its ground truth.

    python -m stages.synthesize demo

Reads the section `synthesize` of resolved/synthetic/NAME.yaml; writes data/NAME/train and data/NAME/eval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import pandas as pd

from stages.datasets import insightface_rec, verification_bin
from stages.runtime import artifacts, program
from stages.runtime.progress import Progress
from stages.synthesis import cache, layouts, layouts_other_sets, plan, plan_other_sets
from stages.synthesis.config import Config
from stages.synthesis.rendering import Drawn, cores, draw_all

P = TypeVar("P", plan.Ijb, plan.Listed, plan_other_sets.Ijbs, plan_other_sets.NamedPairs)


def main(arguments: argparse.Namespace) -> None:
    """Render the training set, then the test sets."""
    described = artifacts.RESOLVED / "synthetic" / f"{arguments.dataset}.yaml"
    config = artifacts.read_section(described, "synthesize", Config)
    # never by `places.of`, which may be a person's own
    home = artifacts.DATA / arguments.dataset
    cv2.setNumThreads(1)  # one face is too small to share
    studio = Studio(config, arguments.processes or cores())
    with artifacts.write_folder(home / "train") as folder:
        studio.write_train(folder)
    asked = {"seed": config.seed, "eval": config.eval.model_dump(mode="json")}
    with artifacts.write_folder(home / "eval") as folder:
        cache.fill(folder, asked, studio.write_eval)


class Studio:
    """Renders and writes the sets of one configuration."""

    def __init__(self, config: Config, processes: int) -> None:
        self.config, self.processes = config, processes

    def write_train(self, folder: Path) -> None:
        """Write the training set and its truth: key, identity, quality and more of each image."""
        rows: list[dict[str, object]] = []
        few = plan.low_variance_identities(self.config)

        def images() -> Iterator[tuple[bytes, int]]:
            for drawn in self._draw("train", plan.train_sittings(self.config)):
                rows.extend({"key": one.slot + 1, **_known(one)} for one in drawn)
                yield from ((one.jpeg, one.identity) for one in drawn)

        insightface_rec.write(folder, images(), self.config.train.identities)
        table = pd.DataFrame(rows)
        if few:
            table["low_variance"] = table["identity"].isin(few)
        table.to_parquet(folder / "truth.parquet", index=False)

    def write_eval(self, folder: Path) -> None:
        """Write every test set, and one table with the ground truth of each image."""
        rows: list[dict[str, object]] = []
        for name in plan.PAIR_SETS:
            rows += self._write_pairs(folder, name)
        eval_, draw = self.config.eval, self._draw_set
        rows += draw("IJBB", plan.ijb(self.config), folder / "ijb" / "IJBB", layouts.write_ijb)
        rows += draw("tinyface", plan.tinyface(self.config), folder / "tinyface", layouts.write_tinyface)
        rows += draw("scface", plan.scface(self.config), folder / "scface", layouts.write_scface)
        if eval_.ijbc_templates:
            write = partial(layouts.write_ijb, galleries=("G1", "G2"))
            rows += draw("IJBC", plan.ijb(self.config, "IJBC"), folder / "ijb" / "IJBC", write)
        if eval_.ijbs_subjects:
            rows += draw("ijbs", plan_other_sets.ijbs(self.config), folder / "ijbs", layouts_other_sets.write_ijbs)
        if eval_.adience_images:
            planned = plan_other_sets.adience(self.config)
            rows += draw("adience", planned, folder / "adience", layouts_other_sets.write_adience)
        if eval_.xqlfw_pairs:
            rows += draw("xqlfw", plan_other_sets.xqlfw(self.config), folder / "xqlfw", layouts_other_sets.write_xqlfw)
        for name in plan.MORE_PAIR_SETS if eval_.more_pairs else ():
            rows += self._write_pairs(folder, name)
        pd.DataFrame(rows).to_parquet(folder / "truth.parquet", index=False)

    def _write_pairs(self, folder: Path, name: str) -> list[dict[str, object]]:
        pairs = plan.pairs(self.config, name)
        drawn = self._in_order(name, pairs.sittings)
        verification_bin.write(folder / f"{name}.bin", [one.jpeg for one in drawn], pairs.is_same)
        return _truth(name, drawn, [str(one.slot) for one in drawn])

    def _draw_set(
        self, name: str, planned: P, folder: Path, write: Callable[[Path, P, list[Drawn]], list[str]]
    ) -> list[dict[str, object]]:
        drawn = self._in_order(name, planned.sittings)
        return _truth(name, drawn, write(folder, planned, drawn))

    def _in_order(self, name: str, sittings: Sequence[plan.Sitting]) -> list[Drawn]:
        return sorted((one for drawn in self._draw(name, sittings) for one in drawn), key=lambda one: one.slot)

    def _draw(self, name: str, sittings: Sequence[plan.Sitting]) -> Iterator[list[Drawn]]:
        progress = Progress(f"render {name}", sum(len(sitting.pictures) for sitting in sittings), "images")
        for drawn in draw_all(self.config.seed, sittings, self.processes):
            progress.advance(len(drawn))
            yield drawn


def _truth(name: str, drawn: Sequence[Drawn], images: Sequence[str]) -> list[dict[str, object]]:
    return [{"set": name, "image": image, **_known(one)} for one, image in zip(drawn, images, strict=True)]


def _known(one: Drawn) -> dict[str, object]:
    """Return the ground truth: quality in [0, 1], angles in degrees, age from 0 (young) to 1 (old)."""
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
    options.add_argument("dataset", help="name under `synthetic` in params.yaml")
    options.add_argument("--processes", type=int, default=0, help="number of processes (default: one per core)")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
