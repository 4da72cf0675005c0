"""Pieces of work of the commands that a person starts, and that write files."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.workspaces import save_sweep
from pipeline.workspaces.sweep_grid import Variant
from pipeline.workspaces.sweeps import Sweep
from stages.config import params
from stages.models import import_checkpoint
from stages.models.import_checkpoint import Said
from stages.runtime import yaml_text
from stages.tools import _drawing, add, add_run, catalogue, demo_video, export
from tests.operations.case import Case
from tests.operations.reading import folder, texts
from tests.stages import small_sets
from tests.support import PARAMS, ROOT
from tests.support_backbones import NARROW_CONFIGS, build, fill, published_file

MODEL = "models/mine"


def _parameters() -> None:
    for name in ("profiles", "tables"):
        shutil.copytree(ROOT / name, name)
    shutil.copy(PARAMS, "params.yaml")
    small_sets.write_bin(Path("faces/lfw.bin"), num_pairs=4)


def _valid() -> dict[str, Any]:
    """Return the files once facet has read them: a table that params.yaml names has to be there."""
    params.load(Path())
    return texts("params.yaml", "tables/*.yaml")


def _has(section: str, name: str) -> bool:
    return name in (yaml_text.parse(Path("params.yaml").read_text(encoding="utf-8"))[section] or {})


def _run(module: Any, *words: str) -> None:
    module.main(module.parser().parse_args(words))


def _add() -> None:
    if not _has("datasets", "mine"):
        _run(add, "mine", "faces", "--yes")


def _add_run() -> None:
    if not _has("runs", "wide"):
        _run(add_run, "wide", "--like", "arcface", "--set", "head.margin=0.3", "--table", "wider", "--yes")


def _save_sweep() -> None:
    if not _has("tables", "margins"):
        trained = {"arcface_m": {"dataset": "demo", "head": {"name": "arcface", "margin": 0.3}}}
        variant = Variant("arcface", {"head.margin": 0.3}, {"arcface_m": 0}, trained)
        save_sweep.save(Path(), Sweep("margins", [variant], [{"name": "LFW", "metric": "hq.lfw"}]), "margins")


def _checkpoint() -> None:
    torch.manual_seed(0)
    torch.save(published_file("cr_fiqa", dict(fill(build(NARROW_CONFIGS["cr_fiqa"])).state_dict())), "c.pth")


def _place() -> None:
    import_checkpoint.place(Path("c.pth"), Path(MODEL), Said("cr_fiqa"))


def _model() -> None:
    _checkpoint()
    _place()


def _export(kind: str, path: str) -> Callable[[], None]:
    return lambda: _run(export, "mine", "--format", kind, "--output", path)


def _there(path: str) -> Callable[[], dict[str, Any]]:
    """Return a reader that knows a whole file by its size: archives have times in them."""
    return lambda: {path: Path(path).stat().st_size} if Path(path).is_file() else {}


def _script() -> dict[str, Any]:
    """Return what a TorchScript file says: torch numbers the classes of a process, so that sizes differ."""
    said = {"facet.json": ""}
    if Path("out/mine.ts").is_file():
        torch.jit.load("out/mine.ts", _extra_files=said)
    return {name: text for name, text in said.items() if text}


def _draw_all() -> None:
    faces = [small_sets.face(number) for number in range(2)]
    _drawing.draw_sheet(Path("pictures/sheet.png"), "norm", {"best": (faces, ["1.0", "2.0"])})
    demo_video.draw_curve(Path("pictures/curve.png"), {"a": [0.5] * len(demo_video.CURVE)})
    demo_video.write_video(Path("pictures/film.gif"), iter(faces), 2.0)
    demo_video.write_video(Path("pictures/film.mp4"), iter([np.ascontiguousarray(face) for face in faces]), 2.0)


def _catalogue() -> None:
    catalogue.main(argparse.Namespace(root=str(ROOT), write="docs/catalogue.md", kind=None))


def _old_catalogue() -> None:
    Path("docs").mkdir()
    Path("docs/catalogue.md").write_text("before")


CASES = [
    Case(
        "facet add", "a data set in params.yaml", ("stages.runtime.yaml_edit.write_all",), _add, _valid, _parameters,
    ),
    Case(
        "facet add-run", "a run in params.yaml and a new table", ("stages.runtime.yaml_edit.write_all",),
        _add_run, _valid, _parameters,
    ),
    Case(
        "facet run --save", "runs and rows in params.yaml and a new table", ("pipeline.workspaces.save_sweep.save",),
        _save_sweep, _valid, _parameters,
    ),
    Case(
        "model export, safetensors", "`facet export`", ("stages.tools.export.main", "stages.models.export.write_safetensors"),
        _export("safetensors", "out/mine.safetensors"), _there("out/mine.safetensors"), _model, slow=True,
    ),
    Case(
        "model export, state dict", "`facet export`", ("stages.tools.export.main", "stages.models.model_files.save"),
        _export("state-dict", "out/mine.pt"), _there("out/mine.pt"), _model, slow=True,
    ),
    Case(
        "model export, TorchScript", "`facet export`",
        ("stages.models.export.write_torchscript", "stages.models.model_files.write_archive"),
        _export("torchscript", "out/mine.ts"), _script, _model, slow=True,
    ),
    Case(
        "model export, ONNX", "`facet export`", ("stages.models.export.write_onnx",),
        _export("onnx", "out/mine.onnx"), _there("out/mine.onnx"), _model, slow=True,
    ),
    Case(
        "model import", "`facet import`",
        ("stages.models.import_checkpoint.place", "stages.models.import_checkpoint.write_quality",
         "stages.models.model_files.save_weights", "stages.models.model_files.save_program"),
        _place, lambda: {MODEL: sorted(folder(MODEL).get(MODEL, {}))} if Path(MODEL).is_dir() else {}, _checkpoint, slow=True,
    ),
    Case(
        "pictures and films", "of `facet score --sheet` and `facet demo-video`",
        ("stages.tools._drawing.draw_sheet", "stages.tools.demo_video.draw_curve", "stages.tools.demo_video.write_video"),
        _draw_all, lambda: {name: size for path in ("sheet.png", "curve.png", "film.gif", "film.mp4")
                            for name, size in _there(f"pictures/{path}")().items()},
    ),
    Case(
        "catalogue", "the page that a command writes", ("stages.tools.catalogue.main",), _catalogue,
        lambda: texts("docs/*.md"), _old_catalogue,
    ),
]  # fmt: skip
