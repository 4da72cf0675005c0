"""Records per CPU second, ours against mxnet's own reader, in turns, since a machine is never quiet.

    FACET_MXNET_PYTHON=.venv-mxnet/bin/python python benchmarks/bench_recordio.py [--records N] [--rounds N]

`make test-mxnet` builds that environment. Both read the same file (random bytes as images, 3.5 kB in the
mean, in the page cache). Every round starts a process of each kind anew and does each task three times; the
fastest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TASKS = ("open", "random read + unpack", "sequential", "labels of all")


def ours(rec: str, idx: str) -> dict[str, Callable[[], object]]:
    """Return the tasks as our reader does them."""
    from stages.core.recordio.reader import RecordReader

    reader = RecordReader(rec, idx)
    keys = shuffled(reader.keys.tolist())
    return {
        "open": lambda: RecordReader(rec, idx),
        "random read + unpack": lambda: [None for key in keys if reader.entry(key)[1] is None],
        "sequential": lambda: sum(len(payload) for _, payload in reader.scan()),
        "labels of all": reader.labels,
    }


def mxnets(rec: str, idx: str) -> dict[str, Callable[[], object]]:
    """Return the tasks as mxnet does them, labels as AdaFace's record_dataset.py does."""
    from mxnet import recordio

    reader = recordio.MXIndexedRecordIO(idx, rec, "r")
    keys = shuffled(reader.keys)

    def sequential() -> int:
        whole, size = recordio.MXRecordIO(rec, "r"), 0
        while (payload := whole.read()) is not None:
            size += len(payload)
        return size

    return {
        "open": lambda: recordio.MXIndexedRecordIO(idx, rec, "r"),
        "random read + unpack": lambda: [
            None for key in keys if recordio.unpack(reader.read_idx(key))[1] is None
        ],
        "sequential": sequential,
        "labels of all": lambda: [recordio.unpack(reader.read_idx(key))[0].label for key in reader.keys],
    }


def shuffled(keys: list[int]) -> list[int]:
    """Return the keys in the same random order for both."""
    return random.Random(0).sample(keys, len(keys))


def seconds(task: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of three."""
    taken = []
    for _ in range(3):
        begin = time.process_time()
        task()
        taken.append(time.process_time() - begin)
    return min(taken)


def write_records(folder: Path, count: int) -> None:
    """Write ``count`` images of random bytes, 2.5 to 4.6 kB."""
    from stages.core.recordio.reader import Header, RecordWriter, pack

    draw = random.Random(1)
    pool = draw.randbytes(1 << 20)
    with RecordWriter(folder / "a.rec", folder / "a.idx") as writer:
        for key in range(count):
            begin = draw.randrange(1 << 19)
            image = pool[begin : begin + draw.randrange(2500, 4600)]
            writer.write(key, pack(Header(0, float(key // 20), key, 0), image))


def measure(python: str, kind: str, folder: Path) -> dict[str, float]:
    """Return the seconds of every task, in a process of its own."""
    command = [python, __file__, "--worker", kind, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, folder = options.worker
        tasks = {"ours": ours, "mxnet": mxnets}[kind](f"{folder}/a.rec", f"{folder}/a.idx")
        print(json.dumps({name: seconds(task) for name, task in tasks.items()}))
        return
    other = os.environ.get("FACET_MXNET_PYTHON")
    if not other:
        sys.exit(
            "error: FACET_MXNET_PYTHON should name the Python of .venv-mxnet; `make test-mxnet` builds it"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_records(folder, options.records)
        rounds = [
            (measure(sys.executable, "ours", folder), measure(other, "mxnet", folder))
            for _ in range(options.rounds)
        ]
    print(f"{'task':22}{'ours, k/s':>12}{'mxnet, k/s':>12}{'ratio':>8}   range of {options.rounds} rounds")
    for task in TASKS:
        ratios = sorted(theirs[task] / our[task] for our, theirs in rounds)
        rates = [
            options.records / statistics.median(pair[side][task] for pair in rounds) / 1e3 for side in (0, 1)
        ]
        print(
            f"{task:22}{rates[0]:12.0f}{rates[1]:12.0f}{statistics.median(ratios):8.1f}   "
            f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        )


if __name__ == "__main__":
    main()
