"""Writes records to MLflow through its client; importing this takes seconds, so `tracking` does it late.

A run is RUNNING until all of it is there. One that was left so by a killed process is deleted and made anew.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, ViewType
from mlflow.entities import Experiment as Found
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from pipeline import store, views
from pipeline.ablation import REPORTS, SWEEPS, Experiment, Record, Wanted, read_curve

CURRENT, FINGERPRINT, KEY, MODEL = "facet.current", "facet.fingerprint", "facet.key", "facet.model"
PAGE = 1000
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # MLflow refuses more
SERVED_MODEL = Path(__file__).with_name("served_model.py")
SERVED_WITH = ("mlflow", "numpy", "opencv-python-headless", "opencv-python", "pandas", "torch")
"""What the served model imports; of the two OpenCVs the one that is installed."""

T = TypeVar("T")


class Writer:
    """Brings one MLflow store to what is wanted; call it alone (`store.alone`)."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri)

    def write(self, wanted: Wanted, say: Callable[[str], None]) -> list[str]:
        """Make the runs that are missing, mark what is current, and return where the new ones stand."""
        with _pointed_at(self.tracking_uri):
            return self._write(wanted, say)

    def _write(self, wanted: Wanted, say: Callable[[str], None]) -> list[str]:
        created: list[str] = []
        found = {experiment.key: self._experiment(experiment) for experiment in wanted.experiments}
        run_ids: dict[str, str] = {}
        for experiment in wanted.experiments:
            existing = self._runs(found[experiment.key].experiment_id)
            # MLflow lists the newest run first: made from the last row up, they stand in the table's order
            for record in reversed(experiment.records):
                run = self._settle(existing.pop(record.fingerprint, []))
                if run is None:
                    say(f"recording {record.where}")
                    run = self._make(found[experiment.key].experiment_id, record)
                    created.append(record.where)
                elif record.model is not None and run.data.tags.get(MODEL) == "absent":
                    with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
                        self._log_model(run.info.run_id, record.model)
                run_ids[record.where] = run.info.run_id
                self._mark(run, current=True)
            self._mark_others(existing, wanted.locked)
        if wanted.whole:
            self._retire(wanted)
        for experiment in wanted.experiments:
            self._describe(found[experiment.key], experiment, found.get(REPORTS), run_ids)
        return created

    def _experiment(self, experiment: Experiment) -> Found:
        """Return our experiment, made or renamed if need be."""
        found = next((one for one in self._experiments() if one.tags.get(KEY) == experiment.key), None)
        name = self._free_name(experiment, found)
        if found is None:
            root = store.artifact_root(self.tracking_uri)
            location = None if root is None else f"{root}/{experiment.key}"
            made = self.client.create_experiment(name, location, tags={KEY: experiment.key})
            return self.client.get_experiment(made)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found.name != name:
            self.client.rename_experiment(found.experiment_id, name)
        return found

    def _free_name(self, experiment: Experiment, mine: Found | None) -> str:
        """Return the experiment's name, with its key behind it where another experiment has it already."""
        other = self.client.get_experiment_by_name(experiment.name)
        taken = other is not None and (mine is None or other.experiment_id != mine.experiment_id)
        return f"{experiment.name} ({experiment.key})" if taken else experiment.name

    def _experiments(self) -> Iterator[Found]:
        token: str | None = None
        while True:
            page = self.client.search_experiments(ViewType.ALL, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _runs(self, experiment_id: str) -> dict[str, list[Run]]:
        """Return our runs in an experiment by fingerprint, the oldest first."""
        found: dict[str, list[Run]] = {}
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id], max_results=PAGE, page_token=token, order_by=["attributes.start_time ASC"]
            )
            for run in page:
                if FINGERPRINT in run.data.tags:
                    found.setdefault(run.data.tags[FINGERPRINT], []).append(run)
            token = page.token
            if not token:
                return found

    def _settle(self, runs: Sequence[Run]) -> Run | None:
        """Return the one finished run; delete what a killed process left or another machine made as well."""
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

    def _make(self, experiment_id: str, record: Record) -> Run:
        """Make one run, whole or not at all."""
        tags = {
            FINGERPRINT: record.fingerprint, "facet.kind": record.kind, CURRENT: "true",
            MODEL: "absent" if record.model is None else "logged",
            "mlflow.source.type": "PROJECT", **record.tags,
        }  # fmt: skip
        run = self.client.create_run(experiment_id, tags=tags, run_name=record.name)
        try:
            # RUNNING inside; FINISHED behind it, if all is well
            with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=False):
                self._fill(run.info.run_id, record)
        except BaseException:
            # best effort: a dead server cannot delete either, and a run that is not FINISHED is made anew
            self._try_to_delete(run)
            raise
        return run

    def _try_to_delete(self, run: Run) -> None:
        with contextlib.suppress(Exception):
            self._delete(run)

    def _fill(self, run_id: str, record: Record) -> None:
        now_ms = int(time.time() * 1000)
        model_id = None if record.model is None else self._log_model(run_id, record.model)
        points = [] if record.curve is None else list(read_curve(record.curve))
        last = max((step for step, _, _ in points), default=0)
        drawn = {name for _, name, _ in points}  # their last point is what metrics repeat
        final = {name: value for name, value in record.metrics.items() if name not in drawn}
        metrics = [Metric(name, value, now_ms, step) for step, name, value in points]
        metrics += [Metric(name, value, now_ms, last, model_id) for name, value in final.items()]
        for batch in _batches(metrics, METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=batch)
        for params in _batches([Param(*item) for item in record.params.items()], PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=params)
        if record.datasets:
            self.client.log_inputs(run_id, datasets=[_dataset(*dataset) for dataset in record.datasets])
        if record.made_of:
            self.client.log_dict(run_id, dict(record.made_of), "lineage.json")
        if record.artifacts is not None:
            self.client.log_artifacts(run_id, str(record.artifacts))

    def _log_model(self, run_id: str, folder: Path) -> str:
        """Log the exported program as a pyfunc model of the active run, with its signature; return its ID."""
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        # with the score of the run's quality method, where it has one
        scoring = folder.parent / "quality" / "program.pt2"
        program = scoring if scoring.is_file() else folder / "program.pt2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it advises an example beside the signature
            made = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts={"program": str(program), "about": str(folder / "model.json")},
                signature=signature(),
                # said, not inferred: inference would import everything and take ten seconds
                pip_requirements=[f"{name}=={release}" for name in SERVED_WITH if (release := _release(name))],
                metadata={"weights_sha256": facts["weights_sha256"], "color_order": facts["color_order"]},
            )
        self.client.set_tag(run_id, MODEL, "logged")
        return str(made.model_id)

    def _mark(self, run: Run, *, current: bool) -> None:
        value = str(current).lower()
        if run.data.tags.get(CURRENT) != value:
            self.client.set_tag(run.info.run_id, CURRENT, value)

    def _mark_others(self, runs: Mapping[str, Sequence[Run]], locked: frozenset[str]) -> None:
        """Mark runs that are not recorded now: of results that are not here, or that were replaced."""
        for fingerprint, alike in runs.items():
            run = self._settle(alike)
            if run is not None:
                self._mark(run, current=fingerprint in locked)

    def _retire(self, wanted: Wanted) -> None:
        """Mark the rows of tables that are no longer there."""
        keys = {experiment.key for experiment in wanted.experiments}
        for found in self._experiments():
            key = found.tags.get(KEY, SWEEPS)
            if not key.startswith(SWEEPS) and key not in keys and found.lifecycle_stage == "active":
                self._mark_others(self._runs(found.experiment_id), frozenset())

    def _describe(
        self, found: Found, experiment: Experiment, reports: Found | None, run_ids: Mapping[str, str]
    ) -> None:
        """Say on the experiment's page what it is, and save the view that shows it as a table."""
        table = experiment.key.removeprefix("table.")
        links = []
        if experiment.shown:
            links.append(f"[As the table](#{views.path(found.experiment_id)})")
        if reports is not None and (report := run_ids.get(f"{REPORTS}/{table}")):
            links.append(f"[Report](#{views.report_path(reports.experiment_id, report)})")
        tags = {"mlflow.note.content": "\n\n".join(filter(None, [" · ".join(links), experiment.note]))}
        if experiment.shown:
            tags[views.TAG] = views.state(experiment.shown)
        for key, value in tags.items():
            if found.tags.get(key) != value:
                self.client.set_experiment_tag(found.experiment_id, key, value)


def find_experiment(tracking_uri: str, key: str) -> str | None:
    """Return the ID of our experiment ``key``, None if it is not there."""
    found = Writer(tracking_uri)._experiments()
    active = (one for one in found if one.tags.get(KEY) == key and one.lifecycle_stage == "active")
    return next((str(one.experiment_id) for one in active), None)


def signature() -> ModelSignature:
    """Return what the served model takes and gives; an image is bytes, base64 text, an array or a nested list."""
    optional = (("feature_norm", DataType.double), ("quality", DataType.double), ("error", DataType.string))
    outputs = [ColSpec(Array(DataType.double), "embedding", required=False)]
    outputs += [ColSpec(kind, name, required=False) for name, kind in optional]
    return ModelSignature(inputs=Schema([ColSpec(AnyType(), "image")]), outputs=Schema(outputs))


@contextlib.contextmanager
def _pointed_at(tracking_uri: str) -> Iterator[None]:
    """Let models be logged to ``tracking_uri``; MLflow keeps it in the environment, where it must not stay."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _dataset(name: str, md5: str, purpose: str) -> DatasetInput:
    folder = "train" if purpose == "training" else "eval"
    source = json.dumps({"path": f"data/{name}/{folder}", "md5": md5})
    # MLflow takes 36 characters of digest
    dataset = Dataset(name=name, digest=md5[:36], source_type="dvc", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", purpose)])


def _release(package: str) -> str | None:
    """Return an installed version without its local part: torch 2.13.0+cpu can be installed as 2.13.0 anywhere."""
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
