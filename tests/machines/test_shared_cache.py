"""Clones that share a folder for DVC's cache need no work pool: what one has made, the others restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machines.network import Network
from tests.pipeline.conftest import api_url, server_root, servers  # noqa: F401

pytestmark = pytest.mark.slow


def test_what_one_clone_has_trained_another_restores(tmp_path: Path, api_url: str) -> None:  # noqa: F811
    network = Network(tmp_path, api_url, str(tmp_path / "unused"))
    network.found(2)
    first, second = network.machine("first"), network.machine("second")
    for machine in (first, second):
        machine.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    first.facet("run", "--no-track", "r0")
    second.facet("run", "--no-track")
    assert {"train_backbone@r0", "evaluate_hq@r0"} <= first.executed().keys()
    assert second.executed() == dict.fromkeys(["train_backbone@r1", "evaluate_hq@r1", "tabulate@heads"], 1)
    assert "evaluate_hq@r0" in (second.path / "results/r0/hq.json").read_text()
    assert second.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
