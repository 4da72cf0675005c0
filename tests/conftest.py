"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import skips, support
from tests.once import Once, folders
from tests.support import ROOT, Project

# a follower of each project's trainings would import MLflow beside every test; those about it start one
os.environ.setdefault("FACET_FOLLOW", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    # before anything imports torch: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# no deadline: how long an example takes depends on what else the machine does
settings.register_profile("facet", deadline=None)
settings.register_profile("check", deadline=None, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "facet"))

SLOW_FIXTURES = {"empty_store", "make_project", "program", "reproduced", "servers"}
"""Each takes seconds; a test that needs one is marked `slow`."""
APART = ("browser", "cluster", "faults")
"""Markers of tests that run only where `-m` names them: each has a target of its own in the Makefile."""


def pytest_configure(config: pytest.Config) -> None:
    """Count skipped tests where reports come together."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(skips.Counted(config))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Leave out what runs apart; mark what is slow by its fixtures; over several workers, start the longest tests first."""
    leave_out_apart(config, items)
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    yield
    if "PYTEST_XDIST_WORKER" in os.environ:
        # otherwise the last of them would run while the other workers have nothing left
        longest: dict[Path, float] = {}
        for item in items:
            longest[item.path] = max(weight(item), longest.get(item.path, 0.0))
        copies = list(dict.fromkeys(item.path for item in items if "reproduced" in getattr(item, "fixturenames", ())))
        copies.sort(key=lambda path: -longest[path])
        # the first makes the project that the others copy: they would wait for it
        place = {path: 2 if number else 0 for number, path in enumerate(copies)}
        items.sort(key=lambda item: (-longest[item.path], place.get(item.path, 1)))


def leave_out_apart(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of `APART` that nobody asked for."""
    asked = (config.getoption("markexpr") or "") + (" faults" if os.environ.get("FACET_FAULTS") else "")
    unasked = [name for name in APART if name not in asked]
    apart = [item for item in items if any(item.get_closest_marker(name) for name in unasked)]
    if apart:
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]


def weight(item: pytest.Item) -> float:
    """Return how long a test may take: the seconds of its own timeout, 1 where a slow one has none, 0 if it is not slow."""
    timeout = item.get_closest_marker("timeout")
    return 0.0 if item.get_closest_marker("slow") is None else float(timeout.args[0]) if timeout else 1.0


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data and real faces, beside the checkout."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no golden data or real faces: {path.name}/ is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Golden numbers made by the authors' own code."""
    return shared / "golden"


@pytest.fixture(scope="session")
def faces(shared: Path) -> Path:
    """Real faces in the official layouts."""
    return shared / "faces"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Fill a folder once for all workers of this test run."""
    return folders(tmp_path_factory)


@pytest.fixture(scope="session")
def empty_store(once: Once) -> Path:
    """MLflow's database with nothing in it: making one takes longer than most of what is tested on it."""

    def fill(folder: Path) -> None:
        from pipeline.tracking import sync

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns of much, and warnings are errors here
            sync.initialise_store(folder)

    return once("empty-store", fill) / "tracking"


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make a fresh project: committed to git, nothing run yet."""

    def make() -> Project:
        return support.make_project(tmp_path_factory.mktemp("project"))

    return make


@pytest.fixture(scope="session")
def reproduced(once: Once) -> Project:
    """A project after one plain ``dvc repro``, to be looked at only: who runs or changes anything makes a copy."""

    def fill(folder: Path) -> None:
        project = support.make_project(folder)
        project.run("dvc", "repro", timeout=480, FACET_IMPORTS_FOLDER=str(folder / ".facet/imports"))

    return Project(once("reproduced", fill))


@pytest.fixture(scope="session")
def copy_reproduced(
    tmp_path_factory: pytest.TempPathFactory, reproduced: Project, empty_store: Path
) -> Callable[[], Project]:
    """Make a copy of the reproduced project in which there is nothing to do."""

    def copy() -> Project:
        return support.copy_project(reproduced.path, tmp_path_factory.mktemp("copy") / "project", empty_store)

    return copy


@pytest.fixture(scope="session")
def remargined(once: Once, reproduced: Project, empty_store: Path) -> tuple[Project, str]:
    """A copy after another margin of `cosface` and a second ``dvc repro``, and what that printed; to be looked at only."""

    def fill(folder: Path) -> None:
        project = support.copy_project(reproduced.path, folder / "project", empty_store)
        project.edit("params.yaml", {"runs": {"cosface": {"head": {"margin": 0.2}}}})
        (folder / "printed.txt").write_text(project.run("dvc", "repro", timeout=480))

    folder = once("remargined", fill)
    return Project(folder / "project"), (folder / "printed.txt").read_text()
