"""Stage `train_backbone`: trains one run's backbone and head on the unpacked records of its data set.

    python -m stages.train_backbone adaface

Writes runs/RUN/backbone (weights.pt, model.json, program.pt2), results/RUN/train.json and train.csv. Stopped,
it goes on from its last checkpoint under .facet/checkpoints and ends in the weights it would have had.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages import artifacts, devices, exporting, program, trainer
from stages.checkpoints import Checkpoints, key_of
from stages.core.pixels import SIDE, VALUE_RANGE
from stages.samples import Records, open_records
from stages.training import Config


def main(arguments: argparse.Namespace) -> None:
    """Train, then write the model, its metrics and its curve."""
    run: str = arguments.run
    config = artifacts.read_section(artifacts.RESOLVED / "runs" / f"{run}.yaml", "train", Config)
    records = open_records(config.dataset)
    devices.prepare(config.threads)
    training = trainer.Training(config, records, devices.choose())
    checkpoints = Checkpoints(key_of(train=config.model_dump(mode="json"), records=records.fingerprint))
    training.run(checkpoints, f"train {run}")
    with artifacts.write_folder(artifacts.backbone_folder(run)) as folder:
        weights_sha256 = write_model(folder, training, records)
    write_curve(artifacts.metrics_file(run, "train").with_suffix(".csv"), training.history)
    artifacts.write_json(artifacts.metrics_file(run, "train"), metrics(training, records, weights_sha256))
    checkpoints.clear()


def write_model(folder: Path, training: trainer.Training, records: Records) -> str:
    """Fill the folder of a trained backbone; return the SHA-256 of its weights."""
    networks, config = training.networks, training.config
    exporting.save_weights(folder / "weights.pt", networks.backbone, networks.head)
    weights_sha256 = artifacts.sha256(folder / "weights.pt")
    model = exporting.Model(
        backbone=networks.backbone_config.model_dump(mode="json"),
        head=networks.head_config.model_dump(mode="json"),
        color_order=config.color_order,
        value_range=VALUE_RANGE,
        image_size=SIDE,
        feature_dim=networks.head.weight.shape[1],
        num_classes=records.num_classes,
        dataset=config.dataset,
        weights_sha256=weights_sha256,
    )
    artifacts.write_json(folder / "model.json", model.model_dump(mode="json"))
    exporting.save_program(folder / "program.pt2", exporting.read_backbone(folder)[0], config.color_order)
    return weights_sha256


def write_curve(path: Path, history: list[dict[str, float]]) -> None:
    """Write a line per epoch."""
    header = list(history[0])
    artifacts.write_csv(path, header, [[row[name] for name in header] for row in history])


def metrics(training: trainer.Training, records: Records, weights_sha256: str) -> dict[str, object]:
    """Return what the last epoch came to, and on how much."""
    last = dict(training.history[-1])
    del last["epoch"], last["learning_rate"]
    return {
        **last,
        "epochs": training.config.schedule.epochs,
        "images": len(records.key_N),
        "classes": records.num_classes,
        "weights_sha256": weights_sha256,
    }


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("run", help="a name under `runs` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
