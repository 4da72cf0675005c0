"""Finds the run that was shown while a training was under way, to complete it instead of making another.

Call it while holding `store.alone`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Run, RunTag
from mlflow.tracking import MlflowClient

from pipeline.tracking import live_runs
from pipeline.tracking.desired import CURRENT, FINGERPRINT, TRAINING_KEY, WHERE, Record
from pipeline.tracking.live_runs import FILLING, LIVE


class LiveRuns:
    """The runs of an experiment that were opened while something trained, and are not completed."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.runs = live_runs.live_runs(client, experiment_id)

    def of(self, record: Record, complete: Run | None) -> Run | None:
        """Return the run to complete for a record, if there is one; superfluous ones are deleted.

        Args:
            record: a training's.
            complete: the run that the record has already.
        """
        if TRAINING_KEY not in record.tags or record.under_way:
            return None
        kept: Run | None = None
        for run in [one for one in self.runs if one.data.tags.get(WHERE) == record.where]:
            tags = run.data.tags
            ours = tags.get(TRAINING_KEY) == record.tags[TRAINING_KEY]
            is_same = ours and tags.get(FINGERPRINT, record.fingerprint) == record.fingerprint
            if is_same and complete is None and kept is None and _fits(run, record):
                kept = run
            elif is_same:
                self.client.delete_run(run.info.run_id)  # there is one, or a kill left it half filled
            elif tags.get(CURRENT) == "true":
                self.client.set_tag(run.info.run_id, CURRENT, "false")  # of other parameters, data or code
        return kept


def begin(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    """Give a run its tags, and mark it as half filled until it is complete."""
    everything = {**tags, LIVE: FILLING, live_runs.ENDED: ""}
    client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in everything.items()])


def _fits(run: Run, record: Record) -> bool:
    """Return whether a run can become that of a record: MLflow changes no parameter."""
    same = all(record.params.get(name) == value for name, value in run.data.params.items())
    return run.data.tags.get(LIVE) != FILLING and same
