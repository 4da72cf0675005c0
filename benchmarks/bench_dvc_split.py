"""What DVC itself costs per stage: all stages in one dvc.yaml against one dvc.yaml per repeated stage.

Both sides run the same graph of stages that do nothing but touch a file, alternating, each in a fresh repository; CPU
seconds of the child are the figure, because wall time on a shared machine is noise.

    python benchmarks/bench_dvc_split.py --runs 20 --repeats 2
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
from pathlib import Path

import yaml

STAGES = ("train_backbone", "train_quality", "evaluate_hq", "evaluate_ijb", "evaluate_lq", "evaluate_fiqa")


def template(name: str, wdir: str) -> dict[str, object]:
    """Return one foreach stage whose output feeds the next kind."""
    index = STAGES.index(name)
    source = "params.yaml" if index == 0 else f"out/{STAGES[0]}_${{key}}"
    do = {"cmd": f"mkdir -p out && touch out/{name}_${{key}}", "deps": [source], "outs": [f"out/{name}_${{key}}"]}
    return {"foreach": "${runs}", "do": do if wdir == "." else {"wdir": wdir, **do}}


def build(root: Path, runs: int, *, split: bool) -> None:
    """Write the repository."""
    (root / "params.yaml").write_text(yaml.safe_dump({"runs": {f"r{i}": {"x": i} for i in range(runs)}}))
    last = {"cmd": "touch end", "deps": [f"out/{s}_r{i}" for i in range(runs) for s in STAGES[1:]], "outs": ["end"]}
    if not split:
        stages = {name: template(name, ".") for name in STAGES}
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {**stages, "end": last}}))
    else:
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"end": last}}))
        for name in STAGES:
            (root / "graph" / name).mkdir(parents=True)
            tree = {"vars": ["../../params.yaml"], "stages": {name: template(name, "../..")}}
            (root / "graph" / name / "dvc.yaml").write_text(yaml.safe_dump(tree))
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)


def cpu_s(command: list[str], root: Path) -> float:
    """Run a command and return its CPU seconds, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main() -> None:
    """Print CPU seconds of a first and a second `dvc repro`, both ways."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--repeats", type=int, default=2)
    arguments = options.parse_args()
    print(f"{arguments.runs * len(STAGES) + 1} stages; CPU seconds of the first and of the second `dvc repro`")
    for repeat in range(arguments.repeats):
        for split in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                build(Path(folder), arguments.runs, split=split)
                first = cpu_s(["dvc", "repro", "-q"], Path(folder))
                second = cpu_s(["dvc", "repro", "-q"], Path(folder))
            side = "one per stage" if split else "one for all  "
            print(f"repeat {repeat}  {side}  {first:6.1f}  {second:6.1f}", flush=True)


if __name__ == "__main__":
    main()
