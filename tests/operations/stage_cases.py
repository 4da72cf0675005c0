"""Pieces of work of `stages/` that write files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from stages.core.metrics.features import Features
from stages.embedding import feature_cache
from stages.packing import journal, pictures, plan, write
from stages.pictures import score
from stages.pictures.detect import Face
from stages.runtime import artifacts, locks, pin, places, progress, set_pins
from stages.synthesis import cache
from stages.training.checkpoints import Checkpoints, Snapshot
from tests.operations.case import Case
from tests.operations.reading import folder, texts
from tests.stages import small_sets, unpacking

RESULT = Path("results/r/hq.json")
LONG = [index / 7 for index in range(2000)]  # more than one write


def _files(number: int) -> None:
    artifacts.write_json(RESULT, {"lfw": number, "all": LONG})
    artifacts.write_yaml(Path("resolved/runs/r.yaml"), {"train": {"seed": number}})
    artifacts.write_csv(Path("results/r/train.csv"), ["step", "loss"], [[step, number] for step in range(3)])


def _folder(number: int) -> None:
    with artifacts.write_folder(Path("results/r/hq")) as aside:
        artifacts.write_json(aside / "details.json", {"number": number, "all": LONG})
        (aside / "curves").mkdir()
        for name in "ab":
            artifacts.write_csv(aside / "curves" / f"{name}.csv", ["far"], [[number]])


def snapshot(step: int) -> Snapshot:
    rows = {"weight": torch.full((3, 2), float(step))}
    return Snapshot(step, {"loss": step / 10}, rows, 0, 3, {"queue": torch.tensor([float(step)])})


def _three_checkpoints() -> None:
    for step in (1, 2):
        Checkpoints("key").save(snapshot(step))


def _prepare_and_save() -> None:
    checkpoints = Checkpoints("key")
    checkpoints.prepare()
    checkpoints.save(snapshot(3))


def _last() -> dict[str, Any]:
    last = Checkpoints("key").last()
    return {} if last is None else {"last": (last.step, last.shared["loss"], last.rows["weight"].tolist(), last.own["queue"].tolist())}


def _train_set() -> None:
    unpacking.IMAGES[:] = unpacking.IMAGES[::4]
    unpacking.write()
    unpacking.configure("folder")
    unpacking.run()
    unpacking.IMAGES[1] = (unpacking.IMAGES[2][0], 1)
    unpacking.write()
    unpacking.configure("folder")


def _pictures() -> None:
    for person in ("ann", "bob", "cem"):
        for number in range(2):
            path = Path("photos", person, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(small_sets.encoded(ord(person[0]), number))


def _pack(source: str) -> None:
    journal.FLUSH_EVERY = 2
    target = Path("packed")
    if not target.exists():  # what `facet pack` is told in one sentence, and is no fault
        write.write(Path(source), target, plan.of(Path(source)), pictures.as_it_is)


def _shelf(number: int) -> None:
    shelf = feature_cache.Shelf("network")
    key = bytes([number]) * 17
    with shelf.one_pass(key):
        if shelf.get(key) is None:
            shelf.put([key], np.full((1, 4), number, np.float32))
    feature_cache.prune("network")


def _shelved() -> dict[str, Any]:
    shelf = feature_cache.Shelf("network")
    rows = {number: shelf.get(bytes([number]) * 17) for number in (1, 2)}
    return {str(number): row.tolist() for number, row in rows.items() if row is not None}


def _damaged_shelf() -> None:
    _shelf(1)
    (path,) = Path(".facet/embeddings/network").glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    Path(".facet/embeddings/old").mkdir()
    Path(".facet/embeddings/old/1.npz").write_bytes(b"0" * 100)


def _repaired() -> None:
    os.environ["FACET_EMBEDDINGS_GB"] = "0"
    _shelf(1)


def _draw(number: int) -> None:
    def fill(aside: Path) -> None:
        (aside / "lfw.bin").write_bytes(bytes([number]) * 5000)
        (aside / "ijb").mkdir()
        (aside / "ijb" / "meta.txt").write_text(str(number))

    with artifacts.write_folder(Path("data/demo/eval")) as home:
        cache.fill(home, {"seed": number}, fill)


def _drawn_before() -> None:
    cache.KEPT = 1
    _draw(1)


def _person_s_folder() -> None:
    small_sets.write_train(Path("mine/train"))
    small_sets.write_bin(Path("mine/eval/lfw.bin"), num_pairs=4)
    _pins(["lfw"], ["r", "gone"])
    (Path("mine/eval/lfw.bin")).unlink()
    small_sets.write_bin(Path("mine/eval/own.bin"), num_pairs=6)
    for path in Path("mine").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def _pins(sets: list[str], runs: list[str]) -> None:
    root = Path("mine")
    pin.refuse_in_the_way("mine", root)
    for part in ("train", "eval"):
        pin.pin(places.find(root, part), Path("data/mine", part))
    section = {"evaluate_hq": {"dataset": "mine", "switches": {"sets": sets}}}
    set_pins.write_all({"mine": root}, {run: section for run in runs})


def _look_at_pictures() -> None:
    for number in range(6):
        path = Path("photos", f"{number}.png")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(small_sets.encoded(number))


def _scored() -> list[score.Row]:
    score.BATCH_SIZE = 2
    # the real reading and journal; a face is a picture as it is, for no detector's sake
    how = score.Scoring(
        lambda image: [Face(cv2.resize(image, (112, 112)), (0.0, 0.0, 1.0, 1.0), np.zeros((5, 2)), 1.0)],
        lambda images: Features(np.array([[image.mean(), 1.0] for image in images], np.float32), None), {}, False, "key",
    )  # fmt: skip
    rows = score.score_folder(Path("photos"), how, Path("out/scores.csv.journal"))
    with artifacts.write_file(Path("out/scores.csv")) as aside:
        aside.write_text(json.dumps([[row["file"], row["feature_norm"]] for row in rows]))
    Path("out/scores.csv.journal").unlink(missing_ok=True)
    return rows


def _points() -> None:
    os.environ["FACET_LOG_FILE"] = "logs/train.jsonl"
    progress.log_point(1, loss=0.5)


def _a_lock() -> None:
    os.close(locks.open_file(Path("locks/gpu-0")))
    with locks.held(Path("own/services.lock")):
        pass


CASES = [
    Case(
        "files of results", "JSON, YAML and CSV of a stage, over those before",
        ("stages.runtime.files.replacing", "stages.runtime.artifacts.write_json", "stages.runtime.artifacts.write_yaml",
         "stages.runtime.artifacts.write_csv", "stages.runtime.artifacts.write_file"),
        lambda: _files(2), lambda: texts("results/**/*", "resolved/**/*"), lambda: _files(1),
    ),
    Case(
        "folder of results", "a stage's folder, over the one before",
        ("stages.runtime.artifacts.write_folder", "stages.runtime.files.replace_folder"), lambda: _folder(2), lambda: folder("results/r/hq"), lambda: _folder(1),
    ),
    Case(
        "checkpoint", "the third of a training run, of which two are kept",
        ("stages.training.checkpoint_files.save", "stages.training.checkpoint_files.take_digest",
         "stages.training.checkpoint_files.sync", "stages.training.checkpoints.Checkpoints.prepare",
         "stages.training.checkpoints.Checkpoints._write", "stages.training.checkpoints.Checkpoints._finish",
         "stages.training.checkpoints.Checkpoints._prune"),
        _prepare_and_save, _last, _three_checkpoints,
    ),
    Case(
        "checkpoints of a finished training", "their removal",
        ("stages.training.checkpoints.Checkpoints.clear",), lambda: Checkpoints("key").clear(), _last, _three_checkpoints,
        may_vanish=("last",),
    ),
    Case(
        "unpacked set", "manifest, card and images of another record file",
        ("stages.unpack.begin_aside", "stages.unpack.finish_aside", "stages.unpack.write_manifest",
         "stages.unpacking.check.write_once"),
        unpacking.run, lambda: folder("data/unpacked/tiny"), _train_set,
    ),
    Case(
        "packed people", "`facet pack` of a folder of people",
        ("stages.packing.write.write", "stages.packing.write._alone", "stages.packing.write._finish",
         "stages.packing.write._write_table", "stages.packing.people.finish", "stages.packing.journal.Journal.__enter__",
         "stages.packing.journal.Journal.__exit__"),
        lambda: _pack("photos"), lambda: folder("packed"), _pictures,
    ),
    Case(
        "packed test set", "`facet pack` of SCface",
        ("stages.packing.write._write_index",), lambda: _pack("scface"), lambda: folder("packed"),
        lambda: small_sets.write_scface(Path("scface"), 2),
    ),
    Case(
        "embeddings", "the cache of features",
        ("stages.embedding.feature_cache.Shelf.flush", "stages.embedding.feature_cache.Shelf.one_pass"),
        lambda: _shelf(2), _shelved, lambda: _shelf(1), best_effort=True, stays=("*.npz.partial",),
    ),
    Case(
        "embeddings, damaged", "a file of it that is thrown away, and a network too many",
        ("stages.embedding.feature_cache.Shelf._drop", "stages.embedding.feature_cache.prune"),
        _repaired, lambda: {"network": Path(".facet/embeddings/old").is_dir() or None}, _damaged_shelf, best_effort=True, stays=("*.npz.partial",),
        may_vanish=("network",),
    ),
    Case(
        "synthetic test sets", "the cache of what was rendered, the oldest forgotten",
        ("stages.synthesis.cache.fill", "stages.synthesis.cache._forget_old"),
        lambda: _draw(2), lambda: folder("data/demo/eval"), _drawn_before,
    ),
    Case(
        "pins", "lists of a person's folder, digests of its sets, the memory of what was read",
        ("stages.runtime.pin.pin", "stages.runtime.pin.write_list", "stages.runtime.pin.listing", "stages.runtime.pin._listing",
         "stages.runtime.set_pins.SetPins._digest", "stages.runtime.set_pins.write_all"),
        lambda: _pins(["lfw", "own"], ["r"]), lambda: texts("data/mine/**/*", "pins/**/*"), _person_s_folder,
        may_vanish=("data/mine/sets/lfw.lst", "data/mine/sets/lfw.txt"), stays=("*.partial",),
    ),
    Case(
        "scores of pictures", "`facet score` with its journal",
        ("stages.pictures.score.score_folder",), _scored, lambda: texts("out/scores.csv"), _look_at_pictures,
    ),
    Case(
        "measurements", "a point of a training curve",
        ("stages.runtime.progress.log_point",), _points, lambda: {}, best_effort=True,
    ),
    Case(
        "locks", "lock files of devices and of servers",
        ("stages.runtime.locks.open_file", "stages.runtime.locks.held"), _a_lock,
        lambda: {name: Path(name).is_file() or None for name in ("locks/gpu-0", "own/services.lock")},
    ),
]  # fmt: skip
