"""Write VERSION.tar.gz: a small workspace as this release leaves it, for later code to read.

    python -m tests.releases.make_release

Run it once for each release, before its version changes; what is there is never made anew. It holds a DVC project whose
stages have run (dvc.lock, outputs, cache, metrics), journals, records of MLflow's runs, and a checkpoint. An archive, because
DVC and git would take its files for this project's own.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import tarfile
import tempfile
from pathlib import Path

import torch

from pipeline.base import environment
from pipeline.execution import history
from pipeline.execution.stage_result import StageResult
from pipeline.tracking import recorded_ids
from pipeline.tracking.recorded_ids import RecordedIds, RecordedRun
from stages.training.checkpoints import Checkpoints, Snapshot
from tests.pipeline import dummy

HERE = Path(__file__).parent
LEFT_OUT = {".git", "machine", "tmp", "journal.jsonl"}
STORE = "sqlite:///tracking/mlflow.db"


def fill(folder: Path) -> None:
    """Run the stages of a project, and write what facet keeps beside it."""
    project = dummy.make(folder, runs=2)
    project.run("dvc", "repro")
    os.chdir(folder)
    root = Path()
    for number, name in enumerate(("r0", "r1")):
        address = f"graph/train_backbone/dvc.yaml:train_backbone@{name}"
        history.add_attempt(root, StageResult("executed", command_s=2.5 + number, address=address, name=f"train_backbone@{name}"))
    history.write_last_run(root, history.LastRun("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "calm-otter", "Completed"))
    history.write_open(root, history.FlowRun("6fa459ea-ee8a-3ca4-894e-db77e160355e", 1, 1.0, "Cancelled", "stopped"))
    environment.write_json(environment.state_folder(root) / "workspace.json", {"path": "/gone", "identity": "0a1b2c3d"})
    run = RecordedRun("row@heads-r0", "1", "f00d", True, "c0ffee")
    recorded_ids.write(root, STORE, RecordedIds({"table/heads": "1"}, {"table/heads": {"digest": run}}))
    Checkpoints("key", {"train": {"seed": 0}}).save(
        Snapshot(3, {"loss": 0.3}, {"weight": torch.arange(6.0).view(3, 2)}, 0, 3, {"queue": torch.tensor([3.0])})
    )


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder, without times and owners."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not LEFT_OUT & set(name.parts):
                member = tarfile.TarInfo(name.as_posix())
                member.size = path.stat().st_size
                tar.addfile(member, io.BytesIO(path.read_bytes()))


def main() -> None:
    archive = HERE / f"{importlib.metadata.version('facet')}.tar.gz"
    if archive.exists():
        raise SystemExit(f"{archive} is there: a release's workspace is never made anew")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "project")
        pack(Path(folder) / "project", archive)


if __name__ == "__main__":
    main()
