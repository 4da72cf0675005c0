"""Seconds to find out that there is nothing to do, with IJB-B, IJB-C and TinyFace at true size, unpacked beside packed.

    python -m benchmarks.bench_looking FOLDER                                    # 857,000 images; FOLDER is kept
    python -m benchmarks.bench_looking FOLDER --ijbb 60 --ijbc 60 --tinyface 20 --runs 3

FOLDER gets the sets (files of 200 bytes that are no images), the same packed by `facet pack`, and a project for each,
whose runs are measured on all three. Nothing is trained: outputs are made up and committed to DVC. Then each command
looks, first with nothing known of the folder, then again. At last every image of IJB is read. Wall seconds: run it
alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import yaml

from stages.core.images.alignment import TEMPLATE_52
from stages.datasets import ijb, insightface_rec, verification_bin
from stages.io import packed_images

ROOT = Path(__file__).resolve().parent.parent
IMAGE_BYTES = 200
PROBES, MATES = 3728, 4443
SETS = ("ijb/IJBB", "ijb/IJBC", "tinyface")
CODE = ("stages", "pipeline", "graph", "profiles", "tables", "dvc.yaml", ".dvcignore", ".gitignore")
NAMED = ("arcface", "cosface", "adaface")  # in tables/heads.yaml
BENCHMARKS = {
    "hq": {"sets": ["lfw"]}, "ijb": {"sets": ["IJBB", "IJBC"], "protocols": ["1:1"]}, "lq": {"sets": ["tinyface"]},
    "fiqa": {"sets": ["lfw", "IJBC"]},
}  # fmt: skip
LOOKS = {
    "dvc status": (["dvc", "status"], "up to date"),
    "dvc repro": (["dvc", "repro"], "up to date"),
    "facet run": ([sys.executable, "-m", "pipeline.cli", "run", "--no-track"], "up to date"),
}
LIST = [sys.executable, "-m", "stages.runtime.set_pins"]


def make_sets(root: Path, ijbb: int, ijbc: int, distractors: int) -> None:
    """Write a data set of one's own: records to train on, LFW, and the three sets in their official layouts."""
    rng = np.random.default_rng(0)
    insightface_rec.write(root / "train", [(rng.bytes(IMAGE_BYTES), label // 2) for label in range(8)], 4)
    (root / "eval").mkdir()
    verification_bin.write(root / "eval/lfw.bin", [rng.bytes(IMAGE_BYTES) for _ in range(40)], [True, False] * 10)
    for name, count in (("IJBB", ijbb), ("IJBC", ijbc)):
        make_ijb(root / "eval/ijb" / name, count, rng)
    make_tinyface(root / "eval/tinyface", distractors, rng)


def make_ijb(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Write loose crops and lists of one set: templates of twenty images, a thousand pairs."""
    (folder / "loose_crop").mkdir(parents=True)
    (folder / "meta").mkdir()
    landmarks = " ".join(f"{value:.2f}" for value in TEMPLATE_52.ravel())
    names = [f"{number}.jpg" for number in range(1, count + 1)]
    for name in names:
        (folder / "loose_crop" / name).write_bytes(rng.bytes(IMAGE_BYTES))
    templates = count // 20
    lists = {
        "name_5pts_score": (f"{name} {landmarks} 0.99" for name in names),
        "face_tid_mid": (f"{name} {row % templates} {row}" for row, name in enumerate(names)),
        "template_pair_label": (f"{k % templates} {(k + k % 2) % templates} {1 - k % 2}" for k in range(1000)),
    }
    for stem, lines in lists.items():
        write_lines(folder / "meta" / f"{folder.name.lower()}_{stem}.txt", lines)


def make_tinyface(folder: Path, distractors: int, rng: np.random.Generator) -> None:
    """Write aligned faces, lists, and the names of the distractors; as many probes and mates as published, or fewer."""
    testing, aligned = folder / "tinyface/Testing_Set", folder / "aligned_pad_0.1_pad_high"
    for kind, key, count, image in (
        ("Probe", "probe", min(PROBES, distractors), 1), ("Gallery_Match", "gallery", min(MATES, distractors), 2),
        ("Gallery_Distractor", "", distractors, 3),
    ):  # fmt: skip
        (testing / kind).mkdir(parents=True)
        (aligned / kind).mkdir(parents=True)
        names = [f"{subject}_{image}.jpg" for subject in range(1, count + 1)]
        for name in names:
            (aligned / kind / name).write_bytes(rng.bytes(IMAGE_BYTES))
            if not key:
                (testing / kind / name).write_bytes(b"")
        if key:
            cells = np.empty((count, 1), dtype=object)
            cells[:, 0] = names
            stem = "probe_img" if key == "probe" else "gallery_match_img"
            subjects = np.arange(1.0, count + 1)[:, None]
            scipy.io.savemat(testing / f"{stem}_ID_pairs.mat", {f"{key}_set": cells, f"{key}_ids": subjects})


def write_lines(path: Path, lines: Iterator[str]) -> None:
    """Write lines of text."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def pack(loose: Path, packed: Path) -> None:
    """Pack the three sets; copy what else there is."""
    for name in SETS:
        (packed / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "stages.tools.pack", str(loose / "eval" / name), str(packed / "eval" / name)]
        subprocess.run(command, check=True, cwd=ROOT)
    shutil.copytree(loose / "train", packed / "train")
    shutil.copyfile(loose / "eval/lfw.bin", packed / "eval/lfw.bin")


def make_project(path: Path, data: Path, num_runs: int) -> None:
    """Write a project of this checkout's code with runs on ``data``, all of whose outputs are there and committed."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in tracked.split("\0"):
        if name.split("/")[0] in CODE:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path / name)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    runs = dict(tree["runs"])
    runs |= {f"run{number}": runs[NAMED[0]] for number in range(len(NAMED), num_runs)}
    tree |= {
        "synthetic": {}, "datasets": {"mine": {"root": str(data), "benchmarks": BENCHMARKS}},
        "runs": {name: {**run, "dataset": "mine"} for name, run in runs.items()},
    }  # fmt: skip
    (path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
        run(command, path)


def finish(path: Path) -> None:
    """Make up the outputs of all stages and commit them to DVC."""
    run([sys.executable, "-m", "stages.resolve"], path)
    from dvc.repo import Repo

    with Repo(str(path)) as repo:
        outs = [Path(out.fs_path) for out in repo.index.outs]
        deps = [Path(dep.fs_path) for dep in repo.index.deps]
    for made in (*deps, *outs):
        if not made.exists() and made.suffix:
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text("a\n1\n" if made.suffix == ".csv" else "{}\n", encoding="utf-8")
    for made in outs:
        if not made.exists():
            made.mkdir(parents=True)
            (made / "made_up.json").write_text("{}\n", encoding="utf-8")
    run(["dvc", "commit", "--force", "--quiet"], path)
    run(["git", "add", "-A"], path)
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "made up"], path)


def run(command: Sequence[str], path: Path, expected: str = "") -> float:
    """Run a command in a project; return its wall seconds.

    Raises:
        RuntimeError: it failed, or did not print what is expected.
    """
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    began = time.perf_counter()
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode or expected not in done.stdout + done.stderr:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def measured(path: Path, data: Path, num_runs: int) -> dict[str, float]:
    """Return the seconds of the first list, of finding that the list still holds, and of each look."""
    make_project(path, data, num_runs)
    finish(path)
    shutil.rmtree(path / ".facet")  # what is known of the folder
    found = {"first hash": run(LIST, path), "look at the folder": run(LIST, path)}
    for name, (command, expected) in LOOKS.items():
        found[name] = run(command, path, expected)
    return found


def reading(data: Path) -> float:
    """Return the seconds of reading the bytes of every image in the order of evaluation, files on a warm disk."""
    began = time.perf_counter()
    for name in ("IJBB", "IJBC"):
        chosen = ijb.load(data / "eval/ijb", name)
        for image in chosen.names:
            packed_images.read(chosen.packed, data / "eval/ijb" / name, f"{ijb.CROPS}/{image}")
    return time.perf_counter() - began


def main() -> None:
    """Make the sets, pack them, and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--ijbb", type=int, default=227_630)
    options.add_argument("--ijbc", type=int, default=469_375)
    options.add_argument("--tinyface", type=int, default=153_428, help="distractors")
    options.add_argument("--runs", type=int, default=14)
    arguments = options.parse_args()
    folder: Path = arguments.folder.resolve()
    loose, packed = folder / "loose", folder / "packed"
    if not loose.exists():
        make_sets(loose, arguments.ijbb, arguments.ijbc, arguments.tinyface)
    if not packed.exists():
        pack(loose, packed)
    sides = {}
    for name, data in (("unpacked", loose), ("packed", packed)):
        project = folder / f"project_{name}"
        shutil.rmtree(project, ignore_errors=True)
        sides[name] = measured(project, data, arguments.runs) | {"read IJB-B, IJB-C": reading(data)}
    print(f"{'seconds':20} {'unpacked':>10} {'packed':>10}")
    for what in sides["packed"]:
        print(f"{what:20} {sides['unpacked'][what]:10.1f} {sides['packed'][what]:10.1f}")


if __name__ == "__main__":
    main()
