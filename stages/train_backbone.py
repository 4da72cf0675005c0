"""Stage `train_backbone`: trains one run's backbone and head on the unpacked records of its data set.

    python -m stages.train_backbone adaface

Writes runs/RUN/backbone (weights.pt, model.json, program.pt2, environment.json), results/RUN/train.json, train.csv and
train/measurements.jsonl.
Stopped, it goes on from its last checkpoint under .facet/checkpoints and ends in the weights it would have had.

FACET_PROCS=4 starts four processes here that share the work; started by torchrun it is one of those torchrun started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.config.training import Config
from stages.core.images.pixels import SIDE
from stages.io import class_names
from stages.models import model_files
from stages.runtime import (
    artifacts,
    devices,
    followers,
    gpu_errors,
    gpu_lock,
    initial_folders,
    measurements,
    numerics,
    places,
    program,
    progress,
    set_pins,
)  # fmt: skip
from stages.training import averaging, distributed, environment, initial, loop, networks
from stages.training.checkpoints import Checkpoints, code, key_of
from stages.training.class_names import of_dataset
from stages.training.dataset import Records, open_records
from stages.training.distributed import Processes
from stages.training.initial import Start


def main(arguments: argparse.Namespace) -> None:
    """Train, in as many processes as configured."""
    run: str = arguments.run
    config = artifacts.read_section(artifacts.RESOLVED / "runs" / f"{run}.yaml", "train", Config)
    count = gpu_lock.processes(config.processes)
    if count > 1:
        gpu_lock.take(count)
        distributed.launch("stages.train_backbone", [run], count)
        return
    with gpu_errors.explained(less_memory(config)), distributed.joined(devices.choose()) as ours:
        train(run, config, ours)


def less_memory(config: Config) -> str:
    """Return what to change in a training run that does not fit its GPU."""
    return (
        f"raise compute.chunks ({config.compute.chunks} now), lower schedule.batch_size "
        f"({config.schedule.batch_size} now), or share batch and classes among more GPUs (`processes`)"
    )


def train(run: str, config: Config, ours: Processes) -> None:
    """Train, then write the model, its metrics and its curve."""
    records = open_records(config.dataset, shared=ours.size > 1)
    devices.prepare(config.threads)
    validated_on = config.validation.dataset or config.dataset
    set_pins.checked(validated_on, set_pins.recorded(run, set_pins.VALIDATION))
    validate = validation(config) if config.validation.is_wanted else None
    start = initial.read(run, config, records.num_classes)
    if start is not None and ours.is_first:
        progress.say(f"{run} {start.note}")
    training = loop.Training(config, records, ours, validate, start)
    checkpoints = open_checkpoints(config, records, ours, start)
    compute = config.compute
    with measured(run, training, checkpoints):
        with numerics.applied(compute.matmul, deterministic=compute.deterministic, benchmark=True):
            training.run(checkpoints, f"train {run}")
        if ours.is_first:
            write_results(run, training, records, checkpoints, start)
    checkpoints.clear()


@contextmanager
def measured(run: str, training: loop.Training, checkpoints: Checkpoints) -> Iterator[None]:
    """Keep what the training measures in a file that can be followed; at the end the whole curve is an output."""
    if not training.processes.is_first:
        yield
        return
    key = str(checkpoints.about["key"])
    path = artifacts.STATE / measurements.FOLDER / f"{run}.{key}.jsonl"
    about = {"stage": f"train_backbone@{run}", "run": run, "key": key, "num_steps": training.num_steps}
    with measurements.recorded(path, **about) as written:
        training.log_point = written.log_point
        followers.start(artifacts.STATE / "logs")
        yield
        written.write(artifacts.details_folder(run, "train") / measurements.FILE)


def write_results(
    run: str, training: loop.Training, records: Records, checkpoints: Checkpoints, start: Start | None
) -> None:
    """Write the model, what it was computed with, the curve by epoch and the metrics."""
    config, ours = training.config, training.processes
    with artifacts.write_folder(artifacts.backbone_folder(run)) as folder:
        weights_sha256 = write_model(folder, training, records, checkpoints)
        described = environment.describe(ours.device, config.compute, ours.size)
        artifacts.write_json(folder / environment.FILE, described)
        if (names := of_dataset(config.dataset)) is not None:
            class_names.write(folder / initial_folders.CLASSES, names)
    write_curve(artifacts.metrics_file(run, "train").with_suffix(".csv"), training.history)
    of_start = {} if start is None else start.metrics()
    artifacts.write_json(
        artifacts.metrics_file(run, "train"), metrics(training, records, weights_sha256) | of_start
    )


def open_checkpoints(config: Config, records: Records, ours: Processes, start: Start | None = None) -> Checkpoints:
    """Return the checkpoints of this training run: same parameters, data, weights and code, any number of processes."""
    parameters = config.model_dump(mode="json", exclude={"processes"})
    made_of = {"train": parameters, "records": records.fingerprint}
    if start is not None:
        made_of["initial"] = start.sha256
    return Checkpoints(key_of(**made_of), {**made_of, "code": code()}, ours)


def validation(config: Config) -> loop.Validate:
    """Return a function that evaluates a backbone on the sets of ``config.validation``.

    The code is loaded here, because most trainings never look: what it says decides no weight, unless `keep` is best.
    """
    from stages.suites import _validation

    return _validation.of(config, places.eval_folder(config.validation.dataset or config.dataset))


def write_model(folder: Path, training: loop.Training, records: Records, checkpoints: Checkpoints) -> str:
    """Fill the folder of a trained backbone; return the SHA-256 of the weights used for evaluation."""
    config = training.config
    made = all_networks(training, checkpoints)
    # where the best are the last they are not kept twice
    kept = made.pop(config.validation.keep, None) or made.pop("last")
    for name, other in made.items():
        model_files.save_weights(folder / f"{name}.pt", other.backbone, other.head, other.objective.quality_layer())
    model_files.save_weights(folder / "weights.pt", kept.backbone, kept.head, kept.objective.quality_layer())
    weights_sha256 = artifacts.sha256(folder / "weights.pt")
    model = model_files.Model(
        backbone=kept.backbone_config.model_dump(mode="json"),
        head=kept.head_config.model_dump(mode="json"),
        color_order=config.color_order,
        value_range=config.value_range,
        image_size=SIDE,
        feature_dim=kept.head.weight.shape[1] // kept.head.centres,
        num_classes=records.num_classes,
        dataset=config.dataset,
        weights_sha256=weights_sha256,
    )
    artifacts.write_json(folder / "model.json", model.model_dump(mode="json"))
    backbone = model_files.read_backbone(folder)[0]
    model_files.save_program(folder / "program.pt2", backbone, config.color_order, config.value_range)
    return weights_sha256


def all_networks(training: loop.Training, checkpoints: Checkpoints) -> dict[str, networks.Networks]:
    """Return the networks to write: the last, the best if these are others, and the average if there is one."""
    made, best = {"last": last_networks(training, checkpoints)}, training.best
    if best and best["step"] != training.step:
        made["best"] = networks_at(int(best["step"]), training, checkpoints)
    if training.stepper.average is not None:
        snapshot = checkpoints.read(training.step)
        made["ema"] = networks.build(training.config, training.records.num_classes)
        averaging.load_into(made["ema"], snapshot.shared["ema"], snapshot.rows["ema"])
    return made


def last_networks(training: loop.Training, checkpoints: Checkpoints) -> networks.Networks:
    """Return the trained networks with all classes; if processes share them, from the last checkpoint."""
    if training.processes.size == 1:
        training.networks.modules().float()  # fp64 is for proofs; models are float32
        return training.networks
    return networks_at(training.step, training, checkpoints)


def networks_at(step: int, training: loop.Training, checkpoints: Checkpoints) -> networks.Networks:
    """Return the complete networks of a checkpoint, on the CPU."""
    snapshot = checkpoints.read(step)
    made = networks.build(training.config, training.records.num_classes)
    made.backbone.load_state_dict(snapshot.shared["backbone"])
    made.head.load_state_dict({**snapshot.shared["head"], "weight": snapshot.rows["weight"]})
    made.objective.attach(made.backbone)
    made.objective.load_state_dict(snapshot.own)
    return made


def write_curve(path: Path, history: list[dict[str, float]]) -> None:
    """Write one line per epoch; values not measured in an epoch stay empty."""
    header = list(dict.fromkeys(name for row in history for name in row))
    artifacts.write_csv(path, header, [[row.get(name, "") for name in header] for row in history])


def metrics(training: loop.Training, records: Records, weights_sha256: str) -> dict[str, Any]:
    """Return the results of the last epoch, speed and memory, the amount of data, and whose weights are evaluated."""
    config, best = training.config, training.best
    last = dict(training.history[-1])
    del last["epoch"], last["learning_rate"]
    looked: dict[str, Any] = {}
    if best or config.schedule.ema_decay is not None:
        looked["weights_are"] = config.validation.keep
    if best:
        looked["best_epoch"] = int(best["epoch"])
        if config.validation.every_steps:
            looked["best_step"] = int(best["step"])
        looked |= {f"best_{name}": value for name, value in best.items() if name.startswith("validation_")}
    return {
        **last,
        **looked,
        **training.speed.summary(),
        "epochs": config.schedule.epochs,
        "images": len(records.key_N),
        "classes": records.num_classes,
        "weights_sha256": weights_sha256,
    }


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("run", help="name under `runs` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
