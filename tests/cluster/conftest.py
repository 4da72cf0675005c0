"""Fixtures: the services of deploy/compose.yaml on loopback, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import servers
from tests.cluster.servers import Cluster


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
