"""Real faces taken down in known steps: does each quality method score them lower on average, step by step?

    python benchmarks/quality_real_faces.py [--shared ../shared] [--images 200] [--out FILE.json]
    python benchmarks/quality_real_faces.py --run runs/cosface_faces

Faces: shared/faces/eval/lfw.bin, the first of each pair. Network: shared/models/foamliu_MobileFaceNet.onnx, published
and trained on real faces, or a run of the pipeline. cr_fiqa and sdd_fiqa are fitted on shared/faces/train (other
people), each image once, taken down to a quality drawn from 0 to 1; the ONNX file holds no class centres, so that
cr_fiqa takes the mean embedding of each person for them. With --run, the run's own method is measured as trained.

Five ladders of five rungs; the first is the photograph as it is: resolution (112, 56, 28, 14, 7 px and back), blur
(Gaussian of 0, 1, 2, 4, 8 px), noise (Gaussian of 0, 5, 10, 20, 40 grey levels), jpeg (as stored, then quality 50, 25,
10, 5), camera (stages/core/images/degrade.py: all together, q 1, .75, .5, .25, 0).

A step counts as falling where the mean change over the images is below zero by two of its standard errors, as
unresolved within two, as rising above. Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from stages.core.images import degrade
from stages.core.metrics.features import Embed, Features, Image
from stages.core.metrics.processing import decode
from stages.core.metrics.quality import Material, Scorer
from stages.datasets import verification_bin
from stages.datasets.insightface_rec import TrainSet
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.quality import cr_fiqa, feature_norm, sdd_fiqa, ser_fiq

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
BEFORE_LAST, LAST = "/gdconv/depthwise/Conv_output_0", "onnx::Conv_679"

Floats = NDArray[np.float64]
Rung = Callable[[Image, np.random.Generator], Image]


def resolution(side: int) -> Rung:
    """Return a rung that samples the face at ``side`` px and brings it back by cubic interpolation."""
    return lambda image, rng: cv2.resize(
        cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (112, 112), interpolation=cv2.INTER_CUBIC
    )


def blur(deviation: float) -> Rung:
    """Return a rung that blurs by a Gaussian of ``deviation`` px."""
    return lambda image, rng: cv2.GaussianBlur(image, (0, 0), deviation)


def noise(deviation: float) -> Rung:
    """Return a rung that adds Gaussian noise of ``deviation`` grey levels to every channel."""
    return lambda image, rng: np.clip(np.rint(image + rng.normal(0, deviation, image.shape)), 0, 255).astype(np.uint8)


def jpeg(quality: int) -> Rung:
    """Return a rung that packs and unpacks the face at JPEG's own ``quality``."""
    return lambda image, rng: decode(degrade.encode(image, quality))


def camera(quality: float) -> Rung:
    """Return a rung that takes the face down as the synthetic data's camera does."""
    return lambda image, rng: degrade.degrade(image, quality, rng)


LADDERS: dict[str, tuple[Rung, ...]] = {
    "resolution": tuple(map(resolution, (56, 28, 14, 7))),
    "blur": tuple(map(blur, (1, 2, 4, 8))),
    "noise": tuple(map(noise, (5, 10, 20, 40))),
    "jpeg": tuple(map(jpeg, (50, 25, 10, 5))),
    "camera": tuple(map(camera, (0.75, 0.5, 0.25, 0))),
}


class Published:
    """The published MobileFaceNet: RGB / 255, ImageNet's mean and deviation, one image at a time; with SER-FIQ."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        model.graph.output.append(onnx.ValueInfoProto(name=BEFORE_LAST))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        weight_DK = torch.from_numpy(weights[LAST].copy()).flatten(1)
        last = nn.Linear(weight_DK.shape[1], weight_DK.shape[0])
        bias = LAST.replace("679", "680")
        last.load_state_dict({"weight": weight_DK, "bias": torch.from_numpy(weights[bias].copy())})
        self.ser_fiq = ser_fiq.Scorer().network(nn.Sequential(last))

    def __call__(self, images: Iterable[Image]) -> Features:
        """Return features, with SER-FIQ's scores among ``seen``."""
        found = [self._run(image) for image in images]
        value_NK = torch.from_numpy(np.stack([value for _, value in found]))
        with torch.no_grad():
            parts = [self.ser_fiq(value_NK[begin : begin + 64])[:, 0] for begin in range(0, len(found), 64)]
        score_N = torch.cat(parts).numpy().astype(np.float32)
        return Features(np.stack([feature for feature, _ in found]), seen={"ser_fiq": score_N})

    def _run(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = (image[:, :, ::-1].astype(np.float32) / 255 - MEAN) / DEVIATION
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])
        feature_BD, value_BK11 = self.session.run(["output0", BEFORE_LAST], {"input0": batch})
        return feature_BD[0], value_BK11[0, :, 0, 0]


def of_published(shared: Path, num_training: int, folder: Path) -> tuple[Embed, dict[str, Scorer]]:
    """Return the published network, and every method behind it; BRISQUE where its package is installed.

    Args:
        shared: holds ``faces`` and ``models``.
        num_training: images that cr_fiqa and sdd_fiqa are fitted on; 0 leaves both out.
        folder: where their layers may be written.
    """
    published = Published(shared / "models/foamliu_MobileFaceNet.onnx")
    scorers: dict[str, Scorer] = {"feature_norm": feature_norm.Scorer(), "ser_fiq": ser_fiq.Scorer()}
    if num_training:
        material = train_material(shared / "faces/train", num_training, published)
        for name, module, config in (
            ("cr_fiqa", cr_fiqa, cr_fiqa.Config.model_validate({"name": "cr_fiqa", "target": "paper"})),
            ("sdd_fiqa", sdd_fiqa, sdd_fiqa.Config.model_validate({"name": "sdd_fiqa"})),
        ):
            torch.save(dict(module.train(config, material).weights), folder / "weights.pt")
            scorers[name] = module.Scorer.load(folder)
    of_images = ["sharpness", *(["brisque"] if importlib.util.find_spec("brisque") else [])]
    scorers |= scoring_embedder.untrained(of_images)
    looking: Any = {name: scorers[name] for name in of_images}
    return scoring_embedder.Seeing(published, looking, {}), scorers


def train_material(folder: Path, num: int, embed: Embed) -> Material:
    """Return ``num`` images of people with five images or more, each taken down to a drawn quality."""
    stored = TrainSet.open(folder)
    label_N = stored.labels
    people = np.flatnonzero(np.bincount(label_N) >= 5)
    rows = np.flatnonzero(np.isin(label_N, people))[:num]
    rng = np.random.default_rng(0)
    images = [degrade.degrade(decode(bytes(stored.image_bytes(stored.keys[row]))), rng.uniform(), rng) for row in rows]
    feature_ND = torch.from_numpy(embed(images).feature_ND)
    _, label = np.unique(label_N[rows], return_inverse=True)
    unit_ND = nn.functional.normalize(feature_ND, dim=1)
    centre_CD = torch.stack([unit_ND[label == person].mean(dim=0) for person in range(int(label.max()) + 1)])
    return Material(feature_ND, torch.from_numpy(label), centre_CD)


def of_run(folder: Path) -> tuple[Embed, dict[str, Scorer]]:
    """Return a run's network, its own method and those without training."""
    scorers = scoring_embedder.of_run(folder / "quality", [*scoring_embedder.UNTRAINED, "feature_norm"])
    return scoring_embedder.watched(Embedder.load(folder / "backbone", flip=False), scorers), scorers


def photographs(shared: Path, num: int) -> list[Image]:
    """Return ``num`` aligned faces, spread over the set: the first of each pair."""
    stored = verification_bin.load(shared / "faces/eval/lfw.bin").images
    rows = 2 * np.unique(np.linspace(0, len(stored) // 2 - 1, num).astype(int))
    return [verification_bin.decode(stored[row]) for row in rows]


def climb(images: Sequence[Image], embed: Embed, scorers: dict[str, Scorer], ladder: str) -> dict[str, Floats]:
    """Return each method's score of every image (N,) at each of the five rungs, shape (5, N)."""
    rng = np.random.default_rng(1)
    rungs: list[Features] = [embed(images)]
    rungs += [embed([rung(image, rng) for image in images]) for rung in LADDERS[ladder]]
    return {
        name: np.stack([scorer.score(features).astype(np.float64) for features in rungs])
        for name, scorer in scorers.items()
    }


def steps(score_5N: Floats) -> list[str]:
    """Return of each of the four steps whether the mean falls, rises, or is unresolved."""
    said = []
    for change_N in np.diff(score_5N, axis=0):
        error = change_N.std(ddof=1) / np.sqrt(change_N.size)
        mean = change_N.mean()
        said.append("falls" if mean < -2 * error else "rises" if mean > 2 * error else "unresolved")
    return said


def as_markdown(found: dict[str, dict[str, Floats]]) -> str:
    """Return a table: method, ladder, mean at each rung, what each step does, share of single faces that fall."""
    lines = [
        "| method | ladder | as it is | 1 | 2 | 3 | 4 | steps that do not fall | faces worse at the last rung |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    for method in next(iter(found.values())):
        for ladder, by_method in found.items():
            score_5N = by_method[method]
            means = " | ".join(f"{mean:.4g}" for mean in score_5N.mean(axis=1))
            odd = [f"{step} {said}" for step, said in enumerate(steps(score_5N), 1) if said != "falls"]
            worse = float((score_5N[-1] < score_5N[0]).mean())
            lines.append(f"| {method} | {ladder} | {means} | {', '.join(odd) or 'none'} | {100 * worse:.0f} % |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--shared", type=Path, default=Path("../shared"), help="holds faces and models")
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--training", type=int, default=1500, help="images that cr_fiqa and sdd_fiqa learn from")
    options.add_argument("--run", type=Path, help="runs/NAME, in the place of the published network")
    options.add_argument("--out", type=Path, help="write means and steps as JSON as well")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    if arguments.run:
        embed, scorers = of_run(arguments.run)
    else:
        with tempfile.TemporaryDirectory() as folder:
            embed, scorers = of_published(arguments.shared, arguments.training, Path(folder))
    images = photographs(arguments.shared, arguments.images)
    found = {ladder: climb(images, embed, scorers, ladder) for ladder in LADDERS}
    print(as_markdown(found))
    if arguments.out:
        tree = {
            ladder: {
                method: {"mean": score_5N.mean(axis=1).tolist(), "steps": steps(score_5N)}
                for method, score_5N in by_method.items()
            }
            for ladder, by_method in found.items()
        }
        arguments.out.write_text(json.dumps({"images": len(images), "ladders": tree}, indent=1) + "\n")


if __name__ == "__main__":
    main()
