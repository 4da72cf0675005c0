"""Fixtures: real servers, started once for all pipeline tests, and fresh dummy projects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.servers import servers as services
from pipeline.servers.servers import Service
from tests.pipeline import dummy
from tests.pipeline.dummy import Dummy
from tests.pipeline.tracked import program, recorded, unrecorded

__all__ = ["program", "recorded", "unrecorded"]  # fixtures


@pytest.fixture(scope="session")
def server_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that owns the servers of all tests."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def servers(server_root: Path) -> Iterator[dict[str, Service]]:
    """Both servers, started as by `facet up`, on free ports."""
    said: list[str] = []
    started = services.up(server_root, said.append, ports={services.PREFECT: 0, services.MLFLOW: 0})
    yield started
    ended = services.down(server_root)
    assert sorted(ended) == ["mlflow", "prefect"]
    assert [process for service in started.values() for process in service.members()] == []


@pytest.fixture(scope="session")
def api_url(servers: dict[str, Service]) -> str:
    """Address of Prefect's API."""
    return servers[services.PREFECT].url + "/api"


@pytest.fixture
def make_dummy(tmp_path: Path) -> Callable[..., Dummy]:
    """Make a project without servers."""

    def make(runs: int = 2, **arguments: object) -> Dummy:
        return dummy.make(tmp_path / "project", runs, **arguments)  # type: ignore[arg-type]

    return make
