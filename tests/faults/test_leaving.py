"""A machine leaves a pool while it trains: the training goes on elsewhere from the checkpoint that was pushed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest

from tests.faults import scene
from tests.faults.scene import Note
from tests.machines.network import Network, end
from tests.pipeline import dummy
from tests.pipeline.dummy import wait_until, wait_until_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

STEPS = 120
TRAINING = f"""\
if kind == "train_backbone":
    home = pathlib.Path(".facet/checkpoints/0123456789abcdef")
    first = max([int(path.name.removeprefix("step-")) for path in home.glob("step-??????????")], default=0)
    note(f"from {{first}}")
    for step in range(first + 1, {STEPS} + 1):
        time.sleep(0.5)
        aside = home / "aside.partial"
        aside.mkdir(parents=True, exist_ok=True)
        (aside / "checkpoint.json").write_text('{{"best_step": null}}')
        aside.replace(home / f"step-{{step:010d}}")
"""
"""Checkpoints in folders, as trainings have them: those of `scene` are a file each."""


@pytest.mark.parametrize("told", ["worker", "all"])
def test_a_stopped_machines_training_goes_on_at_once_elsewhere_from_the_checkpoint_that_it_pushed(
    tmp_path: Path, api_url: str, note: Note, told: str
) -> None:
    pool = f"leaving-{told}"
    (tmp_path / "store").mkdir()
    network = Network(tmp_path, api_url, str(tmp_path / "store"), (), {"FACET_PUSH_CHECKPOINTS": "1"})
    seed = dummy.make(tmp_path / "seed", 1)
    program = seed.path / "work.py"
    program.write_text(program.read_text().replace("time.sleep(seconds)\n", TRAINING))
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
        assert scene.processes_in(leaving.path) == []
        workers.append(staying.start_worker(pool))
        wait_until(lambda: staying.executed()["train_backbone@r0"] == 1)
        again_s = time.time() - left_s
        assert process.wait(200) == 0, coordinator.output()
    finally:
        end(workers)
        coordinator.stop(process)
    whats = [entry["what"] for entry in scene.all_entries(staying)]
    firsts = [int(what.removeprefix("from ")) for what in whats if what.startswith("from ")]
    assert len(firsts) == 1
    assert 0 < firsts[0] < STEPS
    assert again_s < 80, "before the heartbeat of the lost flow run was missed"
    assert not list(tmp_path.glob("store/checkpoints/*/*")), "what was pushed goes when the run has succeeded"
    who = "a worker of a pool" if told == "worker" else "every process of a worker of a pool"
    note(
        f"SIGTERM of {who}, with FACET_PUSH_CHECKPOINTS",
        f"another machine has begun {again_s:.0f} s later, from the last checkpoint; the worker ends after all that it started; Completed",
    )
