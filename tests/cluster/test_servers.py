"""A pool's run and the papers' tables on Prefect and MLflow as deploy/compose.yaml starts them: PostgreSQL and an S3 store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import servers
from tests.cluster.servers import Cluster
from tests.machines.network import Network, end
from tests.support import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

TINY: dict[str, Any] = {
    "base": "demo",
    "synthetic": {},
    "all": {
        "backbone": {"widths": [4, 4, 8, 8], "units": [1, 1, 1, 1], "feature_dim": 16},
        "schedule": {"epochs": 1, "batch_size": 16, "milestones": [], "warmup_epochs": 0.2, "margin_warmup_epochs": 0},
    },
}
"""The scale demo with as few pictures as its protocols take: numbers mean nothing."""
FEW = {"train": {"identities": 12, "images_per_identity": 4},
       "eval": {"identities": 12, "pairs": 20, "ijb_templates": 12, "tinyface_distractors": 4, "ijbc_templates": 12,
                "ijbs_subjects": 5, "adience_images": 20, "xqlfw_pairs": 20, "more_pairs": 20}}  # fmt: skip


def test_mlflow_answers_under_the_names_that_it_is_asked_by(cluster: Cluster):
    port = cluster.mlflow.rpartition(":")[2]
    for host in (f"mlflow:{port}", f"localhost:{port}", f"127.0.0.1:{port}"):
        assert servers.answers(f"{cluster.mlflow}/api/2.0/mlflow/experiments/search?max_results=1", host) == 200
    assert servers.answers(f"{cluster.mlflow}/api/2.0/mlflow/experiments/search?max_results=1", "evil.example.org") == 403


def test_a_pool_run_goes_through_them_to_a_worker_and_back(cluster: Cluster, tmp_path: Path):
    extra = cluster.environment()
    network = Network(tmp_path, extra["PREFECT_API_URL"], "s3://facet/pool", (), extra)
    os.environ.update({key: value for key, value in extra.items() if key.startswith("AWS_")})
    network.found(2, {"train_backbone": 2, "evaluate_hq": 0.2})
    worker, desk = network.machine("worker"), network.machine("desk")
    process = worker.start_worker("gpus")
    try:
        assert "completed - 7 executed" in desk.facet("run", "--pool", "gpus").stdout
    finally:
        end([process])
    assert set(worker.executed()) == {f"{kind}@r{i}" for kind in ("train_backbone", "evaluate_hq") for i in range(2)}
    assert desk.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    names = "flow_run JOIN flow ON flow.id = flow_run.flow_id WHERE flow_run.state_type = 'COMPLETED' AND flow.name ="
    assert cluster.count("prefect", f"{names} 'facet training run'") == 2
    assert cluster.count("prefect", f"{names} 'facet run'") == 1


TABLES = ("qgface_ablation", "adaface_arcface", "ijbs", "ig_fiqa")
"""An objective's, heads', IJB-S's and quality methods'; all fourteen would take three times as long."""


def test_the_papers_tables_at_a_very_small_size(cluster: Cluster, tmp_path: Path):
    root = tmp_path / "facet"
    subprocess.run(["git", "clone", "--quiet", ROOT, root], check=True)
    demo = yaml.safe_load((root / "ablations/demo.yaml").read_text())
    sets = {name: {**tree, "train": {**tree["train"], **FEW["train"]}, "eval": FEW["eval"]} for name, tree in demo["synthetic"].items()}
    (root / "ablations/tiny.yaml").write_text(yaml.safe_dump(TINY | {"synthetic": sets}))
    settings = os.environ | cluster.environment() | {"FACET_LEASES": str(tmp_path / "leases"), "HOME": str(tmp_path)}
    settings.pop("FACET_FOLLOW", None)
    log = tmp_path / "ablations.log"
    with log.open("w") as out:
        done = subprocess.run([shutil.which("facet") or "facet", "ablations", *TABLES, "--scale", "tiny", "--plain"],
                              cwd=root, env=settings, stdout=out, stderr=out, check=False)  # fmt: skip
    assert done.returncode == 0, log.read_text()[-4000:]
    tables = {path.parts[-3] for path in (root / ".facet/ablations/tiny/results/tables").glob("*/report/table.json")}
    assert tables == set(TABLES)
    runs = cluster.count("mlflow", "runs WHERE status = 'FINISHED'")
    assert f"MLflow: {runs} recorded, 0 already there" in log.read_text()
    assert runs >= 26, "a row each, and training runs"
    assert cluster.count("mlflow", "metrics") > runs
    assert _experiments(cluster.mlflow) >= len(tables)


def test_the_build_steps_of_the_image_in_an_empty_folder(tmp_path: Path):
    steps = [line.removeprefix("RUN ") for line in (ROOT / "deploy/Dockerfile").read_text().splitlines() if line.startswith("RUN ")]
    of_the_system, ours = steps[:2], steps[2:]
    assert [step.split()[0] for step in of_the_system] == ["apt-get", "useradd"]
    clone, home = tmp_path / "facet", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    settings = {"PATH": os.environ["PATH"], "HOME": str(home)}
    for step in ours:
        done = subprocess.run(["sh", "-c", step.replace("/facet/", f"{clone}/")], cwd=clone, env=settings, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    path = f"{clone}/.venv/bin:{settings['PATH']}"
    program = subprocess.run(["facet", "worker", "--help"], cwd=clone, env=settings | {"PATH": path}, capture_output=True,
                             text=True, check=False)  # fmt: skip
    assert "--pool" in program.stdout


def _experiments(address: str) -> int:
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/search?max_results=1000", timeout=60) as answer:
        return len(json.load(answer)["experiments"])
