"""Commands on data and models: each starts ``python -m stages.tools.MODULE`` with the arguments it was given."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import typer

from pipeline.base import environment
from pipeline.cli.app import app


@dataclass(frozen=True)
class Tool:
    """A command and the program behind it, which handles ``--help`` itself."""

    command: str
    module: str
    does: str


TOOLS = (
    Tool("add", "add", "Look at a folder as it was downloaded, and add it to params.yaml as a data set."),
    Tool("add-run", "add_run", "Add a training run like another to params.yaml, and its row to a table."),
    Tool("doctor", "doctor", "Check which data sets are here, which files are missing, and where to put them."),
    Tool("inspect", "inspect_data", "Show the contents of a .rec, .bin, checkpoint or protocol folder."),
    Tool("plan", "plan", "Reckon memory, images a second, hours and disk of a training run on GPUs."),
    Tool("list", "catalogue", "List heads, backbones, quality methods, protocols and tables, with paper and file."),
    Tool("models", "models", "List the pretrained models that the tables name, and which are on this machine."),
    Tool("import", "import_model", "Import a published checkpoint as a trained model."),
    Tool("export", "export", "Write a model as ONNX, TorchScript or safetensors."),
    Tool("verify", "verify", "Evaluate a model and compare the result with its published row."),
    Tool("compare", "compare", "Compare faces in pictures: similarity, quality and a verdict."),
    Tool("score", "score", "Score the quality of every face in a folder."),
    Tool("judge", "judge", "Judge quality scores in a file: error versus discard by any recognition models."),
    Tool("overlap", "overlap", "List people of test sets who are also trained on, with cosines and pictures."),
    Tool("pack", "pack", "Pack a test set or a folder of people into one record file and one table."),
    Tool("quality-pages", "quality_pages", "Draw a page for each quality method of a run, and an overview."),
    Tool("draw", "draw", "Draw heads: gradient scaling term over angle and norm, margins, penalty."),
    Tool("demo-video", "demo_video", "Show two models side by side on increasingly blurred faces."),
)


def _add(tool: Tool) -> None:
    def start(context: typer.Context) -> None:
        os.execve(
            sys.executable,
            [sys.executable, "-m", f"stages.tools.{tool.module}", *context.args],
            environment.for_children(),
        )

    app.command(
        tool.command,
        help=tool.does,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(start)


for _tool in TOOLS:
    _add(_tool)
