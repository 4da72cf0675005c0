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
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "AwaitingRetry", "Scheduled")
"""After these no heartbeat is missed: a stage that its worker gave back waits in its queue."""
MESSAGE = "its process was killed: finished work is kept, run again to go on"
"""Of a run that was taken for dead by its silence alone: after the server itself was away, it may live."""
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
            "message": MESSAGE,
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
    elif there[0]["trigger"].get("expect") != AUTOMATION["trigger"]["expect"]:  # another version of ours made it
        _post(f"{api_url}/automations/{there[0]['id']}", AUTOMATION, "PUT")


def _post(url: str, body: Any, method: str = "POST") -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")
