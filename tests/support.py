"""A real DVC repository with this checkout's code, for tests that run the graph."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests import quick_start

ROOT = Path(__file__).resolve().parent.parent
PARAMS = ROOT / "tests/project/params.yaml"
"""The params.yaml of projects that tests make; that of the repository is the demo's."""

TINY_PROFILE = """
defaults:
  seed: 0
  color_order: BGR
  backbone: {name: iresnet, style: adaface, units: [1, 1, 1, 1], widths: [4, 4, 8, 8],
             stem_stride: 2, feature_dim: 16, dropout: 0.0}
  augmentation: {crop_probability: 0.2, low_res_probability: 0.2, photometric_probability: 0.2}
  schedule: {epochs: 2, batch_size: 8, learning_rate: 0.1, milestones: [1], warmup_epochs: 0.5}
  quality: {name: cr_fiqa, target: paper, iterations: 5}
  benchmarks:
    hq: {sets: [lfw, cfp_fp, cplfw, calfw, agedb_30, cfp_ff, vgg2_fp]}
    ijb: {sets: [IJBB, IJBC], protocols: ["1:1", "1:N"]}
    lq: {sets: [tinyface, scface, ijbs, crlfw]}
    fiqa: {sets: [lfw, adience, xqlfw, IJBC], fmr: [0.1, 0.01]}
"""


class Project:
    """A real DVC repository with this checkout's code, on data so small that the whole graph runs in a minute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
            "FACET_FOLLOW": os.environ.get("FACET_FOLLOW", "0"),  # `make deps` removes the project when it has run
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c",
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)

    def run(self, *command: str, check: bool = True, timeout: float = 280, **environment: str) -> str:
        """Run a command in the project and return what it printed, both streams."""
        settings = {**self.environment, **environment}
        if command[0] == "dvc":
            settings["PATH"] = f"{quick_start.folder()}:{settings['PATH']}"
        done = subprocess.run(
            command, cwd=self.path, env=settings, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def edit(self, name: str, change: dict[str, Any]) -> None:
        """Merge ``change`` into a YAML file."""
        path = self.path / name
        path.write_text(yaml.safe_dump(_laid_over(yaml.safe_load(path.read_text()), change), sort_keys=False))


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {
        key: _laid_over(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }


def make_project(path: Path) -> Project:
    """Fill a folder with a fresh project: committed to git, nothing run yet."""
    for name in ("stages", "pipeline", "graph", "profiles", "tables"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", ".gitignore", "dvc.lock"))
    shutil.copy(PARAMS, path / "params.yaml")
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, path / name)
    project = Project(path)
    (path / "profiles/tiny.yaml").write_text(TINY_PROFILE)
    project.edit("params.yaml", {
        "profile": "tiny",
        "synthetic": {"demo": {
            "train": {"identities": 8, "images_per_identity": 4},
            "eval": {
                "identities": 20, "pairs": 20, "ijb_templates": 20, "tinyface_distractors": 4,
                "ijbc_templates": 20, "ijbs_subjects": 10, "adience_images": 16, "xqlfw_pairs": 20, "more_pairs": 20,
            },
        }},
    })
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.run("dvc", "config", "core.analytics", "false")
    shutil.copytree(ROOT / ".dvc/plots", path / ".dvc/plots", dirs_exist_ok=True)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start")
    return project


def copy_project(original: Path, path: Path, empty_store: Path) -> Project:
    """Copy a reproduced project, its DVC cache with it: to DVC there is nothing to do in the copy.

    Args:
        original: stays as it is.
        path: of the copy; not there yet.
        empty_store: what the copy gets for MLflow's store, whose artifacts have addresses in ``original``.
    """
    away = ("mlflow.db*", "artifacts", "store.json")

    def ignore(folder: str, names: list[str]) -> set[str]:
        return shutil.ignore_patterns(*away)(folder, names) if Path(folder) == original / "tracking" else set()

    shutil.copytree(original, path, symlinks=True, ignore=ignore)
    shutil.copytree(empty_store, path / "tracking", dirs_exist_ok=True)
    marker = path / "tracking/store.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "folder": str(path / "tracking")}))
    return Project(path)
