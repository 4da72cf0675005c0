"""Writes records to MLflow through its client; importing this takes seconds, so `tracking` imports it late.

A run is RUNNING until all of it is there. One that was left so by a killed process is deleted and made anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

from pipeline.tracking import live_adoption, mlflow_models, run_contents, saved_views
from pipeline.tracking.desired import (
    CURRENT,
    FINGERPRINT,
    REPORTS,
    SWEEPS,
    TRAININGS,
    WHERE,
    Experiment,
    Record,
    Wanted,
)
from pipeline.tracking.experiments import KEY, Experiments
from pipeline.tracking.live_adoption import LiveRuns
from pipeline.tracking.live_runs import LIVE
from pipeline.tracking.mlflow_models import Models
from pipeline.tracking.recorded_ids import RecordedIds, RecordedRun

PAGE = 1000
PAGE_OF_REPORT = "table.html"


class Writer:
    """Updates one MLflow store to the wanted records; call it while holding `store.alone`."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri)
        self.experiments = Experiments(self.client, tracking_uri)

    def write(self, wanted: Wanted, say: Callable[[str], None]) -> list[str]:
        """Create the missing runs, mark the current ones, and return the addresses of the new ones."""
        with _pointed_at(self.tracking_uri):
            return self._write(wanted, say)

    def _write(self, wanted: Wanted, say: Callable[[str], None]) -> list[str]:
        if warning := saved_views.warning():
            say(warning)
        there = self.experiments.ours()
        # single seeds have an experiment where there are any; one from the time when there were stays
        asked = [one for one in wanted.experiments if one.records or not one.key.endswith(".seeds") or one.key in there]
        found = {one.key: self.experiments.put(one.key, one.name, there.get(one.key)) for one in asked}
        models = Models(self.client, [one.experiment_id for one in found.values()])
        created: list[str] = []
        run_ids: dict[str, str] = {}
        # trainings log the models that rows refer to
        for experiment in sorted(asked, key=lambda one: not one.key.endswith(TRAININGS)):
            made, ids = self._fill_experiment(found[experiment.key].experiment_id, experiment, wanted, models, say)
            created += made
            run_ids |= ids
        if wanted.whole:
            self._retire(wanted)
        for best in wanted.best:
            models.register(best, run_ids[best.where])
        places = {key: str(one.experiment_id) for key, one in found.items()}
        for experiment in asked:
            links = list(_links(experiment, wanted, places, run_ids))
            self.experiments.describe(found[experiment.key], experiment, links)
        return created

    def ids(self) -> RecordedIds:
        """Return the IDs of all of our finished runs, whichever project or workspace recorded them."""
        ours = self.experiments.ours(ViewType.ACTIVE_ONLY)
        found = {key: str(one.experiment_id) for key, one in ours.items()}
        runs = {}
        for key, experiment_id in found.items():
            finished = {
                one: [run for run in alike if run.info.status == "FINISHED"]
                for one, alike in self._runs(experiment_id).items()
            }
            runs[key] = {one: _recorded(alike[0]) for one, alike in finished.items() if alike}
        return RecordedIds(found, runs)

    def _fill_experiment(
        self, experiment_id: str, experiment: Experiment, wanted: Wanted, models: Models, say: Callable[[str], None]
    ) -> tuple[list[str], dict[str, str]]:
        """Create the runs that an experiment lacks; return their addresses, and the IDs of all it should have."""
        created, run_ids = [], {}
        existing = self._runs(experiment_id)
        live = LiveRuns(self.client, experiment_id) if experiment.key.endswith(TRAININGS) else None
        # MLflow lists the newest run first: made from the last row up, they stand in the table's order
        for record in reversed(experiment.records):
            run = self._settle(existing.pop(record.fingerprint, []))
            begun = live.of(record, run) if live is not None else None
            if run is None:
                say(f"recording {record.where}")
                run = self._make(experiment_id, record, models, begun)
                created.append(record.where)
            elif models.lacks(run, record):
                with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
                    models.attach(run.info.run_id, record, run.data.tags.get(mlflow_models.TAG))
            run_ids[record.where] = run.info.run_id
            self._mark(run, current=True)
        replaced = None if experiment.whole else {record.where for record in experiment.records}
        self._mark_others(existing, wanted.locked, replaced)
        return created, run_ids

    def _runs(self, experiment_id: str) -> dict[str, list[Run]]:
        """Return our runs in an experiment by fingerprint, the oldest first; not those of trainings under way."""
        found: dict[str, list[Run]] = {}
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id], max_results=PAGE, page_token=token, order_by=["attributes.start_time ASC"]
            )
            for run in page:
                if FINGERPRINT in run.data.tags and LIVE not in run.data.tags:
                    found.setdefault(run.data.tags[FINGERPRINT], []).append(run)
            token = page.token
            if not token:
                return found

    def _settle(self, runs: Sequence[Run]) -> Run | None:
        """Return the one finished run; delete those of a killed process and duplicates of another machine."""
        finished = [run for run in runs if run.info.status == "FINISHED"]
        for run in runs:
            if run not in finished[:1]:
                self._delete(run)
        return finished[0] if finished else None

    def _delete(self, run: Run) -> None:
        mine = f"source_run_id = '{run.info.run_id}'"
        for model in self.client.search_logged_models([run.info.experiment_id], filter_string=mine):
            self.client.delete_logged_model(model.model_id)
        self.client.delete_run(run.info.run_id)

    def _make(self, experiment_id: str, record: Record, models: Models, begun: Run | None) -> Run:
        """Create one run completely or not at all; one that was shown while it trained is completed."""
        tags = {
            FINGERPRINT: record.fingerprint, "facet.kind": record.kind, CURRENT: "true", WHERE: record.where,
            mlflow_models.TAG: mlflow_models.ABSENT, "mlflow.source.type": "PROJECT", **record.tags,
        }  # fmt: skip
        run = begun or self.client.create_run(experiment_id, tags=tags, run_name=record.name)
        try:
            # RUNNING inside; FINISHED behind it, if all is well
            with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
                if begun is not None:
                    live_adoption.begin(self.client, begun, tags)
                run_contents.fill(self.client, run, record, models)
            if begun is not None:
                self.client.delete_tag(run.info.run_id, LIVE)
        except BaseException:
            # best effort: a dead server cannot delete either, and a run that is not FINISHED is made anew
            self._try_to_delete(run)
            raise
        return run

    def _try_to_delete(self, run: Run) -> None:
        with contextlib.suppress(Exception):
            self._delete(run)

    def _mark(self, run: Run, *, current: bool) -> None:
        value = str(current).lower()
        if run.data.tags.get(CURRENT) != value:
            self.client.set_tag(run.info.run_id, CURRENT, value)

    def _mark_others(
        self, runs: Mapping[str, Sequence[Run]], locked: frozenset[str], replaced: Container[str] | None = None
    ) -> None:
        """Mark runs that are not current: their results are not here, or were replaced.

        Args:
            runs: by fingerprint.
            locked: fingerprints that are current although their files are not here.
            replaced: where those stand that were recorded now; others stay as they are. None: all are replaced.
        """
        for fingerprint, alike in runs.items():
            run = self._settle(alike)
            if run is not None and (replaced is None or run.data.tags.get(WHERE) in replaced):
                self._mark(run, current=fingerprint in locked)

    def _retire(self, wanted: Wanted) -> None:
        """Mark the rows of tables that no longer exist."""
        keys = {experiment.key for experiment in wanted.experiments}
        for found in self.experiments.all():
            key = found.tags.get(KEY, SWEEPS)
            if wanted.scope.has(key) and key not in keys and found.lifecycle_stage == "active":
                self._mark_others(self._runs(found.experiment_id), frozenset())


def _links(
    experiment: Experiment, wanted: Wanted, places: Mapping[str, str], run_ids: Mapping[str, str]
) -> Iterator[str]:
    """Yield links on an experiment's page, in Markdown: to its table view, and to related pages."""
    if experiment.look.shown:
        yield f"[As the table](#{saved_views.path(places[experiment.key])})"
        yield f"[Charts](#{saved_views.charts_path(places[experiment.key])})"
    reports = places.get(wanted.scope.key(REPORTS))
    if reports is not None and (report := run_ids.get(experiment.report or "")):
        yield f"[Report](#{saved_views.report_path(reports, report, PAGE_OF_REPORT)})"
    if experiment.seeds is not None:
        yield f"[Every seed](#{saved_views.path(places[experiment.seeds])})"
    if experiment.best is not None:
        yield f"[Best model](#{saved_views.model_path(experiment.best.name)})"


def _recorded(run: Run) -> RecordedRun:
    tags = run.data.tags
    commit = tags.get("facet.git_commit", "")
    if commit and tags.get("facet.git_dirty") == "true":
        commit += ", with changes"
    return RecordedRun(
        tags.get("facet.stage", ""), run.info.experiment_id, run.info.run_id, tags.get(CURRENT) == "true", commit
    )


@contextlib.contextmanager
def _pointed_at(tracking_uri: str) -> Iterator[None]:
    """Set the tracking URI for logging models; MLflow keeps it in the environment, from which it is removed again."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
