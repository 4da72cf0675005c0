"""Prefect's own worker on this machine: its command line, its environment, and the clone that its flow runs work in."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from pipeline.base import environment, workspace
from pipeline.devices import leases
from stages.core.errors import UnknownNameError

SERVE = [sys.executable, "-m", "pipeline.workers.serve"]
START = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--install-policy", "never"]
PROMPT = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "1"}
"""Settings of a worker that looks for work each second, not every ten."""


def command(root: Path, pool: str, limit: int) -> list[str]:
    """Return the command line of a worker for so many training runs at a time, each on any number of its GPUs.

    Without a GPU it serves all queues of the pool: processes share the cores.
    """
    from pipeline.workers.work_pool import Training, make_pool, queue_for

    training = Training(pool)
    training.prepare()
    queues = [queue_for(1 + i) for i, _ in enumerate(leases.find_gpus())]
    for queue in queues:
        make_pool(training.api, pool, queue)
    name = workspace.worker_name(pool, workspace.identity(root))
    served = [part for queue in queues for part in ("--work-queue", queue)]
    return [*START, "--pool", pool, *served, "--name", name, "--limit", str(limit)]


def num_runs(asked: int | None) -> int:
    """Return how many training runs at a time a worker takes: one per GPU, one on a machine without."""
    return asked or len(leases.find_gpus()) or 1


def settings(root: Path, limit: int) -> dict[str, str]:
    """Return the environment of a worker, and so of its flow runs."""
    own = PROMPT | {"FACET_PROJECT": str(root)}
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, environment.num_cores() // limit)))
    own |= environment.prefect_settings(root.absolute()) | {"OMP_NUM_THREADS": threads}
    return environment.for_children() | own


def project() -> Path:
    """Return this machine's clone: ``FACET_PROJECT``, or the project that facet is installed from.

    Raises:
        LookupError: neither is a project.
    """
    with contextlib.suppress(UnknownNameError):
        return environment.find_root(Path(os.environ.get("FACET_PROJECT") or Path(__file__).parent))
    raise UnknownNameError("this worker is in no facet project: start it with `facet worker`, or set FACET_PROJECT")


def enter_project() -> dict[str, str]:
    """Let a flow run begin in this machine's clone; a pull step, without which Prefect copies the folder it is in."""
    return {"directory": str(project())}
