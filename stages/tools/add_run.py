"""`facet add-run`: adds a training run like another to params.yaml, and its row to a table.

facet add-run wide --like adaface --set head.margin=0.3 --table demo
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.config import evaluation, initial, params
from stages.core.errors import InputError, UnknownNameError
from stages.inspection.catalogue import KNOWN
from stages.models import lookup
from stages.runtime import artifacts, plugins, program, yaml_edit, yaml_text
from stages.runtime.yaml_edit import YamlEdit, plain
from stages.tools import _writing

EXAMPLES = """\
A table that does not exist is made, with a column for each number of the run's test sets. Comments in the files stay.

examples:
  facet add-run wide --like adaface --set head.margin=0.3 --table demo
  facet add-run mine_adaface --like adaface --set dataset=mine --set schedule.epochs=4 --table mine
  facet add-run soft --like arcface --set head.name=softmax --yes
  facet add-run tuned --like adaface --initial adaface_r50 --set dataset=mine --set initial.head=keep"""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def main(arguments: argparse.Namespace) -> None:
    """Copy a run, change it, show and write.

    Raises:
        LookupError: there is no such run.
        ValueError: the name is taken, a setting does not fit, or nobody can be asked.
    """
    name, table = arguments.name, arguments.table
    edit = YamlEdit(_writing.PARAMS)
    runs = edit.section("runs")
    for what, said in (("run", name), ("table", table)):
        if said is not None and _NAME.fullmatch(said) is None:
            raise InputError(f"a {what}'s name has lower-case letters, digits and _, such as margins; got {said!r}")
    if arguments.like not in runs:
        raise UnknownNameError(f"params.yaml has no run {arguments.like!r}: there are {', '.join(runs)}")
    if name in runs:
        raise InputError(f"params.yaml already has a run {name!r}: take another name")
    like = plain(runs[arguments.like])
    if arguments.initial is not None:
        like |= starting_from(arguments.initial, arguments.like)
    run = changed(without_sections_of_recipe(like, arguments.set), arguments.set)
    runs[name] = yaml_edit.block(run)
    if model := (run.get("initial") or {}).get("model"):
        edit.section("initial")[name] = yaml_edit.flow({"folder": initial.folder_of(model, runs)})
    texts = {_writing.PARAMS: edit.text()}
    checked = _writing.check(texts)
    if table is not None:
        start = [] if arguments.initial is None else [f"from {arguments.initial}"]
        label = arguments.label or ", ".join([arguments.like, *start, *arguments.set])
        texts = _with_row(edit, table, name, label, checked.runs[name].evaluate)
        _writing.check(texts)
    if _writing.offer(texts, yes=arguments.yes):
        print(f"Next: facet run {table or f'evaluate_hq@{name}'}")


def without_sections_of_recipe(run: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a run without the sections that a recipe among the settings gives: a run's own would override it.

    Of the head the name stays, which a run must give itself.
    """
    named = [said.strip() for path, _, said in (one.partition("=") for one in settings) if path.strip() == "recipe"]
    if not named:
        return run
    given = params.under({"recipe": named[-1]}, {}, Path("profiles/recipes"))
    head = {"head": {"name": run["head"]["name"]}} if "head" in given else {}
    return {key: value for key, value in run.items() if key not in given or key == "head"} | head


def changed(run: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a run with settings ``PATH=VALUE``, values in YAML; another ``name`` begins a section anew.

    Raises:
        ValueError: a setting is not of that form, or leads below a value.

    >>> changed({"head": {"name": "arcface", "margin": 0.5}}, ["head.margin=.3"])
    {'head': {'name': 'arcface', 'margin': 0.3}}
    >>> changed({"head": {"name": "arcface", "margin": 0.5}}, ["head.name=softmax", "seed=4"])
    {'head': {'name': 'softmax'}, 'seed': 4}
    """
    # names first: they drop the other fields of their section
    for setting in sorted(settings, key=lambda text: not text.partition("=")[0].endswith(".name")):
        path, equals, said = setting.partition("=")
        *above, last = path.strip().split(".")
        if not equals or not said.strip() or not all((*above, last)):
            raise InputError(f"--set needs PATH=VALUE, as in head.margin=0.3; got {setting!r}")
        try:
            value = yaml_text.parse(said)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting!r}: the value is not YAML: {error}") from error
        section = run
        for part in above:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise InputError(f"--set {setting!r}: {part} is a value, and has no {last}")
        if last == "name" and section.get("name") != value:
            section.clear()
        section[last] = value
    return run


def starting_from(model: str, like: str) -> dict[str, Any]:
    """Return the fields of a run that starts from a model, where they differ from those of the run it is like.

    They are `initial`, and the network, colour order and value range that the weights are of.

    Raises:
        LookupError: there is neither a run nor an imported checkpoint of this name.
    """
    runs = params.load().runs
    own = runs[like].train
    if model in runs:
        of_run = runs[model].train
        wanted = {"backbone": _filled(of_run.backbone), "color_order": of_run.color_order,
                  "value_range": list(of_run.value_range)}  # fmt: skip
    else:
        imported = artifacts.read_json(lookup.find(model).backbone / "model.json")
        wanted = {field: imported[field] for field in ("backbone", "color_order", "value_range")}
    there = {"backbone": _filled(own.backbone), "color_order": own.color_order, "value_range": list(own.value_range)}
    differing = {field: value for field, value in wanted.items() if value != there[field]}
    return {**differing, "initial": {"model": model}}


def _filled(backbone: dict[str, Any]) -> dict[str, Any]:
    """Return a network's configuration with every field."""
    config = plugins.load("backbones", backbone["name"]).Config.model_validate(backbone)
    filled: dict[str, Any] = config.model_dump(mode="json")
    return filled


def _with_row(edit: YamlEdit, table: str, run: str, label: str, evaluate: evaluation.Config) -> dict[Path, str]:
    """Return the texts of params.yaml and the table with one more row; the table is made if it is not there."""
    edit.section("rows")[f"{table}-{run}"] = yaml_edit.flow({"table": table, "run": run})
    if table not in edit.section("tables"):
        edit.section("tables")[table] = {}
    path = Path("tables", f"{table}.yaml")
    row = {"label": label, "run": run}
    if not path.is_file():
        tree = {"title": f"Runs of {table}", "source": "facet add-run: nothing is published",
                "columns": columns(evaluate), "rows": {run: row}}
        return {_writing.PARAMS: edit.text(), path: yaml_text.dump(tree, width=110)}
    rows = YamlEdit(path)
    rows.section("rows")[run] = yaml_edit.block(row)
    return {_writing.PARAMS: edit.text(), path: rows.text()}


def columns(evaluate: evaluation.Config) -> list[dict[str, Any]]:
    """Return a table's columns for the main numbers that a run's test sets give."""
    found = [(_title(name), f"hq.{name}") for name in evaluate.hq.sets]
    for name in evaluate.ijb.sets:
        if "1:1" in evaluate.ijb.protocols:
            found.append((f"{_title(name)} TAR at FAR 1e-4", f"ijb.{name.lower()}_tar_at_far_1e-04"))
        if "1:N" in evaluate.ijb.protocols:
            found.append((f"{_title(name)} Rank-1", f"ijb.{name.lower()}_rank1"))
    if "tinyface" in evaluate.lq.sets:
        found.append(("TinyFace Rank-1", "lq.tinyface_rank1"))
    if "scface" in evaluate.lq.sets:
        found += [(f"SCface d{distance}", f"lq.scface_d{distance}") for distance in (1, 2, 3)]
    if "crlfw" in evaluate.lq.sets:
        found += [(f"CRLFW {side} px", f"lq.crlfw_{side}") for side in evaluate.lq.crlfw_sides]
    made: list[dict[str, Any]] = [{"name": title, "metric": metric} for title, metric in found]
    fmr = f"{evaluate.fiqa.fmr[0]:.0e}" if evaluate.fiqa.fmr else ""
    made += [
        {"name": f"EDC AUC feature norm, {_title(name)}", "metric": f"fiqa.{name}_feature_norm_edc_auc_fmr{fmr}",
         "unit": "fraction", "decimals": 4, "higher_is_better": False}
        for name in evaluate.fiqa.sets
    ]  # fmt: skip
    return made or [{"name": "Training loss", "metric": "train.loss", "unit": "fraction", "higher_is_better": False}]


def _title(name: str) -> str:
    return KNOWN[name].title if name in KNOWN else name


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet add-run", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("name", metavar="NAME", help="of the new run")
    options.add_argument("--like", required=True, metavar="RUN", help="run of params.yaml that it is a copy of")
    options.add_argument(
        "--initial", metavar="MODEL", help="run or imported checkpoint that it starts from; the network is then its"
    )
    options.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE",
        help="what differs, repeatable; with recipe=NAME the sections of that recipe are not copied",
    )  # fmt: skip
    options.add_argument("--table", metavar="TABLE", help="table that gets a row of it, which is made if missing")
    options.add_argument("--label", help="what the row is called; default: RUN and what differs")
    options.add_argument("--yes", action="store_true", help="write without asking")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
