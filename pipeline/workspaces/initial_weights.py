"""Runs that start from another model's weights, in a generated params.yaml: what they need, and section `initial`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tree = Mapping[str, Any]


def model_of(run: Tree) -> str | None:
    """Return the model that a run starts from, None for one that starts from nothing.

    >>> model_of({"initial": {"model": "adaface"}}), model_of({"head": {}})
    ('adaface', None)
    """
    return (run.get("initial") or {}).get("model")


def with_models(runs: Mapping[str, Tree], known: Callable[[str], Tree | None]) -> dict[str, Tree]:
    """Return the runs and those that they start from, which are restored and not trained again.

    Args:
        runs: of a workspace, by name.
        known: returns a run of the project by its name, None if it is none: then it is an imported model.
    """
    found = dict(runs)
    todo = list(runs.values())
    while todo:
        model = model_of(todo.pop())
        if model is not None and model not in found and (base := known(model)) is not None:
            found[model] = base
            todo.append(base)
    return found


def section(runs: Mapping[str, Tree], models: Path = Path("models")) -> dict[str, dict[str, str]]:
    """Return the section `initial` of params.yaml: the folder of the model that each run starts from.

    Args:
        runs: all runs of that params.yaml.
        models: folder of imported models; absolute where params.yaml stands elsewhere.

    >>> section({"tuned": {"initial": {"model": "base"}}, "base": {}})
    {'tuned': {'folder': 'runs/base/backbone'}}
    """
    named = {name: model for name, run in runs.items() if (model := model_of(run)) is not None}
    return {
        name: {"folder": f"runs/{model}/backbone" if model in runs else (models / model).as_posix()}
        for name, model in named.items()
    }
