"""Our experiments in an MLflow store: found by their tag, created, renamed and restored if necessary."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow.entities import Experiment as Found
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from pipeline.tracking import saved_views, store
from pipeline.tracking.desired import Experiment

KEY = "facet.key"
PAGE = 1000


class Experiments:
    """The experiments of one store."""

    def __init__(self, client: MlflowClient, tracking_uri: str) -> None:
        self.client, self.tracking_uri = client, tracking_uri

    def all(self, which: int = ViewType.ALL) -> Iterator[Found]:
        """Yield every experiment, whoever made it."""
        token: str | None = None
        while True:
            page = self.client.search_experiments(which, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def ours(self, which: int = ViewType.ALL) -> dict[str, Found]:
        """Return ours by key."""
        return {one.tags[KEY]: one for one in self.all(which) if KEY in one.tags}

    def put(self, key: str, wanted: str, found: Found | None) -> Found:
        """Return our experiment, created or renamed if necessary.

        Args:
            key: its identity.
            wanted: its name.
            found: as it is, if it is there.
        """
        name = self._free_name(key, wanted, found)
        if found is None:
            root = store.artifact_root(self.tracking_uri)
            location = None if root is None else f"{root}/{key}"
            made = self.client.create_experiment(name, location, tags={KEY: key, **dict([saved_views.KIND])})
            return self.client.get_experiment(made)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found.name != name:
            self.client.rename_experiment(found.experiment_id, name)
        return found

    def _free_name(self, key: str, wanted: str, mine: Found | None) -> str:
        """Return the experiment's name, with its key appended if another experiment has that name."""
        other = self.client.get_experiment_by_name(wanted)
        taken = other is not None and (mine is None or other.experiment_id != mine.experiment_id)
        return f"{wanted} ({key})" if taken else wanted

    def describe(self, found: Found, experiment: Experiment, links: list[str]) -> None:
        """Write the experiment's description, and save the view that shows it as a table."""
        tags = dict([saved_views.KIND])
        note = "\n\n".join(filter(None, [" · ".join(links), experiment.note]))
        too_long = len(note) > saved_views.MAX_TAG
        tags["mlflow.note.content"] = note[: saved_views.MAX_TAG - 1] + "…" if too_long else note
        if experiment.look.shown:
            tags[saved_views.TAG] = saved_views.state(experiment.look)
        for key, value in tags.items():
            if found.tags.get(key) != value:
                self.client.set_experiment_tag(found.experiment_id, key, value)
