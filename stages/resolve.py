"""Stage `resolve`: writes params.yaml, profile and tables as one resolved file per run, data set and table.

Every other stage depends on its own file only, so that editing one run reruns one run, and DVC's own comparison of
outputs stops the rest. It also pins data sets that lie elsewhere and are read there (``stages.runtime.pin``,
``stages.runtime.set_pins``).

    python -m stages.resolve
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from stages.config import params
from stages.config.tree import Dataset
from stages.runtime import artifacts, initial_folders, pin, program, progress, set_pins


def main(arguments: argparse.Namespace) -> None:
    """Resolve, validate and write everything."""
    resolved = params.load()
    say_missing_models(resolved)
    datasets = {name: dataset.model_dump(mode="json") for name, dataset in resolved.datasets.items()}
    tree = {"synthetic": resolved.synthetic, "datasets": datasets}
    pin.pin_all(tree)
    runs = {name: sections(run) for name, run in resolved.runs.items()}
    with artifacts.write_folder(artifacts.RESOLVED) as folder:
        for name, spec in resolved.synthetic.items():
            artifacts.write_yaml(folder / "synthetic" / f"{name}.yaml", {"synthesize": spec.model_dump(mode="json")})
        for name, dataset in resolved.datasets.items():
            # no stage depends on where it is: the same files elsewhere are the same
            place = place_of(dataset, resolved.datasets)
            artifacts.write_yaml(
                folder / "datasets" / f"{name}.yaml", {"unpack": dataset.unpack.model_dump(mode="json"), **place}
            )
        for name, run in runs.items():
            summary = resolved.summary(name).model_dump(mode="json")
            artifacts.write_yaml(folder / "runs" / f"{name}.yaml", {**run, "summary": summary})
        for name, table in resolved.tables.items():
            artifacts.write_yaml(
                folder / "tables" / f"{name}.yaml",
                {
                    "table": table.model_dump(mode="json"),
                    "scale": resolved.scale(name).model_dump(mode="json"),
                    "measured": resolved.measured(name),
                },
            )
    set_pins.write_all(pin.roots_of(tree), runs)
    initial_folders.write(runs, resolved.initial)


def say_missing_models(resolved: params.Params) -> None:
    """Say which imported models are not there that runs start from: DVC's own message names the folder alone."""
    for run, entry in resolved.initial.items():
        initial = resolved.runs[run].train.initial
        assert initial is not None
        if initial.model not in resolved.runs and not Path(entry.folder, "model.json").is_file():
            command = f"facet import CHECKPOINT {initial.model}"
            progress.say(f"initial@{run} will fail: {entry.folder} holds no model; `{command}` makes it")


def place_of(dataset: Dataset, datasets: Mapping[str, Dataset]) -> dict[str, object]:
    """Return where the files of a data set are, as params.yaml has it: this machine may have them elsewhere."""
    if not dataset.sources:
        return {} if dataset.root is None else {"root": dataset.root}
    same = {} if dataset.same is None else {"same": dataset.same}
    sources = {name: datasets[name].root for name in dataset.sources}
    return {"root": sources[dataset.sources[0]], "sources": sources, **same}


def sections(run: params.Run) -> dict[str, object]:
    """Return a run's sections as plain data: one per stage, and one per suite of `evaluate`."""
    measured_on = run.evaluate.model_dump(mode="json")
    dataset = measured_on.pop("dataset")
    suites = {
        f"evaluate_{suite}": {"dataset": dataset, "switches": switches} for suite, switches in measured_on.items()
    }
    return {"train": run.train.model_dump(mode="json"), "quality": run.quality.model_dump(mode="json"), **suites}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sys.exit(program.run(main, options))
