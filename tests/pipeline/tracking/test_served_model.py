"""The model that MLflow serves: rows in, rows out, over HTTP as people would ask it."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.base import environment
from pipeline.tracking import lineage, served_model
from pipeline.tracking.desired import Scope
from pipeline.tracking.locked_results import Finished

NOISE = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def encoded(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_an_image_is_the_same_in_every_form() -> None:
    forms = [encoded(NOISE), bytearray(encoded(NOISE)), base64.b64encode(encoded(NOISE)).decode(), NOISE, NOISE.tolist()]
    for form in forms:
        assert np.array_equal(served_model.read(form), NOISE)
        assert served_model.read(form).dtype == np.uint8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "got 0 bytes that are not an image"),
        (b"bad", "got 3 bytes that are not an image; they begin with b'bad'"),
        ("not base64!", "got text that is not base64"),
        (encoded(NOISE[:50]), r"got shape \(50, 112, 3\): detect and align the face first"),
        (NOISE / 255, "got float64 between 0.0 and "),
        ((NOISE.astype(int) - 1).tolist(), "got int64 between -1 and 254"),
        ([[1, 2], [3]], "inhomogeneous"),
        (None, r"got shape \(\)"),
        (7, r"got shape \(\)"),
    ],
)
def test_what_is_no_face_is_told_in_one_sentence(value: object, said: str) -> None:
    answer = served_model.read(value)
    assert isinstance(answer, str)
    assert answer.startswith("wanted an aligned face: JPEG or PNG bytes (base64 in JSON)")
    assert re.search(said, answer), answer


class Means(nn.Module):
    """A network that can be checked by hand: mean blue, green, red and a constant; quality is mean red."""

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean_N3 = image_N3HW.float().mean(dim=(2, 3))
        feature_N4 = torch.cat([mean_N3, torch.full_like(mean_N3[:, :1], 12.0)], dim=1)
        return nn.functional.normalize(feature_N4, dim=1), feature_N4.norm(dim=1), mean_N3[:, 2]


SCALES = {
    "cr_fiqa": {
        "lfw": {"meaning": "of lfw", "score": [10.0, 50.0], "percent": [0.0, 100.0]},
        "adience": {"meaning": "of adience", "score": [30.0], "percent": [50.0]},
    },
    "feature_norm": {"lfw": {"meaning": "of another method", "score": [0.0, 1.0], "percent": [0.0, 100.0]}},
}


def save(folder: Path) -> None:
    """As a row of a table is logged."""
    import mlflow

    from pipeline.tracking import mlflow_models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it advises an example beside the signature
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(mlflow_models.SERVED_MODEL),
            artifacts={"program": str(folder / "program.pt2"), "scales": str(folder / "scales.json")},
            model_config={"quality_method": "cr_fiqa"},
            signature=mlflow_models.signature(),
            pip_requirements=["torch"],
        )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` over a model."""
    folder = tmp_path_factory.mktemp("served")
    images = torch.zeros((2, 3, 112, 112), dtype=torch.uint8)
    dynamic = {"image_N3HW": {0: torch.export.Dim("N", min=1)}}
    torch.export.save(torch.export.export(Means(), (images,), dynamic_shapes=dynamic), folder / "program.pt2")
    (folder / "model.json").write_text("{}")
    (folder / "scales.json").write_text(json.dumps(SCALES))
    save(folder)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "-p", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1"],
            stdout=log, stderr=log, cwd=folder, env=environment.for_children(), start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, folder / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.2)


def ask(address: str, tree: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps(tree).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["predictions"]


@pytest.mark.slow
def test_a_request_over_http_is_answered_row_by_row(address: str) -> None:
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 30  # blue first
    texts = [base64.b64encode(data).decode() for data in (encoded(red), b"bad bytes", encoded(NOISE))]
    rows = ask(address, {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}})
    assert len(rows) == 3
    assert np.allclose(np.array(rows[0]["embedding"]) * rows[0]["feature_norm"], [0, 0, 30, 12])
    assert rows[0]["quality"] == pytest.approx(30)
    assert rows[0]["error"] is None
    # 30 is half way between 10 and 50
    assert (rows[0]["percent"], rows[0]["scale"]) == (pytest.approx(50), "of lfw")
    assert rows[1]["embedding"] is rows[1]["feature_norm"] is rows[1]["quality"] is rows[1]["percent"] is None
    assert "got 9 bytes that are not an image" in rows[1]["error"]
    assert np.allclose(np.array(rows[2]["embedding"]) * rows[2]["feature_norm"], [*NOISE.mean(axis=(0, 1)), 12])
    # the same image as nested lists, beside a bad one
    again = ask(address, {"inputs": [{"image": red.tolist()}, {"image": 3}]})
    assert again[0] == rows[0]
    assert "got shape ()" in again[1]["error"]
    # a set whose images have the same score has no scale, and its words say so
    [other] = ask(address, {"inputs": [{"image": red.tolist()}], "params": {"scale": "adience"}})
    assert (other["quality"], other["percent"], other["scale"]) == (pytest.approx(30), None, "of adience")
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address, {"inputs": [{"image": red.tolist()}], "params": {"scale": "cplfw"}})
    assert "no scale of a set 'cplfw': there are lfw, adience" in refused.value.read().decode()


def test_a_model_with_other_scales_is_another_model_and_without_the_suite_it_has_none(tmp_path: Path) -> None:
    for name, text in (("program.pt2", ""), ("model.json", '{"weights_sha256": "w"}')):
        path = tmp_path / "runs/r/backbone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    scales = tmp_path / "results/r/fiqa/scales.json"
    scales.parent.mkdir(parents=True)
    found = {}
    for text in ("{}", json.dumps(SCALES)):
        scales.write_text(text)
        out = {"path": "results/r/fiqa", "md5": lineage.folder_md5(scales.parent)}
        lock = {"schema": "2.0", "stages": {"evaluate_fiqa@r": {"cmd": "", "outs": [out]}}}
        (tmp_path / "dvc.lock").write_text(json.dumps(lock))
        found[text] = Finished(tmp_path, Scope(), tmp_path).model("r", "w")
        assert found[text].scales == scales
    assert len({model.key for model in found.values()}) == 2
    scales.write_text("not what DVC locked")
    without = Finished(tmp_path, Scope(), tmp_path).model("r", "w")
    assert without.scales is None
    assert without.key not in {model.key for model in found.values()}


class Context:
    """What MLflow hands to a model when it is loaded."""

    def __init__(self, folder: Path, method: str | None) -> None:
        self.artifacts = {"program": str(folder / "program.pt2")}
        if method is not None:
            self.artifacts["scales"] = str(folder / "scales.json")
        self.model_config = {"quality_method": method}


def test_the_scale_is_that_of_the_method_whose_score_is_served(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "scales.json").write_text(json.dumps(SCALES))
    monkeypatch.setattr(torch.export, "load", lambda path: torch.nn.ModuleList().append(Means()))
    monkeypatch.setattr(torch.nn.ModuleList, "module", lambda modules: modules[0], raising=False)
    for method, percent, said in (("cr_fiqa", 50.0, "of lfw"), ("feature_norm", 100.0, "of another method"), (None,) * 3):
        model = served_model.FaceEmbedder()
        model.load_context(Context(tmp_path, method))
        red = np.zeros((112, 112, 3), np.uint8)
        red[:, :, 2] = 30
        [row] = model.predict(None, {"image": [red]}).to_dict("records")
        assert (row["percent"], row["scale"]) == (percent, said)
