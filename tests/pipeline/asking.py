"""Requests to Prefect's server."""

from __future__ import annotations

import time
from typing import Any

from pipeline.servers import crash_automation


def ask(api_url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to Prefect's server."""
    return crash_automation.ask(api_url + path, "GET" if body is None else "POST", body)


def task_runs(api_url: str, flow_run_id: str) -> dict[str, dict[str, Any]]:
    """Return the task runs of a flow run by name, once the server has stored the last of them."""
    wanted = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    until_s = time.monotonic() + 20
    while True:
        found = ask(api_url, "/task_runs/filter", wanted)
        ended = all(run["state_type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") for run in found)
        if (found and ended) or time.monotonic() > until_s:
            names = [run["name"] for run in found]
            assert len(names) == len(set(names)), names
            return {run["name"]: run for run in found}
        time.sleep(0.3)
