"""What a training run says of its environment."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import pytest
import torch

from stages.config.training import Compute
from stages.training import environment
from tests import fake_gpus

CPU = torch.device("cpu")
PLAIN = Compute.model_validate({})


def test_everything_is_named_and_nothing_of_a_gpu_is_invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = environment.describe(CPU, PLAIN, 2)
    assert said["python"] == platform.python_version()
    assert said["torch"] == str(torch.__version__)
    assert (said["precision"], said["processes"], said["cudnn"]) == ("float32", 2, None)
    assert said["uv_lock_sha256"] is None
    assert said["device"]
    assert platform.node() not in said.values(), "a machine's name is nobody's business"


def test_a_gpu_is_named_with_its_driver_and_what_auto_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_gpus.listed(tmp_path, monkeypatch, 2)
    fake_gpus.seen_by_torch(monkeypatch, 2, (7, 5))
    compute = Compute.model_validate({"matmul": "tf32"})
    said = environment.describe(torch.device("cuda:1"), compute, 2)
    named = {name: said[name] for name in ("device", "driver", "precision", "matmul", "deterministic", "cuda")}
    assert named == {
        "device": "NVIDIA Invented", "driver": "580.65.06", "precision": "float16", "matmul": "tf32",
        "deterministic": False, "cuda": "13.0",
    }  # fmt: skip


def test_the_lock_file_of_the_project_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uv.lock").write_bytes(b"version = 1\n")
    said = environment.describe(CPU, PLAIN, 1)
    assert said["uv_lock_sha256"] == hashlib.sha256(b"version = 1\n").hexdigest()


def test_another_version_of_any_package_is_another_digest():
    versions = environment.installed()
    assert versions["torch"].split("+")[0] == str(torch.__version__).split("+")[0]
    other = {**versions, "numpy": "0"}
    assert environment.packages_digest(other) != environment.packages_digest(versions)


@pytest.mark.parametrize(
    ("text", "said"), [("processor : 0\nmodel name\t: A CPU @ 2 GHz\n", "A CPU @ 2 GHz"), ("", platform.machine())]
)
def test_the_processor_is_named_as_the_kernel_has_it(tmp_path: Path, text: str, said: str):
    (tmp_path / "cpuinfo").write_text(text)
    assert environment.processor(tmp_path / "cpuinfo") == said


def test_a_kernel_without_that_file_gives_the_architecture(tmp_path: Path):
    assert environment.processor(tmp_path / "none") == platform.machine()
