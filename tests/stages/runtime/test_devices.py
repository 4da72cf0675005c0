"""Which device a stage computes on; torch's GPUs are invented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stages.core.errors import OperationError
from stages.runtime import devices
from stages.training import distributed, networks
from tests import fake_gpus
from tests.stages import ranks


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")  # no lease
    for name in ("FACET_DEVICE", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "local", "device"),
    [
        ("cpu", "1", "cpu"), ("cpu:3", None, "cpu"), ("cpu:0", "1", "cpu"),
        ("cuda", None, "cuda"), ("cuda", "1", "cuda:1"), ("cuda:2", "1", "cuda:2"),
        ("gpu:3,5", "1", "cuda:1"), ("gpu:3", None, "cuda"), (None, "2", "cuda:2"),
    ],
)  # fmt: skip
def test_each_process_of_a_machine_takes_its_own_gpu(
    given: str | None, local: str | None, device: str, monkeypatch: pytest.MonkeyPatch
):
    fake_gpus.seen_by_torch(monkeypatch, 3)
    for name, value in (("FACET_DEVICE", given), ("LOCAL_RANK", local)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert devices.choose() == torch.device(device)


def test_a_process_that_its_launcher_shows_one_gpu_takes_that_one(monkeypatch: pytest.MonkeyPatch):
    fake_gpus.seen_by_torch(monkeypatch, 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert devices.choose() == torch.device("cuda:0")


@pytest.mark.parametrize(("given", "local"), [(None, "4"), ("cuda:4", "0"), ("cuda:1", None)])
def test_a_gpu_beyond_those_there_are_is_refused(given: str | None, local: str | None, monkeypatch: pytest.MonkeyPatch):
    fake_gpus.seen_by_torch(monkeypatch, 1 if local is None else 4)
    for name, value in (("FACET_DEVICE", given), ("LOCAL_RANK", local)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"should compute on cuda:\d, and there are \d GPUs here: start at most \d proc"):
        devices.choose()


def test_a_device_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_DEVICE", "gpu")
    with pytest.raises(ValueError, match="FACET_DEVICE should be cpu, cuda or cuda:0, got 'gpu'"):
        devices.choose()


def share_one_gpu(folder: Path, uuids: tuple[str, str]) -> None:
    """Join as one of two processes whose launcher shows each a GPU of this UUID, as number 0; write what is raised."""
    with pytest.MonkeyPatch.context() as monkeypatch:

        def work(ours: distributed.Processes) -> None:
            monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
            uuid = SimpleNamespace(uuid=uuids[ours.rank])
            monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: uuid)
            # what would come next needs NCCL
            monkeypatch.setattr(distributed.dist, "init_process_group", lambda *given, **named: 1 / 0)
            with pytest.raises((ValueError, ZeroDivisionError)) as raised, distributed.joined(torch.device("cuda:0")):
                pass
            (folder / str(ours.rank)).write_text(str(raised.value))

        ranks.run(2, work)


@pytest.mark.parametrize("uuids", [("aa", "aa"), ("aa", "bb")])
def test_two_processes_are_refused_on_one_gpu_and_not_on_two_that_both_call_the_first(
    uuids: tuple[str, str], tmp_path: Path
):
    share_one_gpu(tmp_path, uuids)
    said = {(tmp_path / str(rank)).read_text()[:46] for rank in range(2)}
    assert said == {"processes 0 and 1 would share one GPU: each ne" if uuids[0] == uuids[1] else "division by zero"}


@pytest.mark.parametrize(
    ("cuda", "remedy"),
    [
        ("13.0", r"built for CUDA 13.0, sees no GPU; here: 2 with NVIDIA driver 535.104. Update the driver \(CUDA 13.0 needs 580"),
        (None, "built without CUDA, sees no GPU; here: 2 with NVIDIA driver 535.104. Install torch with CUDA"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("leased", ["gpu:0", None])
def test_where_torch_sees_none_of_the_gpus_that_are_here_the_cpu_is_not_taken_in_silence(
    leased: str | None, cuda: str | None, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_gpus.listed(tmp_path, monkeypatch, 2, driver="535.104")
    fake_gpus.seen_by_torch(monkeypatch, 0, cuda=cuda)
    if leased:
        monkeypatch.setenv("FACET_DEVICE", leased)
    with pytest.raises(OperationError, match=remedy):
        devices.choose()


@pytest.mark.parametrize(("name", "value"), [("FACET_DEVICE", "cpu"), ("CUDA_VISIBLE_DEVICES", "")])
def test_who_asks_for_the_cpu_gets_it_though_there_are_gpus(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_gpus.listed(tmp_path, monkeypatch, 2)
    fake_gpus.seen_by_torch(monkeypatch, 0)
    monkeypatch.setenv(name, value)
    assert devices.choose() == torch.device("cpu")


def test_a_card_that_this_torch_has_no_code_for_is_refused(monkeypatch: pytest.MonkeyPatch):
    fake_gpus.seen_by_torch(monkeypatch, 1, (7, 0))
    with pytest.raises(OperationError, match=r"has compute capability 7\.0, and torch .* is built for sm_75, sm_80"):
        devices.choose()


def test_a_later_card_of_a_generation_runs(monkeypatch: pytest.MonkeyPatch):
    fake_gpus.seen_by_torch(monkeypatch, 1, (8, 9))
    assert devices.choose().type == "cuda"


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_auto_is_bf16_where_the_card_has_it_and_fp16_on_others(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    fake_gpus.seen_by_torch(monkeypatch, 1, capability)
    assert networks.autocast_type("auto", torch.device("cuda")) == dtype


def test_an_nvidia_smi_that_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_gpus.listed(tmp_path, monkeypatch, 1, hangs=True)
    monkeypatch.setattr("stages.runtime.gpu_lock.SMI_S", 0.2)
    with pytest.raises(OperationError, match="nvidia-smi did not answer within 0 s"):
        devices.choose()
