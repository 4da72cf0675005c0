"""One run in MLflow per training while it trains: killed, resumed, failed, finished; the follower killed, or late."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import Run
from mlflow.system_metrics.metrics import gpu_monitor
from mlflow.tracking import MlflowClient

from pipeline.tracking import following, live_files, store
from pipeline.tracking.following import Follower
from pipeline.tracking.live_files import LiveFile
from tests.pipeline import live_training
from tests.pipeline.live_training import Training, curve, runs
from tests.pipeline.tracked import quietly

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with quietly():
        yield live_training.make(tmp_path, empty_store)


@pytest.fixture
def follower(root: Path) -> Iterator[Follower]:
    made = Follower(root, print)
    yield made
    made.close()


def only(root: Path) -> Run:
    (run,) = runs(store.uri(root))
    return run


def steps(root: Path, name: str = "loss") -> list[int]:
    return curve(store.uri(root), only(root), name)


def test_a_training_is_a_running_run_with_its_parameters_and_its_curve(root: Path, follower: Follower) -> None:
    training = Training(root)
    training.steps(1, 3)
    follower.tick()
    run = only(root)
    assert (run.info.status, run.info.run_name) == ("RUNNING", "arcface")
    assert run.data.params == {"dataset": "demo", "head.name": "arcface", "head.margin": "0.5", "seed": "0"}
    assert run.data.metrics["steps/loss"] == pytest.approx(10 / 3)
    assert run.data.metrics["steps/steps_left"] == 97
    assert run.data.tags["facet.current"] == "true"
    tags = MlflowClient(store.uri(root)).get_experiment(run.info.experiment_id).tags
    assert f"/experiments/{run.info.experiment_id}/runs?" in tags["mlflow.note.content"]
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    training.steps(4, 5)
    follower.tick()
    assert steps(root) == [1, 2, 3, 4, 5]
    training.end(signal.SIGKILL)


def test_load_and_memory_of_the_machine_are_measured_while_it_trains_and_not_afterwards(
    root: Path, follower: Follower
) -> None:
    training = Training(root)
    follower.tick()
    until_s = time.monotonic() + 30
    while "system/cpu_utilization_percentage" not in only(root).data.metrics and time.monotonic() < until_s:
        time.sleep(0.1)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= only(root).data.metrics.keys()
    training.end(signal.SIGKILL)
    follower.tick()
    before = curve_of_system(root)
    time.sleep(0.6)
    assert curve_of_system(root) == before


def curve_of_system(root: Path) -> int:
    name = "system/cpu_utilization_percentage"
    return len(MlflowClient(store.uri(root)).get_metric_history(only(root).info.run_id, name))


def test_killed_and_resumed_it_is_one_run_whose_curve_is_whole_and_without_duplicates(
    root: Path, follower: Follower
) -> None:
    training = Training(root)
    training.steps(1, 7)
    follower.tick()
    training.end(signal.SIGKILL)
    follower.tick()
    assert (only(root).info.status, only(root).data.tags["facet.ended"]) == ("KILLED", "killed")
    resumed = Training(root)
    resumed.steps(5, 9)  # from its checkpoint after step 4
    follower.tick()
    assert (only(root).info.status, only(root).data.tags["facet.ended"]) == ("RUNNING", "")
    assert steps(root) == list(range(1, 10))
    resumed.finish()
    follower.tick()
    assert only(root).info.status == "RUNNING"  # DVC has not recorded it
    fingerprint = live_training.lock(root)
    follower.tick()
    assert (only(root).info.status, only(root).data.tags["facet.fingerprint"]) == ("FINISHED", fingerprint)
    assert steps(root) == list(range(1, 10))
    assert follower.followed == {}


def test_sigterm_shows_it_as_killed_and_an_error_as_failed_with_its_sentence(root: Path, follower: Follower) -> None:
    stopped = Training(root)
    stopped.steps(1, 2)
    stopped.end(signal.SIGTERM)
    follower.tick()
    assert (only(root).info.status, only(root).data.tags["facet.ended"]) == ("KILLED", "stopped")
    again = Training(root)
    again.fail()
    follower.tick()
    assert (only(root).info.status, only(root).data.tags["facet.ended"]) == ("FAILED", "the loss is nan at step 7")


def test_load_memory_and_power_of_each_gpu_are_measured_where_there_is_one(
    root: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = FakeNvml(2)
    monkeypatch.setattr(gpu_monitor, "pynvml", two)
    training = Training(root)
    follower.tick()
    until_s = time.monotonic() + 30
    while "system/gpu_1_power_usage_watts" not in only(root).data.metrics and time.monotonic() < until_s:
        time.sleep(0.1)
    found = {name: value for name, value in only(root).data.metrics.items() if name.startswith("system/gpu_")}
    assert found["system/gpu_0_utilization_percentage"] == 70.0
    assert found["system/gpu_1_utilization_percentage"] == 71.0
    assert found["system/gpu_1_memory_usage_megabytes"] == 20_000.0
    assert found["system/gpu_1_memory_usage_percentage"] == 25.0
    assert found["system/gpu_1_power_usage_watts"] == 350.0
    training.end(signal.SIGKILL)


class FakeNvml:
    """NVIDIA's library as pynvml has it, on a machine with GPUs."""

    NVMLError = RuntimeError

    def __init__(self, count: int) -> None:
        self.count = count

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=20e9, total=80e9)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=70 + handle)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 350_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 700_000


def test_a_follower_that_comes_late_shows_all_and_one_that_was_killed_is_replaced(root: Path) -> None:
    training = Training(root)
    training.steps(1, 4)
    first, second = Follower(root, print), Follower(root, print)
    first.tick()
    first.close()
    training.steps(5, 8)
    second.tick()  # which knows nothing of what the first one sent
    assert steps(root) == list(range(1, 9))
    training.finish()
    live_training.lock(root)
    second.tick()
    second.close()
    assert (only(root).info.status, steps(root)) == ("FINISHED", list(range(1, 9)))
    third = Follower(root, print)
    third.tick()
    assert third.followed == {}  # it is known to be over
    assert third.settled


def test_a_run_that_was_deleted_is_made_again_with_its_whole_curve(root: Path, follower: Follower) -> None:
    training = Training(root)
    training.steps(1, 3)
    follower.tick()
    MlflowClient(store.uri(root)).delete_run(only(root).info.run_id)
    training.steps(4, 6)
    follower.tick()
    follower._again_s = 0.0
    follower.tick()
    assert (only(root).info.status, steps(root)) == ("RUNNING", [1, 2, 3, 4, 5, 6])
    training.end(signal.SIGKILL)


def test_other_parameters_are_another_run_and_what_dvc_does_not_record_is_killed(
    root: Path, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Training(root)
    one.steps(1, 2)
    follower.tick()
    one.end(signal.SIGKILL)
    follower.tick()
    other = Training(root, key="k2")
    other.steps(1, 3)
    other.finish()
    follower.tick()
    assert [run.info.status for run in runs(store.uri(root))] == ["KILLED", "RUNNING"]
    monkeypatch.setattr(following, "UNLOCKED_S", 0.0)
    follower.tick()
    assert [run.info.status for run in runs(store.uri(root))] == ["KILLED", "KILLED"]
    assert not (root / ".facet/live/arcface.k1.jsonl").exists()


def test_files_of_other_machines_and_half_written_lines_are_passed_over(root: Path, follower: Follower) -> None:
    training = Training(root)
    training.steps(1, 2)
    path = root / ".facet/live/arcface.k1.jsonl"
    with path.open("a") as stream:
        stream.write('{"time": 1.0, "step": 3, "lo')
    file = LiveFile(path)
    file.look()
    assert [point.step for point in file.waiting] == [1, 2]
    training.end(signal.SIGKILL)
    resumed = Training(root)
    resumed.steps(3, 3)
    file.look()
    assert [point.step for point in file.waiting] == [1, 2, 3]
    resumed.end(signal.SIGKILL)
    path.write_text(path.read_text().replace('"host": "', '"host": "not-'))
    follower.tick()
    assert (follower.followed, runs(store.uri(root))) == ({}, [])
    assert list(live_files.found(root)) == [path]


@pytest.mark.parametrize("meanwhile", ["followed", "follower was killed"])
def test_a_training_that_is_made_again_because_dvc_did_not_record_it_is_the_same_run(root: Path, meanwhile: str) -> None:
    follower = Follower(root, print)
    first = Training(root)
    first.steps(1, 4)
    first.finish()
    follower.tick()
    again = Training(root)  # there is no checkpoint of one that has finished
    again.steps(1, 6)
    if meanwhile == "follower was killed":
        follower.close()
        follower = Follower(root, print)
    follower.tick()
    assert (only(root).info.status, steps(root)) == ("RUNNING", [1, 2, 3, 4, 5, 6])
    again.end(signal.SIGKILL)
    follower.close()
