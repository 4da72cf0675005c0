"""Fixtures: a headless browser on a loopback MLflow server that holds a table of several seeds.

FACET_BROWSER=FOLDER looks at a project of yours instead, FACET_BROWSER_TABLE at another table than `heads`,
FACET_BROWSER_SCALE at the papers' tables of that scale; FACET_SCREENSHOTS=FOLDER keeps the pictures there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.servers import servers
from pipeline.servers.daemons import MLFLOW
from pipeline.tracking import sync
from tests.browser.pages import Shown, close_assistant
from tests.pipeline import fabricated
from tests.pipeline.tracked import program, quietly

__all__ = ["program"]  # fixture

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PIXELS = {"width": 1600, "height": 900}
TIMEOUT_MS = 90_000
LARGEST = 300_000
"""Bytes of a picture in the docs."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra `browser`")
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is in PATH")
    with sync_api.sync_playwright() as playwright:
        # the sandbox refuses to work for root, as in containers
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory, program: Path) -> Iterator[Shown]:
    """A recorded project and its server: three seeds per row, and one row that is published only."""
    given, profile = os.environ.get("FACET_BROWSER"), os.environ.get("FACET_BROWSER_SCALE")
    root = Path(given or tmp_path_factory.mktemp("shown")).resolve()
    if given is None:
        fabricated.make(root, seeds=3, program=program, plots=True)
        with quietly():
            sync.track(root)
    here = servers.known(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # somebody else's: none is started
        started = servers.up(root, lambda line: None, ports={MLFLOW: 0})
    try:
        yield Shown(root, started[MLFLOW].url, os.environ.get("FACET_BROWSER_TABLE", "heads"), profile)
    finally:
        if MLFLOW not in here:
            servers.down(root)


@pytest.fixture(scope="session")
def visit(browser: Any) -> Iterator[Any]:
    """A browser page with MLflow's assistant closed; loading a new one takes seconds."""
    context = browser.new_context(viewport=PIXELS, device_scale_factor=1)
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(close_assistant)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(visit: Any) -> Any:
    """The browser page at its usual size."""
    visit.set_viewport_size(PIXELS)
    return visit


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Any, str], None]:
    """Save a screenshot under a name, small enough for the docs."""
    folder = Path(os.environ.get("FACET_SCREENSHOTS") or tmp_path)

    def keep(page: Any, name: str) -> None:
        path = folder / f"mlflow-{name}.png"
        # where the file lies on this machine is nobody's business
        place = page.get_by_text("Path: file:")
        page.screenshot(path=path, animations="disabled", mask=[place], mask_color="#ffffff")
        assert 10_000 < path.stat().st_size < LARGEST, f"{path.name} has {path.stat().st_size} bytes"

    return keep
