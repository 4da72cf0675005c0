"""Fixtures: the services of deploy/compose.yaml on loopback, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import servers
from tests.cluster.servers import Cluster


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "cluster: servers on PostgreSQL and an S3 store; `make cluster`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of the servers unless `make cluster` runs them."""
    if "cluster" in (config.getoption("markexpr") or ""):
        return
    mine = [item for item in items if item.get_closest_marker("cluster")]
    config.hook.pytest_deselected(items=mine)
    items[:] = [item for item in items if item not in mine]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All services but the worker."""
    if reason := servers.missing():
        pytest.skip(reason)
    # PostgreSQL works as another user, who cannot enter pytest's folders
    folder = tmp_path_factory.mktemp("cluster")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    with servers.started(folder) as started:
        yield started
