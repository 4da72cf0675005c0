"""What a run in MLflow has: model, metrics, curves, parameters, data sets and files of a record."""

from __future__ import annotations

import json
import time

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.tracking import MlflowClient

from pipeline.tracking import live_runs
from pipeline.tracking.collect import read_curve
from pipeline.tracking.desired import Record
from pipeline.tracking.lineage import TRAINING
from pipeline.tracking.live_runs import METRICS_PER_BATCH, PARAMS_PER_BATCH, batches
from pipeline.tracking.mlflow_models import Models
from stages.runtime import measurements
from stages.runtime.measurements import Curve

DIGEST = 36
"""Maximum length of a data set's digest in MLflow."""


def fill(client: MlflowClient, run: Run, record: Record, models: Models) -> None:
    """Log everything of a record to a run, which is the active one."""
    run_id, now_ms = run.info.run_id, int(time.time() * 1000)
    if record.datasets:
        client.log_inputs(run_id, datasets=[_dataset(*dataset) for dataset in record.datasets])
    model_id = models.attach(run_id, record)
    points = [] if record.curve is None else list(read_curve(record.curve))
    last = max((step for step, _, _ in points), default=0)
    drawn = {name for _, name, _ in points}  # their last point is what metrics repeat
    final = {name: value for name, value in record.metrics.items() if name not in drawn}
    metrics = [Metric(name, value, now_ms, step) for step, name, value in points]
    metrics += [
        Metric(name, value, now_ms, last, model_id, *_measured_on(record, name)) for name, value in final.items()
    ]
    metrics += _by_step(client, run, record)
    for batch in batches(metrics, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=batch)
    for params in batches([Param(*item) for item in record.params.items()], PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params)
    if record.made_of:
        client.log_dict(run_id, dict(record.made_of), "lineage.json")
    if record.artifacts is not None:
        client.log_artifacts(run_id, str(record.artifacts))


def _by_step(client: MlflowClient, run: Run, record: Record) -> list[Metric]:
    """Return the curve by step, without what the run has of it from the time when it was trained."""
    if record.measurements is None:
        return []
    curve = Curve(live_runs.last_steps(client, run))
    _, points = measurements.read(record.measurements, curve)
    return live_runs.metrics_of(points)


def _measured_on(record: Record, metric: str) -> tuple[str | None, str | None]:
    """Return name and digest of the data set on which a metric was measured."""
    name, digest = record.measured_on.get(metric, (None, None))
    return name, digest and digest[:DIGEST]


def _dataset(name: str, digest: str, purpose: str) -> DatasetInput:
    folder, _, own = name.partition("/")
    place = f"sets/{own}.txt" if own else "train" if purpose == TRAINING else "eval"
    source = json.dumps({"path": f"data/{folder}/{place}", "md5": digest})
    dataset = Dataset(name=name, digest=digest[:DIGEST], source_type="dvc", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", purpose)])
