"""A machine leaves a pool while it trains: the training goes on elsewhere from the checkpoint that was pushed."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.scene import Note
from tests.machines.network import Machine, Network, end
from tests.pipeline import dummy
from tests.pipeline.dummy import wait_until, wait_until_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.mark.parametrize("told", ["worker", "all"])
def test_a_stopped_machines_training_goes_on_at_once_elsewhere_from_the_checkpoint_that_it_pushed(
    tmp_path: Path, api_url: str, note: Note, told: str
) -> None:
    pool, steps = f"leaving-{told}", 120
    (tmp_path / "store").mkdir()
    network = Network(tmp_path, api_url, str(tmp_path / "store"), (), {"FACET_PUSH_CHECKPOINTS": "1"})
    seed = dummy.make(tmp_path / "seed", 1)
    seed.write_params(seed.params() | {"checkpoint_steps": steps})
    network.publish(seed)
    coordinator, leaving, staying = (network.machine(name) for name in ("coordinator", "leaving", "staying"))
    process = coordinator.start("run", "--no-track", "--pool", pool)
    workers = [leaving.start_worker(pool)]
    try:
        prefects = workers[0]
        begun = leaving.wait_for("train_backbone@r0", "from 0", timeout_s=150)
        wait_until(lambda: bool(list(tmp_path.glob("store/checkpoints/*/last.json"))))
        # `kill` and `docker stop` tell the worker alone, `systemctl stop` and `scancel --full` each of its processes
        prefect = psutil.Process(prefects.pid)
        for each in [*(prefect.children(recursive=True) if told == "all" else []), prefect]:
            with contextlib.suppress(psutil.Error):
                each.terminate()
        left_s = time.time()
        wait_until_dead(begun["pid"], 40)
        # the first process of a container: it ends after all others
        assert prefects.wait(150) is not None
        assert not [each for each in psutil.process_iter(["cwd"]) if (each.info["cwd"] or "").startswith(str(leaving.path))]
        workers.append(staying.start_worker(pool))
        wait_until(lambda: staying.executed()["train_backbone@r0"] == 1)
        again_s = time.time() - left_s
        assert process.wait(200) == 0, coordinator.output()
    finally:
        end(workers)
        coordinator.stop(process)
    firsts = [int(what.removeprefix("from ")) for what in whats(staying) if what.startswith("from ")]
    assert len(firsts) == 1
    assert 0 < firsts[0] < steps
    assert again_s < 80, "before the heartbeat of the lost flow run was missed"
    assert not list(tmp_path.glob("store/checkpoints/*/*")), "what was pushed goes when the run has succeeded"
    who = "a worker of a pool" if told == "worker" else "every process of a worker of a pool"
    note(
        f"SIGTERM of {who}, with FACET_PUSH_CHECKPOINTS",
        f"another machine has begun {again_s:.0f} s later, from the last checkpoint; the worker ends after all that it started; Completed",
    )


def whats(machine: Machine) -> list[str]:
    """Return all that stages recorded on a machine."""
    return [json.loads(line)["what"] for line in (machine.path / "journal.jsonl").read_text().splitlines()]
