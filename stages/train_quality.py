"""Stage `train_quality`: trains one run's quality method on its frozen backbone.

    python -m stages.train_quality adaface

Writes runs/RUN/quality (quality.json; where the method has weights, weights.pt and program.pt2: the backbone's program
with the method's score as third output) and results/RUN/quality.json.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import BaseModel

from stages.config.training import Config
from stages.core.images.pixels import from_rows, to_network
from stages.core.losses import sub_centres
from stages.core.losses.sampler import Order
from stages.core.metrics.quality import Learned, Material
from stages.models import model_files
from stages.runtime import artifacts, devices, plugins, program, progress
from stages.training.dataset import Records, Samples, load, open_records

BATCH_SIZE = 128


class Method(BaseModel, extra="allow", frozen=True):
    """The fields that every quality method has."""

    name: str


def main(arguments: argparse.Namespace) -> None:
    """Train, then write the method and its metrics."""
    run: str = arguments.run
    path = artifacts.RESOLVED / "runs" / f"{run}.yaml"
    config = artifacts.read_section(path, "train", Config)
    name = artifacts.read_section(path, "quality", Method).name
    method = plugins.load("quality", name)
    method_config = artifacts.read_section(path, "quality", method.Config)
    records = open_records(config.dataset)
    devices.prepare(config.threads)
    num_images = method_config.num_images(len(records.key_N))
    material = gather(run, config, records, num_images, pixels=getattr(method, "WANTS_PIXELS", False))
    learned: Learned = method.train(method_config, material)
    with artifacts.write_folder(artifacts.quality_folder(run)) as folder:
        write_method(folder, run, method_config, learned)
    metrics = {**learned.metrics, "images": num_images}
    artifacts.write_json(artifacts.metrics_file(run, "quality"), metrics)
    progress.say("  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))


@torch.no_grad()
def gather(run: str, config: Config, records: Records, num_images: int, *, pixels: bool = False) -> Material:
    """Return features of augmented training images by the run's backbone, and its class centres.

    They come in the order and with the augmentation that further epochs of the training would have had.

    Args:
        run: whose backbone.
        config: of its training.
        records: of its data set.
        num_images: how many.
        pixels: give the images and the network too.
    """
    folder = artifacts.backbone_folder(run)
    backbone, model = model_files.read_backbone(folder)
    weights = model_files.read_weights(folder)
    centre_CD = weights["head"]["weight"]
    device = devices.choose()
    backbone = backbone.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = Samples(records, config.augmentation.probabilities(), config.seed, ("training",))
    order = Order(len(records.key_N), BATCH_SIZE, config.seed)
    begin = config.schedule.epochs * order.steps_per_epoch
    num_steps = -(-num_images // order.size)
    features, labels, kept = [], [], []
    lines = progress.Progress(f"quality {run}", num_steps * order.size, "images")
    for image_VBHW3, label_B in load(samples, order, begin, begin + num_steps, device):
        image_B3HW = to_network(from_rows(image_VBHW3[0]), model.color_order, model.value_range)
        features.append(backbone(image_B3HW).float().cpu())
        labels.append(label_B.cpu())
        if pixels:
            kept.append(image_B3HW)
        lines.advance(len(label_B))
    empty_0D, empty_0 = torch.zeros(0, model.feature_dim), torch.zeros(0, dtype=torch.int64)
    feature_ND, label_N = torch.cat([empty_0D, *features]), torch.cat([empty_0, *labels])
    centre_CD = sub_centres.dominant(centre_CD, feature_ND, label_N)
    material = Material(feature_ND[:num_images], label_N[:num_images], centre_CD, weights.get("quality"))
    if not kept:
        return material
    pixels_N3HW = torch.cat(kept)[:num_images]
    return replace(material, backbone=backbone, pixels_N3HW=pixels_N3HW, black=model.value_range[0])


def write_method(folder: Path, run: str, config: BaseModel, learned: Learned) -> None:
    """Fill the folder of a trained method."""
    backbone, model = model_files.read_backbone(artifacts.backbone_folder(run))
    tree = {**config.model_dump(mode="json"), **learned.options, "backbone_sha256": model.weights_sha256}
    method = plugins.load("quality", tree["name"])
    if hasattr(method, "keep"):  # scores in a file of a person's: it may change or go
        method.keep(config, folder, artifacts.sha256(Path(tree["path"])))
    if learned.weights:
        weights = {key: value.detach().cpu().contiguous() for key, value in learned.weights.items()}
        model_files.save(weights, folder / "weights.pt")
        tree["weights_sha256"] = artifacts.sha256(folder / "weights.pt")
        # without weights of its own its score is what the backbone's program gives already
        module = method.Scorer.load(folder).module()
        model_files.save_program(folder / "program.pt2", backbone, model.color_order, model.value_range, module)
    artifacts.write_json(folder / "quality.json", tree)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("run", help="name under `runs` in params.yaml")
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
