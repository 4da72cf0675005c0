"""Writes docs/params.md from the pydantic models and docs/commands.md from the program `facet`; tests compare them.

    python -m tests.docs.reference
"""

from __future__ import annotations

import argparse
import importlib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.cli import app
from pipeline.cli.tools import TOOLS
from stages.config import evaluation, table, training, tree
from stages.runtime import plugins
from stages.synthesis import config as synthesis
from tests.support import ROOT

HOW = "Written by `python -m tests.docs.reference`; a test compares it with the code."
KINDS = {"heads": "head", "backbones": "backbone", "objectives": "objective", "quality": "quality"}


def cell(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def type_text(annotation: Any) -> str:
    """Return a type as a reader of YAML knows it.

    >>> type_text(float | None), type_text(tuple[str, ...]), type_text(typing.Literal["a", "b"])
    ('number or null', 'list of text', '`a`, `b`')
    """
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{str(one).lower() if isinstance(one, bool) else one}`" for one in inside)
    if origin is typing.Annotated:
        return type_text(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(one) for one in inside)
    if origin is tuple:
        if len(inside) == 2 and inside[1] is Ellipsis:
            return f"list of {type_text(inside[0])}"
        return f"{len(inside)} × {type_text(inside[0])}"
    if origin is dict:
        return "names to sections" if nested_type(inside[1]) else f"names to {type_text(inside[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`", type(None): "null"}
    return names.get(annotation, "anything" if annotation is Any else getattr(annotation, "__name__", str(annotation)))


def nested_type(annotation: Any) -> bool:
    """Return whether a type is a section of fields."""
    return typing.get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel))


def default_text(field: FieldInfo) -> str:
    """Return a default as YAML has it; empty for a section, **required** where there is none."""
    if field.is_required():
        return "**required**"
    value = field.default
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {one}' for key, one in value.items())}}}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def limits(field: FieldInfo) -> str:
    """Return the bounds of a number."""
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    found = [
        f"{sign} {bound if isinstance(bound, int) else f'{bound:g}'}"
        for one in field.metadata
        for name, sign in words.items()
        if (bound := getattr(one, name, None)) is not None
    ]  # fmt: skip
    return ", ".join(found)


def nested(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a section."""
    waiting = [field.annotation]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
        if typing.get_origin(one) is not dict:
            waiting += typing.get_args(one)
    return None


def rows(model: type[BaseModel], above: str = "", skip: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line per field, those of sections after them."""
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        kind = type_text(field.annotation)
        bounds = limits(field)
        what = field.description or ""
        inner = nested(field)
        if inner is not None:
            what = what or (inner.__doc__ or "").partition("\n")[0]
        kind = f"{kind} {bounds}".strip()
        yield f"| `{above}{name}` | {cell(kind)} | {cell(default_text(field))} | {cell(what)} |"
        if inner is not None:
            yield from rows(inner, f"{above}{name}.")


def section(title: str, about: str, model: type[BaseModel], skip: Sequence[str] = (), level: int = 2) -> str:
    """Return a heading, a sentence and a table of fields."""
    lines = list(rows(model, skip=skip))
    heads = "| field | what it takes | default | |\n|---|---|---|---|"
    body = f"{heads}\n" + "\n".join(lines) if lines else "No fields."
    return f"{'#' * level} {title}\n\n{about}\n\n{body}"


def first_line(thing: Any) -> str:
    """Return the first line of a docstring."""
    return (thing.__doc__ or "").partition("\n")[0]


def params() -> str:
    """Return docs/params.md."""
    parts = [
        "# Every field of params.yaml",
        f"Each field: what it takes, its default (*required*: there is none), what it means. A field that a run does not set comes from the layers below it\n"
        "([architecture.md](architecture.md#the-layers-of-parameters-of-a-run)); the defaults here are those of the code, beneath "
        "all layers.\nA profile sets more: `resolved/runs/RUN.yaml` has what holds for a run. An unknown field is refused, with the "
        f"name that may be meant. {HOW}",
        section("The file", first_line(tree.Tree), tree.Tree, skip=()),
        section("datasets.NAME", first_line(tree.Dataset), tree.Dataset),
        section("synthetic.NAME", first_line(synthesis.Config), synthesis.Config),
        section("runs.NAME", f"{first_line(training.Config)} Besides these a run has `recipe` (a file of\n`profiles/recipes`, whose "
                "sections take the place of the profile's), `quality` and `benchmarks`, below.", training.Config),
        section("benchmarks", f"Of a run, a profile or a data set. {first_line(evaluation.Config)}", evaluation.Config,
                skip=("dataset",)),
    ]  # fmt: skip
    for kind, field in KINDS.items():
        parts.append(f"## {field}\n\n`runs.NAME.{field}: {{name: NAME, ...}}`: one file each under `stages/{kind}`.")
        for name in plugins.names(kind):
            config = plugins.load(kind, name).Config
            parts.append(section(f"{field}: {name}", first_line(config), config, skip=("name",), level=3))
    parts += [
        "## tables/NAME.yaml\n\nA table's file, beside params.yaml.",
        section("columns", first_line(table.Column), table.Column, level=3),
        section("rows", first_line(table.Row), table.Row, level=3),
        section("claims", first_line(table.Claim), table.Claim, level=3),
    ]
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Return docs/commands.md."""
    found = {name: command for name, command in typer.main.get_command(app).commands.items()}  # type: ignore[attr-defined]
    tools = {tool.command: tool for tool in TOOLS}
    listed = "\n".join(
        f"| [`facet {name}`](#facet-{name}) | {cell(tools[name].does if name in tools else summary(command))} |"
        for name, command in found.items()
    )
    parts = ["# Every command", f"Each command with its options and an example, as `facet COMMAND --help` prints them. {HOW}", f"| command | what it does |\n|---|---|\n{listed}"]
    for name, command in found.items():
        parts.append(of_tool(tools[name].command, tools[name].module) if name in tools else of_command(name, command))
    return "\n\n".join(parts) + "\n"


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return (command.help or "").strip().partition("\n")[0]


def of_command(name: str, command: Any) -> str:
    """Return the section of a command of pipeline/cli."""
    given = sorted(command.params, key=lambda one: one.param_type_name == "option")
    lines = [_option(one) for one in given if one.name != "help"]
    body = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", command.help or ""))
    example = f"\n\n```sh\n{command.epilog.removeprefix('Example: ')}\n```" if command.epilog else ""
    return f"## facet {name}\n\n{body}{_table(lines)}{example}"


def _option(one: Any) -> str:
    names = (*one.opts, *one.secondary_opts) if one.param_type_name == "option" else (one.name or "",)
    default = getattr(one.default, "value", one.default)
    untold = default in (None, "", False, ()) or callable(default) or one.required
    shown = "" if untold else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    named = ", ".join(f"`{name}`" for name in names)
    return f"| {cell(named)} | {cell(shown)} | {cell(getattr(one, 'help', '') or '')} |"


def of_tool(name: str, module: str) -> str:
    """Return the section of a command of stages/tools."""
    program = importlib.import_module(f"stages.tools.{module}")
    parser: argparse.ArgumentParser = program.parser()
    lines = []
    for one in parser._actions:
        if isinstance(one, argparse._HelpAction):
            continue
        named = ", ".join(f"`{option}`" for option in one.option_strings) or f"`{one.metavar or one.dest}`"
        default = one.default
        told = default in (None, False, argparse.SUPPRESS) or one.required or not one.option_strings
        shown = "" if told else f"`{default.as_posix() if isinstance(default, Path) else default}`"
        choices = f" One of {', '.join(map(str, one.choices))}." if one.choices else ""
        lines.append(f"| {cell(named)} | {cell(shown)} | {cell((one.help or '').replace('%%', '%') + choices)} |")
    about = " ".join((parser.description or "").split())
    examples = f"\n\n```text\n{program.EXAMPLES.strip()}\n```" if hasattr(program, "EXAMPLES") else ""
    return f"## facet {name}\n\n{about}{_table(lines)}{examples}"


def _table(lines: Sequence[str]) -> str:
    return "\n\n| option | default | |\n|---|---|---|\n" + "\n".join(lines) if lines else ""


PAGES = {"docs/params.md": params, "docs/commands.md": commands}

if __name__ == "__main__":
    for path, make in PAGES.items():
        (ROOT / path).write_text(make(), encoding="utf-8")
