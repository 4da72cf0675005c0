"""Readers of checkpoints, models, parameters, tables, scores and records of runs, for the fuzzer."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from onnx import TensorProto, helper

from pipeline.execution import history
from pipeline.execution.stage_result import StageResult
from pipeline.tracking import recorded_ids
from pipeline.tracking.recorded_ids import RecordedIds, RecordedRun
from stages.config import params
from stages.core.networks import checkpoint_keys
from stages.inspection import networks
from stages.io import checkpoint_reader, class_centres, class_names, score_files
from stages.models import import_checkpoint, model_files
from stages.runtime import artifacts, measurements
from stages.training.checkpoints import Checkpoints, Snapshot
from tests.fuzz import mutations
from tests.fuzz.judge import Target
from tests.fuzz.lists import PICKLE, TABLE, TEXT
from tests.support import PARAMS, ROOT
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

ARCHIVE = (mutations.of_bytes, mutations.of_archive, mutations.of_archive, mutations.of_archive)
TREE = (mutations.of_bytes, mutations.of_text, mutations.of_tree, mutations.of_tree)


def checkpoint(folder: Path) -> list[bytes]:
    """A network's state dict as its authors write it, one with their settings beside it, and one of before torch 1.6."""
    state = dict(list(fill(build(NARROW_CONFIGS["adaface"])).state_dict().items())[:6])
    made = []
    for tree, zipped in ((state, True), ({"epoch": 3, "state_dict": {"w": torch.zeros(2)}, "path": Path("x")}, True), ({"w": torch.zeros(2)}, False)):
        written = io.BytesIO()
        torch.save(tree, written, _use_new_zipfile_serialization=zipped)
        made.append(written.getvalue())
    (folder / "c.ckpt").write_bytes(made[0])
    return made


def read_checkpoint(folder: Path) -> None:
    networks.see_checkpoint(folder / "c.ckpt")


def read_network(folder: Path) -> None:
    import_checkpoint.load(checkpoint_keys.recognise(checkpoint_reader.read(folder / "c.ckpt")))


def whole_checkpoint(folder: Path) -> list[bytes]:
    """A narrow network whose import comes to its end."""
    made = []
    for family in ("adaface", "magface", "mobilefacenet"):
        written = io.BytesIO()
        torch.save(published_file(family, dict(fill(build(NARROW_CONFIGS[family])).state_dict())), written)
        made.append(written.getvalue())
    (folder / "c.ckpt").write_bytes(made[0])
    return made


def centres(folder: Path) -> list[bytes]:
    written = io.BytesIO()
    torch.save({"weight": torch.ones(3, 4)}, written)
    (folder / "rank_0.pt").write_bytes(written.getvalue())
    return [written.getvalue()]


def read_centres(folder: Path) -> int:
    return len(class_centres.read([folder / "rank_0.pt"], 4))


def safetensors(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    data = save({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.int64)}, {"facet.color_order": "BGR"})
    (folder / "c.safetensors").write_bytes(data)
    return [data]


def read_safetensors(folder: Path) -> int:
    return len(checkpoint_reader.read(folder / "c.safetensors"))


def onnx_model(folder: Path) -> list[bytes]:
    image, feature = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("image", "feature"))
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["image"], ["feature"])], "facet", [image], [feature]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    helper.set_model_props(model, {"color_order": "BGR", "value_range": "[-1, 1]"})
    onnx.save(model, folder / "m.onnx")
    return [(folder / "m.onnx").read_bytes()]


def own_checkpoint(file: str) -> Callable[[Path], list[bytes]]:
    def build_one(folder: Path) -> list[bytes]:
        with in_state(folder):
            Checkpoints("key").save(Snapshot(3, {"loss": 0.3}, {"weight": torch.ones(3, 2)}, 0, 3, {"queue": torch.ones(1)}))
        return [(folder / file).read_bytes()]

    return build_one


class in_state:  # noqa: N801
    """Keeps checkpoints in a folder while a block runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.before = folder, artifacts.STATE

    def __enter__(self) -> None:
        artifacts.STATE = self.folder

    def __exit__(self, *_: object) -> None:
        artifacts.STATE = self.before


def read_own_checkpoint(folder: Path) -> int:
    with in_state(folder):
        last = Checkpoints("key").last()
    assert last is not None
    return last.step


def project(folder: Path) -> None:
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "tables").mkdir()
    shutil.copy(ROOT / "tables/heads.yaml", folder / "tables")
    text = PARAMS.read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def in_project(file: str) -> Callable[[Path], list[bytes]]:
    def build_one(folder: Path) -> list[bytes]:
        project(folder)
        data = (folder / file).read_bytes()
        return [data, data + ANCHORS] if file == "params.yaml" else [data]

    return build_one


ANCHORS = b"\n# merge keys and anchors\n"


def read_params(folder: Path) -> None:
    params.load(folder)


def resolved(folder: Path) -> list[bytes]:
    text = "train:\n  color_order: BGR\n  value_range: [-1, 1]\nhead: {name: cosface, margin: 0.35}\n"
    (folder / "r0.yaml").write_text(text)
    return [text.encode()]


def read_resolved(folder: Path) -> None:
    from stages.heads.cosface import Config

    artifacts.read_section(folder / "r0.yaml", "head", Config)


def score_file(name: str, *texts: str) -> Target:
    def build_one(folder: Path) -> list[bytes]:
        (folder / name).write_text(texts[0])
        return [text.encode() for text in texts]

    return Target(f"scores, {name}", name, build_one, lambda folder: score_files.read(folder / name) and None, TREE if name.endswith("json") else TEXT)


def score_pickle(folder: Path) -> list[bytes]:
    made = [pickle.dumps({"a.jpg": 0.5, "b.jpg": np.float32(0.25)}, protocol=protocol) for protocol in (2, 4)]
    (folder / "s.pkl").write_bytes(made[0])
    return made


def score_table(folder: Path) -> list[bytes]:
    pd.DataFrame({"image": ["a", "b"], "score": [0.1, 0.2], "set": ["x", "y"]}).to_parquet(folder / "s.parquet")
    return [(folder / "s.parquet").read_bytes()]


def model_json(folder: Path) -> list[bytes]:
    model_files.save({"backbone": {"w": torch.ones(2)}, "head": {}}, folder / "weights.pt")
    tree = model_files.Model(
        backbone={"name": "iresnet"}, head={}, color_order="BGR", value_range=(-1.0, 1.0), image_size=112, feature_dim=16, num_classes=3,
        dataset="x", weights_sha256=artifacts.sha256(folder / "weights.pt"),
    ).model_dump(mode="json")  # fmt: skip
    (folder / "model.json").write_text(json.dumps(tree))
    return [(folder / "model.json").read_bytes()]


def ids(folder: Path) -> list[bytes]:
    run = RecordedRun("row@heads-r0", "1", "f00d", True, "c0ffee")
    (folder / "tracking").mkdir()
    (folder / "tracking/mlflow.db").touch()
    recorded_ids.write(folder, f"sqlite:///{folder}/tracking/mlflow.db", RecordedIds({"table/heads": "1"}, {"table/heads": {"digest": run}}))
    data = (folder / recorded_ids.FILE).read_bytes()
    return [data]


def journals(file: str) -> Callable[[Path], list[bytes]]:
    def build_one(folder: Path) -> list[bytes]:
        history.add_attempt(folder, StageResult("executed", command_s=2.5, address="a", name="train_backbone@r0"))
        history.write_last_run(folder, history.LastRun("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "calm-otter", "Completed"))
        history.write_open(folder, history.FlowRun("6fa459ea", 1, 1.0, "Cancelled", "stopped"))
        return [(folder / file).read_bytes()]

    return build_one


def read_journals(folder: Path) -> None:
    history.durations(folder), history.last_attempts(folder)
    history.unsettled(folder), history.last_run(folder)


def curve(folder: Path) -> list[bytes]:
    text = '{"time": 1.5, "event": "began", "run": "r0"}\n{"time": 2, "step": 1, "loss": 0.5}\n{"time": 3, "step": 2, "loss": 0.25}\n'
    (folder / "m.jsonl").write_text(text)
    return [text.encode()]


def names(folder: Path) -> list[bytes]:
    (folder / "names.txt").write_text("ann\nbo\nzoé\n")
    return [b"ann\nbo\nzo\xc3\xa9\n", b"ann\nbo\nzo\xe9\n"]


JOURNAL = ".facet/attempts.jsonl", ".facet/last_run.json", ".facet/flow-runs/6fa459ea.json"
TARGETS = [
    Target("checkpoint", "c.ckpt", checkpoint, read_checkpoint, ARCHIVE),
    Target("checkpoint, imported", "c.ckpt", whole_checkpoint, read_network, ARCHIVE),
    Target("class centres", "rank_0.pt", centres, read_centres, ARCHIVE),
    Target("class names", "names.txt", names, lambda folder: len(class_names.read(folder / "names.txt", 3)), TEXT),
    Target("checkpoint of a training, manifest", "checkpoints/key/step-0000000003/checkpoint.json",
           own_checkpoint("checkpoints/key/step-0000000003/checkpoint.json"), read_own_checkpoint, TREE),
    Target("checkpoint of a training, state", "checkpoints/key/step-0000000003/state.pt",
           own_checkpoint("checkpoints/key/step-0000000003/state.pt"), read_own_checkpoint, ARCHIVE),
    Target("safetensors", "c.safetensors", safetensors, read_safetensors, (mutations.of_bytes, mutations.of_safetensors)),
    Target("ONNX", "m.onnx", onnx_model, lambda folder: networks.see_onnx(folder / "m.onnx") and None, (mutations.of_bytes,)),
    Target("model.json", "model.json", model_json, lambda folder: model_files.read_model(folder) and None, TREE),
    Target("params.yaml", "params.yaml", in_project("params.yaml"), read_params, TREE, whole=False),
    Target("profile", "profiles/demo.yaml", in_project("profiles/demo.yaml"), read_params, TREE, whole=False),
    Target("table", "tables/heads.yaml", in_project("tables/heads.yaml"), read_params, TREE, whole=False),
    Target("resolved parameters", "r0.yaml", resolved, read_resolved, TREE, whole=False),
    score_file("s.txt", "x/a.jpg 0.5\nb.jpg 0.25\n", "a 1\n"),
    score_file("s.csv", "image,score,set\na,0.5,x\nb,0.1,y\n", "a,0.5\nb,0.25\n", "Filename;UnifiedQualityScore;UnifiedQualityScore.scalar;\na;1.5;3;\nb;;-1;\n"),
    score_file("s.json", '{"a": 0.5, "b": null}', json.dumps({score_files.DASEC: {"m": {"a": 1.0}}})),
    Target("scores, s.pkl", "s.pkl", score_pickle, lambda folder: score_files.read(folder / "s.pkl") and None, PICKLE),
    Target("scores, s.parquet", "s.parquet", score_table, lambda folder: score_files.read(folder / "s.parquet") and None, TABLE),
    Target("measurements", "m.jsonl", curve, lambda folder: measurements.read(folder / "m.jsonl") and None, TREE),
    Target("IDs of MLflow's runs", str(recorded_ids.FILE), ids, lambda folder: recorded_ids.read(folder) and None, TREE),
    *(Target(f"journal {Path(file).name}", file, journals(file), read_journals, TREE) for file in JOURNAL),
]
