"""Live artifacts of a flow run in Prefect's UI: progress, each stage's state, and the tables at the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from pipeline.servers import flow_run_requests
from pipeline.tables.summary import View

EVERY_S = 5.0


class Board:
    """Updates a flow run's artifacts from its own thread; errors of an unreachable server are ignored."""

    def __init__(self, identity: UUID, look: Callable[[], View]) -> None:
        self.identity, self.look = identity, look
        self.ids: dict[str, UUID] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._keep, name="board", daemon=True)

    def __enter__(self) -> Board:
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
            shown: View | None = None
            while not self.over.is_set():
                view = self.look()
                if view != shown:
                    try:
                        self._show(client, view)
                        shown = view
                    except flow_run_requests.AWAY:
                        pass  # at the next turn, perhaps
                self.over.wait(EVERY_S)

    def _show(self, client: SyncPrefectClient, view: View) -> None:
        self._put(client, "progress", "progress", view.percent, view.sentence)
        self._put(client, "stages", "table", json.dumps(list(view.rows)), view.sentence)

    def _put(self, client: SyncPrefectClient, key: str, kind: str, data: Any, description: str) -> None:
        if key in self.ids:
            client.update_artifact(self.ids[key], ArtifactUpdate(data=data, description=description))
            return
        artifact = ArtifactCreate(
            key=key, type=kind, data=data, description=description, flow_run_id=self.identity
        )
        self.ids[key] = client.create_artifact(artifact).id
