"""Flow runs of facet's whose process died without a word: shown as crashed, not as running for ever.

A process that is killed can report nothing. Prefect's server notices by itself only where an automation says so: when
a run's heartbeats stop, it has crashed. That takes 90 s; the next `facet run` sees at once which processes live. A
server may have other people's flow runs: the automation watches those of facet's two flows alone, one automation for
all projects that use the server.
Plain HTTP, because importing Prefect takes seconds that `facet up` need not spend.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from stages.core.errors import InputError

NAME = "facet: a flow run without heartbeat has crashed"
VERSION = 3
"""Of the automation: a later version of facet's is left as it is, an earlier one is replaced."""
FLOWS = ("facet run", "facet training run")
SILENT_S = 90
ENDS = (
    *("Completed", "Failed", "Cancelled", "Crashed"),
    *("AwaitingRetry", "Scheduled", "Late", "AwaitingConcurrencySlot", "Pending", "Paused", "Suspended", "Resuming"),
)
"""After these no heartbeat is missed: it has ended, or has no process. A run that is being cancelled still has one."""
MESSAGE = "its process was killed: finished work is kept, run again to resume"
"""For a run marked crashed only for missing heartbeats: it may still live if the server itself was away."""
NO_WATCH = "a flow run whose process is killed will be shown as running until the next `facet run`"
TIMEOUT_S = 30.0
BUSY, PAUSE_S = 503, 0.5
"""What Prefect's server answers while its database is busy; its own client asks again too."""

Say = Callable[[str], None]


def automation(silent_s: float = SILENT_S) -> dict[str, Any]:
    """Return the automation, as Prefect's API takes it."""
    return {
        "name": NAME,
        "description": "Its process was killed, or its machine died. The next `facet run` resumes. "
        f"(version {VERSION})",
        "enabled": True,
        "trigger": {
            "type": "event",
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)},
            "after": ["prefect.flow-run.heartbeat"],
            "expect": ["prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDS)],
            "for_each": ["prefect.resource.id"],
            "posture": "Proactive",
            "threshold": 1,
            "within": silent_s,
        },
        "actions": [{"type": "change-flow-run-state", "state": "CRASHED", "name": "Crashed", "message": MESSAGE}],
    }


def watch(api_url: str, say: Say) -> None:
    """Have Prefect's server notice dead flow runs of facet's; if it will not, say why: no run depends on it."""
    try:
        ensure(api_url)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            say(
                f"{api_url} wants a login (status {error.code}), so {NO_WATCH}: set PREFECT_API_AUTH_STRING to what "
                f"PREFECT_SERVER_API_AUTH_STRING is there, or PREFECT_API_KEY"
            )
        else:
            say(f"{api_url} did not take facet's automation (status {error.code} {error.reason}), so {NO_WATCH}")
    except (OSError, ValueError) as error:
        say(f"{api_url} could not be given facet's automation ({error}), so {NO_WATCH}")


def ensure(api_url: str, silent_s: float = SILENT_S) -> None:
    """Make the automation, or replace what an earlier version of facet's made; one stays where there are several.

    Raises:
        OSError: the server does not answer, or refuses (``urllib.error.HTTPError``).
        ValueError: what answers is not Prefect's API.
    """
    wanted = automation(silent_s)
    there = _ours(api_url)
    if not there:
        ask(f"{api_url}/automations/", "POST", wanted)
        there = _ours(api_url)  # another project may have made one at the same moment
    elif _version(there[0]) < VERSION:
        # whoever switched it off wanted that
        ask(f"{api_url}/automations/{there[0]['id']}", "PUT", wanted | {"enabled": there[0].get("enabled", True)})
    for one in there[1:]:
        _remove(f"{api_url}/automations/{one['id']}")


def _ours(api_url: str) -> list[dict[str, Any]]:
    """Return the automations of facet's name, the latest version first, then the oldest: all projects keep the same."""
    found = ask(f"{api_url}/automations/filter", "POST", {"automations": {"name": {"any_": [NAME]}}})
    if not isinstance(found, list):
        raise InputError(f"wanted a list of automations, got {type(found).__name__}")
    return sorted(found, key=lambda one: (-_version(one), str(one.get("created")), str(one["id"])))


def _version(one: dict[str, Any]) -> int:
    match = re.search(r"\(version (\d+)\)", one.get("description") or "")
    return int(match[1]) if match else 1


def _remove(url: str) -> None:
    try:
        ask(url, "DELETE")
    except urllib.error.HTTPError as error:
        if error.code != 404:  # the other project was faster
            raise


def credentials() -> dict[str, str]:
    """Return the headers with which Prefect's own client would ask, from its environment variables.

    A server that is started here has its login from PREFECT_SERVER_API_AUTH_STRING, and takes the same.
    """
    headers = json.loads(os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS") or "{}")
    login = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    elif key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return dict(headers)


def ask(url: str, method: str, body: Any = None) -> Any:
    """Return the answer of Prefect's server to a request; one that is busy is asked again."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **credentials()}
    request = urllib.request.Request(url, data, headers, method=method)
    until_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != BUSY or time.monotonic() > until_s:
                raise
        time.sleep(PAUSE_S)
