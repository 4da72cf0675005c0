"""Flow runs whose process died without a word: shown as crashed, not as running for ever.

A process that is killed can tell nobody. Prefect's server notices by itself only where an automation says so: when
a run's heartbeats stop, it has crashed. That takes 90 s; the next `facet run` sees at once which processes live.
Plain HTTP, because importing Prefect takes seconds that `facet up` need not spend.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

NAME = "facet: a flow run without heartbeat has crashed"
HEARTBEAT_S = 30
SILENT_S = 90
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
AUTOMATION: dict[str, Any] = {
    "name": NAME,
    "description": "Its process was killed, or its machine died. The next `facet run` goes on where it was.",
    "enabled": True,
    "trigger": {
        "type": "event",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {},
        "after": ["prefect.flow-run.heartbeat"],
        "expect": ["prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDS)],
        "for_each": ["prefect.resource.id"],
        "posture": "Proactive",
        "threshold": 1,
        "within": SILENT_S,
    },
    "actions": [
        {
            "type": "change-flow-run-state",
            "state": "CRASHED",
            "name": "Crashed",
            "message": "its process was killed: finished work is kept, run again to go on",
        }
    ],
}


def ensure(api_url: str) -> None:
    """Have Prefect's server notice dead flow runs; nothing happens where it does already.

    Raises:
        OSError: the server does not answer.
    """
    there = _post(f"{api_url}/automations/filter", {"automations": {"name": {"any_": [NAME]}}})
    if not there:
        _post(f"{api_url}/automations/", AUTOMATION)


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
