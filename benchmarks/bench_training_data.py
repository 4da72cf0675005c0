"""Images per CPU second of our loader and of AdaFace's own data set, in turns, since a machine is never quiet.

    python benchmarks/bench_training_data.py --adaface CHECKOUT --python PYTHON [--quick]

CHECKOUT is one of mk-minchul/AdaFace, PYTHON an environment that runs it (docs/training-data.md says how to make it).
Both read the same record file (drawn pictures as JPEGs of 3.6 kB, in the page cache) in a process of its own each
time, one thread each, batches of 128, AdaFace's augmentation at 0.2 each. CPU seconds are those of the process and of
its workers, their start and end included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BATCH_SIZE = 128
WORKERS = (0, 1, 2)
WANTED = {0: 8, 1: 6, 2: 5}
"""Times the images per CPU second of AdaFace's class, by number of workers."""
WANTED_OPEN = 40
NUM_PICTURES = 500
Rounds = dict[tuple[str, int], list[dict[str, list[float]]]]
"""By side and number of workers: CPU and wall seconds of `open` and of `load`, and the number of `images`."""


def write_records(folder: Path, count: int) -> float:
    """Write ``count`` images of some drawn pictures, with the index; return their mean size in bytes.

    As im2rec.py writes them: labels are numbers, because a label out of an array is refused by the
    ``torch.tensor(label, dtype=torch.long)`` of AdaFace's class under today's torch.
    """
    import cv2
    import numpy as np

    from stages.core.recordio.reader import Header, RecordWriter, pack

    rng = np.random.default_rng(0)
    images = list[bytes]()
    for _ in range(NUM_PICTURES):
        coarse = rng.integers(0, 256, (10, 10, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC).astype(int)
        noisy = (smooth + rng.integers(-7, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
        images.append(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key in range(count):
            writer.write(key, pack(Header(0, float(key // 50), key, 0), images[key % NUM_PICTURES]))
    return statistics.mean(len(image) for image in images)


def unpack(root: Path, folder: Path) -> None:
    """Let our `unpack` check the records, as it does once for each data set; training opens what it wrote."""
    section = root / "resolved" / "datasets" / "bench.yaml"
    section.parent.mkdir(parents=True)
    section.write_text("unpack: {}\n")
    (root / "data" / "bench").mkdir(parents=True)
    (root / "data" / "bench" / "train").symlink_to(folder)
    subprocess.run([sys.executable, "-m", "stages.unpack", "bench"], cwd=root, env=environment(), check=True)


def ours(workers: int, num_batches: int, normalise: bool) -> dict[str, object]:
    """Return what our side costs, in this process, whose working folder is a project."""
    import cv2
    import torch
    from official_adaface import seconds

    from stages.core.images.augment import Probabilities
    from stages.core.images.pixels import from_rows, to_network
    from stages.core.losses.sampler import Order
    from stages.runtime import devices
    from stages.training.dataset import Samples, load, open_records

    devices.prepare(threads=1)
    cv2.setNumThreads(1)
    os.environ["FACET_LOADER_WORKERS"] = str(workers)
    begin = seconds()
    records = open_records("bench")
    opened = [now - then for now, then in zip(seconds(), begin, strict=True)]
    samples = Samples(records, Probabilities(0.2, 0.2, 0.2), 1, ("training",))
    order = Order(len(records.key_N), BATCH_SIZE, seed=1)
    begin = seconds()
    for image_VBHW3, label_B in load(samples, order, 0, num_batches, torch.device("cpu")):
        assert image_VBHW3.shape == (1, len(label_B), 112, 112, 3)
        if normalise:
            to_network(from_rows(image_VBHW3[0]), "BGR")
    taken = [now - then for now, then in zip(seconds(), begin, strict=True)]
    return {"open": opened, "load": taken, "images": num_batches * BATCH_SIZE}


def environment() -> dict[str, str]:
    """Return the environment of both sides: this checkout, one thread."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}


def run(command: list[str], root: Path) -> dict[str, list[float]]:
    """Return what a side prints, from a process of its own."""
    done = subprocess.run(command, cwd=root, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def compare(options: argparse.Namespace, root: Path, folder: Path) -> Rounds:
    """Return the measurements of every side and number of workers, round by round."""
    here = Path(__file__).resolve()
    official = [options.python, str(here.with_name("official_adaface.py")), str(options.adaface.resolve())]
    measured: Rounds = {}
    for _ in range(options.rounds):
        for workers in WORKERS:
            count = [str(workers), str(options.batches)]
            for side in ("AdaFace", "facet", "facet, normalised"):
                command = [sys.executable, str(here), "--side", side, *count]
                if side == "AdaFace":
                    command = [*official, str(folder), *count, str(BATCH_SIZE)]
                measured.setdefault((side, workers), []).append(run(command, root))
    return measured


def table(measured: Rounds) -> str:
    """Return the Markdown table: medians of the rounds, and the median of the ratios within a round."""

    def rate(side: str, workers: int, clock: int) -> float:
        return statistics.median(r["images"] / r["load"][clock] for r in measured[side, workers])  # type: ignore[operator]

    def ratios(side: str, workers: int, clock: int, of: str = "load") -> list[float]:
        pairs = zip(measured["AdaFace", workers], measured[side, workers], strict=True)
        return sorted(theirs[of][clock] / our[of][clock] for theirs, our in pairs)

    lines = [
        "| workers | AdaFace, images / CPU s | facet | ratio (range) | wanted | ratio of wall time "
        "| with normalising on the same CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for workers in WORKERS:
        cpu, wall = ratios("facet", workers, 0), ratios("facet", workers, 1)
        whole = statistics.median(ratios("facet, normalised", workers, 0))
        lines.append(
            f"| {workers} | {rate('AdaFace', workers, 0):.0f} | {rate('facet', workers, 0):.0f} "
            f"| {statistics.median(cpu):.1f} ({cpu[0]:.1f} to {cpu[-1]:.1f}) | {WANTED[workers]} "
            f"| {statistics.median(wall):.1f} | {whole:.1f} |"
        )
    opened = sorted(ratio for workers in WORKERS for ratio in ratios("facet", workers, 0, "open"))
    seconds = {
        side: statistics.median(r["open"][0] for w in WORKERS for r in measured[side, w])
        for side in ("AdaFace", "facet")
    }
    lines.append(
        f"\nOpening: AdaFace {seconds['AdaFace']:.3f} CPU s, facet {seconds['facet']:.4f} CPU s, both with all labels "
        f"known: {statistics.median(opened):.0f} times ({opened[0]:.0f} to {opened[-1]:.0f}), wanted {WANTED_OPEN}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--adaface", type=Path, help="a checkout of mk-minchul/AdaFace")
    parser.add_argument("--python", help="the Python that runs it")
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of 20 batches: that it runs, not how fast")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, workers, batches = options.side
        print(json.dumps(ours(int(workers), int(batches), side != "facet")))
        return
    if not options.adaface or not options.python:
        sys.exit("error: --adaface and --python are wanted: docs/training-data.md says how to get both")
    if options.quick:
        options.batches, options.rounds = 20, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "records"
        folder.mkdir()
        size = write_records(folder, options.records)
        unpack(Path(name), folder)
        measured = compare(options, Path(name), folder)
    print(table(measured))
    print(
        f"\n{options.records} records of {size:.0f} bytes in the mean, {options.batches * BATCH_SIZE} images read per "
        f"measurement, {options.rounds} rounds, load average {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()
