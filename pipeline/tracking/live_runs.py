"""MLflow runs of trainings that are under way: opened, filled with points, closed; `track` completes them later.

Such a run has the tag LIVE; it has no model and no files yet. Importing this takes seconds, as importing MLflow does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Experiment, Metric, Param, Run
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient

from pipeline.tracking import desired, metric_columns, saved_views, store
from pipeline.tracking.desired import CURRENT, FINGERPRINT, TRAINING_KEY, TRAININGS, WHERE, Scope
from pipeline.tracking.experiments import Experiments
from stages.runtime.measurements import Point

LIVE, FILLING = "facet.live", "filling"
"""`true` until `track` has completed the run; FILLING while it does: one that is found so was left by a kill."""
ENDED = "facet.ended"
"""Why a run failed or was killed."""
PREFIX = "steps/"
"""Of metrics by step; those without are by epoch."""
DESCRIBED = "mlflow.note.content"
NOTE = "Trainings that are under way, and those that were."
SHOWN = tuple(("metrics", PREFIX + name) for name in ("steps_left", "images_per_s", "loss", "accuracy"))
PAGE = 1000
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # MLflow refuses more

T = TypeVar("T")


class _Monitor(SystemMetricsMonitor):  # type: ignore[misc]
    """MLflow's monitor of the machine, which ends silently when the store does not answer."""

    is_over = False

    def monitor(self) -> None:
        """Measure until told to end, or until the store does not answer."""
        try:
            super().monitor()
        finally:
            self.is_over = True


class LiveRun:
    """One run that is being filled."""

    def __init__(self, client: MlflowClient, run: Run, tracking_uri: str) -> None:
        self.client, self.run_id, self.tracking_uri = client, str(run.info.run_id), tracking_uri
        self._ended: str = run.data.tags.get(ENDED, "")
        self._monitor: _Monitor | None = None

    def last_steps(self) -> dict[str, int]:
        """Return the last step of each measured name that the run has."""
        return last_steps(self.client, self.client.get_run(self.run_id))

    def log(self, points: Iterable[Point]) -> None:
        """Log points; those that are there already change nothing, because they have the time of their measurement."""
        for batch in batches(metrics_of(points), METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, metrics=batch)

    def begin(self) -> None:
        """Show the run as running."""
        self._say("")
        self.client.update_run(self.run_id, status="RUNNING")

    def measure_machine(self) -> None:
        """Have MLflow measure load and memory of this machine, if it does not already."""
        if self._monitor is None or self._monitor.is_over:
            self.release()
            self._monitor = _Monitor(self.run_id, resume_logging=True, tracking_uri=self.tracking_uri)
            self._monitor.start()

    def end(self, status: str, time_s: float, reason: str = "", fingerprint: str | None = None) -> None:
        """Show the run as ended, unless `track` has completed it; call it while holding `store.alone`.

        Args:
            status: of MLflow's.
            time_s: since the epoch.
            reason: why it failed or was killed.
            fingerprint: of a training whose outputs DVC has recorded.
        """
        self.release()
        if self.client.get_run(self.run_id).data.tags.get(LIVE) != "true":
            return
        if fingerprint is not None:
            self.client.set_tag(self.run_id, FINGERPRINT, fingerprint)
        self._say(reason)
        self.client.set_terminated(self.run_id, status, int(time_s * 1000))

    def _say(self, reason: str) -> None:
        """Set why the run ended; that of an attempt before goes."""
        if reason != self._ended:
            self.client.set_tag(self.run_id, ENDED, reason)
            self._ended = reason

    def release(self) -> None:
        """Measure the machine no longer."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def open_run(
    root: Path, tracking_uri: str, scope: Scope, name: str, key: str, params: Mapping[str, str]
) -> LiveRun:
    """Return the one live run of a training, made if necessary.

    Args:
        root: of the project.
        tracking_uri: of the store.
        scope: of the workspace.
        name: of the training run.
        key: identity of the training.
        params: that the run is to have.
    """
    client = MlflowClient(tracking_uri)
    experiments = Experiments(client, tracking_uri)
    experiment = _trainings(root, experiments, scope)
    tags = {
        LIVE: "true", TRAINING_KEY: key, "facet.run": name, WHERE: f"{TRAININGS}/{name}", "facet.kind": "training",
        CURRENT: "true", "mlflow.source.type": "PROJECT", "mlflow.source.name": f"dvc repro train_backbone@{name}",
    }  # fmt: skip
    alike = [run for run in live_runs(client, experiment.experiment_id) if _is_of(run, name, key)]
    if alike:
        for superfluous in alike[1:]:
            client.delete_run(superfluous.info.run_id)
    run = alike[0] if alike else client.create_run(experiment.experiment_id, tags=tags, run_name=name)
    # of one that was opened before, what the store refused then: its disk was full, or it died
    lacking = [Param(*item) for item in params.items() if item[0] not in run.data.params]
    for batch in batches(lacking, PARAMS_PER_BATCH):
        client.log_batch(run.info.run_id, params=batch)
    return LiveRun(client, run, tracking_uri)


def is_complete(tracking_uri: str, scope: Scope, fingerprint: str) -> bool:
    """Return whether `track` has recorded the training with this fingerprint."""
    client = MlflowClient(tracking_uri)
    there = Experiments(client, tracking_uri).ours().get(scope.key(TRAININGS))
    if there is None:
        return False
    alike = client.search_runs([there.experiment_id], f"tags.`{FINGERPRINT}` = '{fingerprint}'", max_results=PAGE)
    return any(run.info.status == "FINISHED" and LIVE not in run.data.tags for run in alike)


def _trainings(root: Path, experiments: Experiments, scope: Scope) -> Experiment:
    """Return the experiment of training runs, made if necessary."""
    key = scope.key(TRAININGS)
    there = experiments.ours().get(key)
    if there is not None and there.lifecycle_stage == "active" and DESCRIBED in there.tags:
        return there
    with store.alone(root):  # `track` may be about to make it
        found = experiments.put(key, scope.name(TRAININGS), experiments.ours().get(key))
        if DESCRIBED not in found.tags:  # else `track` has described it, which knows all that is there
            link = f"[As the table](#{saved_views.path(str(found.experiment_id))})"
            wanted = desired.Experiment(key, scope.name(TRAININGS), NOTE, (), desired.Look(shown=SHOWN))
            experiments.describe(found, wanted, [link])
        return found


def live_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    """Return the runs of an experiment that are not completed, the oldest first."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`{LIVE}` LIKE '%'", max_results=PAGE, page_token=token,
            order_by=["attributes.start_time ASC"],
        )  # fmt: skip
        found += page
        token = page.token
        if not token:
            return found


def _is_of(run: Run, name: str, key: str) -> bool:
    tags = run.data.tags
    # one with a fingerprint is a finished training's: the same training again is another run until it ends alike
    return bool(
        tags.get("facet.run") == name
        and tags.get(TRAINING_KEY) == key
        and tags.get(LIVE) == "true"
        and FINGERPRINT not in tags
    )


def last_steps(client: MlflowClient, run: Run) -> dict[str, int]:
    """Return the last step of each metric by step, by the name under which it was measured."""
    names = [name for name in run.data.metrics if name.startswith(PREFIX)]
    return {
        name.removeprefix(PREFIX): max(metric.step for metric in client.get_metric_history(run.info.run_id, name))
        for name in names
    }


def metrics_of(points: Iterable[Point]) -> list[Metric]:
    """Return points as metrics."""
    return [
        Metric(PREFIX + metric_columns.metric_name(name), value, int(point.time_s * 1000), point.step)
        for point in points
        for name, value in point.values.items()
    ]


def batches(items: Iterable[T] | Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most so many items."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
