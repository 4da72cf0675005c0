"""Runs that share devices: each gets one in its turn, and nobody waits for one who cannot take it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.devices import fairness
from pipeline.devices.leases import Device, Pool

GPU = Device("gpu:0", "0", "GPU-aa")

# a run with stages of .3 s that looks for a slot as often as `facet run` does, and says when it has one
RUN = """
import sys, time
from pathlib import Path
from pipeline.devices.leases import Pool
name, count, poll_s, folder = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
pool = Pool([], 1, folder)
for _ in range(count):
    while (lease := pool.try_lease(False)) is None:
        time.sleep(poll_s)
    print(name, flush=True)
    time.sleep(0.3)
    lease.release()
pool.stop_waiting()
"""

WAIT = """
import sys, time
from pathlib import Path
from pipeline.devices.leases import Pool
print(Pool([], 1, Path(sys.argv[1])).try_lease(False), flush=True)
time.sleep(60)
"""


@pytest.fixture
def clock() -> list[float]:
    """Seconds that only this test moves."""
    return [100.0]


def pools(folder: Path, clock: list[float], gpus: list[Device], num_slots: int = 1) -> list[Pool]:
    found = [Pool(gpus, num_slots, folder / "slots", gpu_folder=folder / "gpus") for _ in range(2)]
    for pool in found:
        for kind in pool.kinds.values():
            kind.turns.now_s = lambda: clock[0]
    return found


@pytest.mark.parametrize("gpus", [[], [GPU]], ids=["slots", "GPUs"])
def test_who_had_the_device_lets_the_other_go_first(tmp_path: Path, clock: list[float], gpus: list[Device]) -> None:
    one, other = pools(tmp_path, clock, gpus)
    for _ in range(3):
        lease = one.try_lease(True)
        assert lease is not None
        assert other.try_lease(True) is None
        lease.release()
        clock[0] += 0.1
        assert one.try_lease(True) is None
        one, other = other, one
    for pool in (one, other):
        pool.stop_waiting()


def test_nothing_is_left_to_nobody(tmp_path: Path, clock: list[float]) -> None:
    one, other = pools(tmp_path, clock, [])
    for _ in range(3):
        lease = one.try_lease(False)
        assert lease is not None
        lease.release()
    lease = one.try_lease(False)
    assert other.try_lease(False) is None
    assert lease is not None
    with pytest.raises(TimeoutError):
        other.lease(False, timeout_s=0)
    lease.release()
    with one.lease(False, timeout_s=0):
        pass


def test_a_device_that_the_other_does_not_take_is_left_for_seconds_only(tmp_path: Path, clock: list[float]) -> None:
    one, other = pools(tmp_path, clock, [])
    lease = one.try_lease(False)
    assert lease is not None
    assert other.try_lease(False) is None
    lease.release()
    clock[0] += 1
    assert one.try_lease(False) is None
    clock[0] += fairness.YIELD_S
    lease = one.try_lease(False)
    assert lease is not None
    lease.release()
    other.stop_waiting()


def test_who_has_one_device_does_not_wait_for_more_before_others(tmp_path: Path, clock: list[float]) -> None:
    one, other = pools(tmp_path, clock, [], num_slots=2)
    first, second = one.try_lease(False), other.try_lease(False)
    assert first is not None
    assert second is not None
    assert one.try_lease(False) is None  # it would like a second one
    second.release()
    # the other had one, too, and nobody is without
    again = other.try_lease(False)
    assert again is not None
    for lease in (first, again):
        lease.release()


def test_another_process_gets_its_turn_beside_one_that_looks_far_more_often(tmp_path: Path) -> None:
    def start(name: str, count: int, poll_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUN, name, str(count), str(poll_s), str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start("greedy", 1000, 0.001) as greedy:
        assert greedy.stdout is not None
        assert greedy.stdout.readline() == "greedy\n"
        with start("patient", 4, 0.5) as patient:
            # alone by chance it would find the slot free once in hundreds of looks
            try:
                said, _ = patient.communicate(timeout=60)
                assert greedy.poll() is None
            finally:
                patient.kill()
                greedy.kill()
        assert said.split() == ["patient"] * 4


def test_a_killed_run_is_waited_for_by_nobody(tmp_path: Path, clock: list[float]) -> None:
    one, _ = pools(tmp_path, clock, [])
    lease = one.try_lease(False)
    assert lease is not None
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, str(tmp_path / "slots")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # its Pool is gone already: the file that the process has open says that it waits
        assert process.stdout.readline() == "None\n"
        lease.release()
        assert one.try_lease(False) is None
        process.kill()
        process.wait()
    with one.lease(False, timeout_s=0):
        pass
