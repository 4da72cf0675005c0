"""The Prefect flow of a training run in a work pool: the stages of one training run, in a workspace of their own.

Prefect's workers start it on any machine that has a clone. It is `facet run` of these stages, at the coordinator's
commit, on devices that it leases here; the result of each stage goes to the DVC remote when it is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import State, flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Crashed, Failed

from pipeline.base import environment
from pipeline.base.workspace import Workspace
from pipeline.devices import leases
from pipeline.devices.leases import Lease
from pipeline.execution import history
from pipeline.execution.executor import Executor, Patience, Say
from pipeline.execution.graph import Graph, Stage
from pipeline.execution.stage_result import StageResult, message_of
from pipeline.flow import display, facet_run, prefect_patches, reconcile
from pipeline.servers import follower
from pipeline.servers.flow_run_requests import SIGNALS
from pipeline.workers import code_transfer, input_transfer, last_report, prefect_worker, result_transfer, work_pool
from pipeline.workers.checkpoint_transfer import Pushing
from pipeline.workers.pool_executor import HOST, STOPPED, label
from pipeline.workers.remote_calls import Calls
from stages.runtime import followers, locks


@flow(name=work_pool.FLOW, **facet_run.OPTIONS)
def training_run(request: dict[str, Any]) -> State[Any]:
    """Run the stages of one training run that a coordinator sent, at its commit, and publish their results."""
    clone = prefect_worker.project()
    environment.enter(clone)
    prefect_patches.install()
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # nobody would look into a store in that workspace
        os.environ[followers.SWITCH] = "0"
    tell({HOST: socket.gethostname()})
    with _tree(clone, f"{flow_run.get_name()}-{request['workspace']}") as tree:
        last_report.promise(tree, flow_run.get_id() or "")
        code_transfer.check_out(clone, tree, request["commit"], request["reference"])
        state = _run(Workspace(tree, tree), clone, request)
        if state.is_completed():
            follower.end(tree)
            os.chdir(clone)
            _remove(tree)
    # Prefect's engine gives up a server that is away; what came out is to be known some day
    work_pool.patiently(lambda: tell({}))
    prefect_patches.send_what_waits(flow_run.get_id() or "")
    return state


def tell(labels: Mapping[str, str]) -> None:
    """Report to whoever waits for this flow run."""
    with get_client(sync_client=True) as api:
        work_pool.patiently(lambda: api.update_flow_run_labels(UUID(flow_run.get_id()), dict(labels)))


@contextlib.contextmanager
def _tree(clone: Path, name: str) -> Iterator[Path]:
    """Hold a training run's own workspace: what is not finished in it goes on there the next time."""
    tree = environment.state_folder(clone).resolve() / "training-runs" / name
    with locks.held(tree.with_name(f"{name}.lock")):
        yield tree


def _remove(tree: Path) -> None:
    """Remove a workspace in a way that no later training run finds half of it."""
    aside = tree.with_name(f"{tree.name}.done")
    shutil.rmtree(aside, ignore_errors=True)
    tree.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _run(where: Workspace, clone: Path, request: Mapping[str, Any]) -> State[Any]:
    graph = Graph({each["address"]: Stage(**each) for each in request["stages"]})
    reconcile.settle_all(where.folder)
    os.chdir(where.folder)
    slots = environment.state_folder(clone).resolve() / "leases"
    with display.brief(), contextlib.closing(Publishing(where.folder, request["patience"], slots)) as executor:
        arguments = {name: request[name] for name in ("reads", "inputs")}
        try:
            refused = executor.calls.call(executor.forker, input_transfer.receive, **arguments, own=str(clone))
        except (ValueError, LookupError, RuntimeError, OSError) as error:
            refused = message_of(error, get_run_logger().error)
        if refused:
            return Failed(message=f"{socket.gethostname()}: {refused}")
        checkpoints = Pushing(where.folder.name, executor.forker, get_run_logger().info)
        checkpoints.pull()
        with checkpoints:
            state = facet_run.work_on(where, executor, graph, [], track=False)
        if state.is_completed():
            checkpoints.remove()
    if (ended := history.ended_here(where.folder)) is not None:
        # it is this flow that says how it ended
        history.forget(where.folder, ended)
    # not by a person: another worker is to go on
    stopped = state.is_cancelled() and (state.message or "").startswith(SIGNALS_TOLD)
    return Crashed(message=STOPPED) if stopped and not _is_cancelled() else state


SIGNALS_TOLD = tuple(SIGNALS.values())


def _is_cancelled() -> bool:
    """Return whether somebody asked Prefect to end this flow run: its worker then sends the same signal."""
    with get_client(sync_client=True) as api:
        state = work_pool.patiently(lambda: api.read_flow_run(UUID(flow_run.get_id()))).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


class Publishing(Executor):
    """Runs stages like `Executor`, and sends the result of each to the DVC remote."""

    def __init__(self, root: Path, patience: Mapping[str, Any], slots: Path) -> None:
        jobs = leases.num_jobs(None, environment.num_cores())
        super().__init__(root, jobs, patience=Patience(**patience), slot_folder=slots)
        self.calls = Calls()

    def run(self, stage: Stage, lease: Lease, say: Say) -> StageResult:
        """Reproduce ``stage``, return the lease, publish the result and report it."""
        result, names = super().run(stage, lease, say), ("", "")
        if result.good:
            try:
                names = self.calls.call(self.forker, result_transfer.publish, address=stage.address)
            except (ValueError, LookupError, RuntimeError, OSError) as error:
                why = message_of(error, say)
                result = replace(result, state="failed" if self.stop_asked_s is None else "stopped", message=why)
        if result.state != "stopped":
            report = {"state": result.state, "message": result.message, "seconds": round(result.command_s, 3)}
            tell({label(stage.name): json.dumps(report | {"key": names[0], "value": names[1]})})
        return result

    def stop_all(self) -> None:
        """End all stages and transfers; start no others."""
        super().stop_all()
        self.calls.stop_all()
