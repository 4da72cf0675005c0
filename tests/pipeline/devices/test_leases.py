from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.devices import leases
from pipeline.devices.leases import Device, Pool

HOLD = """
import sys, time
from pathlib import Path
from pipeline.devices.leases import Device, try_lease
lease = try_lease(Device("gpu:0", "0", "GPU-aa"), Path(sys.argv[1]))
print("held" if lease else "taken", flush=True)
time.sleep(60)
"""
GPU = Device("gpu:0", "0", "GPU-aa")


def test_a_device_is_leased_once_and_again_after_its_release(tmp_path: Path) -> None:
    lease = leases.try_lease(GPU, tmp_path)
    assert lease is not None
    assert leases.try_lease(GPU, tmp_path) is None
    lease.release()
    lease.release()
    again = leases.try_lease(GPU, tmp_path)
    assert again is not None
    again.release()


def test_a_killed_holder_frees_its_device_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert leases.try_lease(GPU, tmp_path) is None
        holder.kill()
        holder.wait()
        with Pool([GPU], 1, tmp_path, gpu_folder=tmp_path).lease(True, timeout_s=1) as lease:
            assert lease.device == GPU


def test_two_checkouts_share_gpus_but_not_the_slots_of_a_cpu(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    one = Pool([GPU], 1, tmp_path / "one", gpu_folder=machine)
    other = Pool([GPU], 1, tmp_path / "other", gpu_folder=machine)
    with one.lease(needs_device=True), one.lease(needs_device=False):
        assert other.try_lease(needs_device=True) is None
        with other.lease(needs_device=False) as slot:
            assert slot.device.name == "cpu:0"


def test_a_pool_gives_each_of_its_devices_once(tmp_path: Path) -> None:
    gpus = [Device(f"gpu:{i}", str(i), f"GPU-{i}") for i in range(3)]
    pool = Pool(gpus, 2, tmp_path, gpu_folder=tmp_path)
    held = [pool.lease(True) for _ in range(3)]
    assert [lease.device.visible for lease in held] == ["0", "1", "2"]
    assert pool.try_lease(True) is None
    slots = [pool.lease(False) for _ in range(2)]
    assert pool.try_lease(False) is None
    held[1].release()
    with pool.lease(True) as lease:
        assert lease.device.visible == "1"
    for lease in (*held, *slots):
        lease.release()


def test_without_a_gpu_every_stage_takes_a_slot(tmp_path: Path) -> None:
    pool = Pool([], 1, tmp_path)
    with pool.lease(needs_device=True) as lease:
        assert lease.device == Device("cpu:0")
        assert lease.device.environment == {"FACET_DEVICE": "cpu", "FACET_SLOT": "cpu:0"}
        assert pool.try_lease(needs_device=False) is None


def test_waiting_for_a_device_ends_in_time(tmp_path: Path) -> None:
    pool = Pool([], 1, tmp_path)
    with pool.lease(False), pytest.raises(TimeoutError, match=r"no device was released within 0\.3 s"):
        pool.lease(False, timeout_s=0.3)


def test_a_pool_without_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one job is needed, got 0"):
        Pool([], 0, tmp_path)


def two_gpus() -> list[tuple[str, str]]:
    return [("0", "GPU-aa"), ("1", "GPU-bb")]


@pytest.mark.parametrize(
    ("mask", "visible"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("GPU-bb", ["GPU-bb"]),
        ("0,7,1", ["0"]),
        ("-1", []),
        ("", []),
    ],
)
def test_an_outer_mask_is_kept(mask: str | None, visible: list[str]) -> None:
    environment = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    found = leases.find_gpus(environment, two_gpus)
    assert [device.visible for device in found] == visible


def test_one_gpu_has_one_lock_however_a_mask_names_it() -> None:
    by_index = leases.find_gpus({"CUDA_VISIBLE_DEVICES": "1"}, two_gpus)
    by_uuid = leases.find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, two_gpus)
    assert by_index[0].identity == by_uuid[0].identity == "GPU-bb"


def test_a_stage_sees_its_own_gpu_only_and_a_slot_none() -> None:
    gpu = leases.find_gpus({}, two_gpus)[1]
    assert gpu.environment["CUDA_VISIBLE_DEVICES"] == "1"
    slot, _ = Pool([gpu], 1, Path("slots")).slots[0]
    assert slot.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    assert leases.find_gpus({"CUDA_VISIBLE_DEVICES": "0"}, list) == []


def test_a_training_of_several_processes_gets_so_many_whole_gpus_or_none(tmp_path: Path) -> None:
    gpus = [Device(f"gpu:{i}", str(i), f"GPU-{i}") for i in range(3)]
    pool = Pool(gpus, 2, tmp_path, gpu_folder=tmp_path, per_device=2)
    two = pool.try_lease(needs_device=True, num_gpus=2)
    assert two is not None
    assert two.device.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert pool.try_lease(needs_device=True, num_gpus=2) is None
    one = pool.try_lease(needs_device=True)
    assert one is not None
    assert one.device.visible == "2"
    one.release()
    two.release()
    # more than there are: all, and the training says what it misses
    every = pool.try_lease(needs_device=True, num_gpus=8)
    assert every is not None
    assert every.device.visible == "0,1,2"
    every.release()


def test_other_users_can_open_the_locks_of_one_with_a_strict_umask(tmp_path: Path) -> None:
    code = f"import os; os.umask(0o077)\n{HOLD.replace('sleep(60)', 'sleep(0)')}"
    folder = tmp_path / "machine"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "held\n"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o644]
