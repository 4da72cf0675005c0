"""Projects for fault tests, and the fault matrix that the tests write: docs/faults.md, with FACET_FAULTS=path."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.servers import servers as services
from pipeline.servers.servers import Service
from tests.faults import scene
from tests.faults.scene import Note
from tests.pipeline.conftest import api_url, server_root, servers  # noqa: F401
from tests.pipeline.dummy import Dummy

HEAD = """\
# Faults

This table shows what happens when something breaks during a parallel run, as observed by `make faults`: real processes, real signals, real
full disks (tmpfs). Each row is a test in `tests/faults`. After each fault the test also checks that

- no process is left, and no output is half written;
- no record in a `dvc.lock` is lost or doubled;
- Prefect shows within two minutes how the run ended;
- the next `facet run` finishes the work, and training runs continue from their checkpoints.

A run that was killed is shown as Crashed by an automation of Prefect's server about 90 s after its last heartbeat, or by the next `facet`
command, whichever comes first. Task runs keep the last state that the server received, even if it was away when they ended.

| fault | what happens |
|---|---|
"""

@pytest.fixture
def note() -> Note:
    """Write or update a row of the matrix; called at the end of a test that has passed."""

    def write(fault: str, outcome: str) -> None:
        if not (given := os.environ.get("FACET_FAULTS")):
            return
        path = Path(given)
        matrix, _, sections = (path.read_text(encoding="utf-8") if path.is_file() else "").partition("\n## ")
        rows = [line for line in matrix.splitlines() if line.startswith("| ") and not line.startswith(("| fault", f"| {fault} |"))]
        shell = Path(os.environ.get("SHELL") or "/bin/sh").name
        where = f"{platform.system()}, Python {platform.python_version()}, DVC's commands through {shell}."
        matrix = "\n".join([HEAD + "\n".join([*rows, f"| {fault} | {outcome} |"]), "", where, ""])
        path.write_text(matrix + (f"\n## {sections}" if sections else ""), encoding="utf-8")

    return write


@pytest.fixture
def project(tmp_path: Path, api_url: str) -> Iterator[Dummy]:  # noqa: F811
    made = scene.make(tmp_path / "project", api_url)
    yield made
    for process in scene.processes_in(made.path):
        process.kill()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Service]]]:
    """Servers that a test may kill, and their project; they are restarted at their old addresses."""
    home = tmp_path_factory.mktemp("mortal")
    said: list[str] = []
    yield home, services.up(home, said.append, ports={services.PREFECT: 0, services.MLFLOW: 0})
    services.down(home)
