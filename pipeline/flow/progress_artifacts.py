"""Live artifacts of a flow run in Prefect's UI: progress, each stage's state, and the tables at the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from pipeline.board import wording
from pipeline.board.snapshot import RUNNING, Snapshot, StageNow, same
from pipeline.servers import flow_run_requests

EVERY_S = 5.0
AT_FIRST_S = 0.2
"""Until the stages are known."""


class ProgressArtifacts:
    """Updates a flow run's artifacts from its own thread; errors of an unreachable server are ignored."""

    def __init__(self, identity: UUID, look: Callable[[], Snapshot], links: Callable[[], Mapping[str, str]]) -> None:
        """Prepare it.

        Args:
            identity: of the flow run.
            look: returns its current snapshot.
            links: returns where MLflow shows stages, by name.
        """
        self.identity, self.look, self.links = identity, look, links
        self.ids: dict[str, UUID] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._keep, name="artifacts", daemon=True)

    def __enter__(self) -> ProgressArtifacts:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    def finish(self, tables: str, names: Sequence[str]) -> None:
        """Show the end: the final state of all stages, and the project's tables as Markdown.

        Raises:
            flow_run_requests.AWAY: the server does not take it.
        """
        self.over.set()
        self.thread.join()
        with flow_run_requests.at_once(), get_client(sync_client=True) as client:
            self._show(client, self.look())
            self._put(client, "tables", "markdown", tables, ", ".join(names))

    def _keep(self) -> None:
        with flow_run_requests.at_once(), get_client(sync_client=True) as client:
            shown: Snapshot | None = None
            while not self.over.is_set():
                one = self.look()
                if one.stages and not same(shown, one):
                    try:
                        self._show(client, one)
                        shown = one
                    except flow_run_requests.AWAY:
                        pass  # at the next turn, perhaps
                self.over.wait(EVERY_S if one.stages else AT_FIRST_S)

    def _show(self, client: SyncPrefectClient, one: Snapshot) -> None:
        told, links = sentence(one), self.links()
        self._put(client, "progress", "progress", round(wording.share_done(one, time.time()), 1), told)
        self._put(client, "stages", "table", json.dumps([_row(stage, links) for stage in one.stages]), told)

    def _put(self, client: SyncPrefectClient, key: str, kind: str, data: Any, description: str) -> None:
        if key in self.ids:
            client.update_artifact(self.ids[key], ArtifactUpdate(data=data, description=description))
            return
        artifact = ArtifactCreate(
            key=key, type=kind, data=data, description=description, flow_run_id=self.identity
        )
        self.ids[key] = client.create_artifact(artifact).id


def sentence(one: Snapshot) -> str:
    """Return a run's progress in a sentence: what has ended, what runs, how long the rest takes."""
    now = [f"{stage.name} ({stage.line})" if stage.line else stage.name for stage in one.of(RUNNING)]
    left = "" if one.num_ended == len(one.stages) else wording.left(one.left_s, one.left_is)
    return "; ".join(filter(None, [wording.counted(one), left, f"now: {', '.join(now)}" if now else ""]))


def _row(stage: StageNow, links: Mapping[str, str]) -> dict[str, str]:
    """Return one line of the table of stages; a running stage with its last output line."""
    row = {
        "stage": stage.name,
        "state": stage.state,
        "expected": "" if stage.expected_s is None else wording.clock(stage.expected_s),
        "seconds": f"{stage.seconds:.1f}" if stage.seconds else "",
        "device": stage.device,
        "message": stage.line if stage.state == RUNNING else stage.message,
    }
    return row | ({"MLflow": links.get(stage.name, "")} if links else {})
