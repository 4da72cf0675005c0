"""Does low quality hurt on the synthetic data? Rank-1 of a small network over the known quality of the probes.

Draws the demo's training set, trains the demo's network on it with CosFace, then identifies probes of people
it has never seen, at several known qualities, in a gallery of one clean image each.

    OMP_NUM_THREADS=1 python benchmarks/studies/rank1_over_quality.py --epochs 8
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
import torch
from torch.nn import functional

from stages.backbones import iresnet
from stages.core.images.degrade import side_of
from stages.core.metrics.processing import decode
from stages.heads import cosface
from stages.synthesis import plan
from stages.synthesis.config import Config, EvalConfig, TrainConfig
from stages.synthesis.rendering import cores, draw_all

LEVELS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
BATCH = 64


def main() -> None:
    """Draw, train, identify, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--identities", type=int, default=300, help="of the training set")
    options.add_argument("--images", type=int, default=20, help="of each")
    options.add_argument("--low-quality-share", type=float, default=0.25)
    options.add_argument("--people", type=int, default=100, help="in the gallery")
    options.add_argument("--probes", type=int, default=4, help="of each person at each level")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    config = Config(
        seed=arguments.seed,
        train=TrainConfig(
            identities=arguments.identities,
            images_per_identity=arguments.images,
            low_quality_share=arguments.low_quality_share,
        ),
        eval=EvalConfig(identities=20, pairs=20, ijb_templates=40, tinyface_distractors=0),
    )
    image_NHW3, label_N = draw(config.seed, plan.train_sittings(config))
    network = train(image_NHW3, label_N, arguments)
    image_NHW3, person_N = draw(config.seed, probe_sittings(arguments.people, arguments.probes))
    report(network, image_NHW3, person_N, arguments)


def draw(seed: int, sittings: list[plan.Sitting]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 112, 112, 3) uint8 images and the place of each one's sitting."""
    start = time.monotonic()
    images, places = [], []
    for place, drawn in enumerate(draw_all(seed, sittings, cores())):
        images += [decode(one.jpeg) for one in drawn]
        places += [place] * len(drawn)
    print(f"drew {len(images)} images in {time.monotonic() - start:.0f} s", flush=True)
    return np.stack(images), np.array(places)


def probe_sittings(people: int, probes: int) -> list[plan.Sitting]:
    """Return for each person one clean gallery image, then the probes of every level."""
    qualities = [1.0, *(level for level in LEVELS for _ in range(probes))]
    pictures = tuple(plan.Picture(slot, quality) for slot, quality in enumerate(qualities))
    return [plan.Sitting(plan.STREAMS["levels"], person, pictures) for person in range(people)]


def to_tensor(image_NHW3: np.ndarray) -> torch.Tensor:
    """Return (N, 3, 112, 112) float in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image_NHW3.transpose(0, 3, 1, 2))).float().div(127.5).sub(1)


def train(image_NHW3: np.ndarray, label_N: np.ndarray, arguments: argparse.Namespace) -> torch.nn.Module:
    """Train the demo's network with CosFace; flips are the only augmentation."""
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    network = iresnet.build(
        iresnet.Config(
            name="iresnet", style="adaface", units=(1, 1, 1, 1), widths=(8, 16, 32, 64), stem_stride=2,
            feature_dim=128, dropout=0.0,
        )
    )  # fmt: skip
    head = cosface.Head(cosface.Config(name="cosface", margin=0.3, scale=24.0), 128, int(label_N.max()) + 1)
    weights = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = len(label_N) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=arguments.epochs * steps)
    start = time.monotonic()
    for epoch in range(arguments.epochs):
        total = 0.0
        for chosen in np.array_split(rng.permutation(len(label_N))[: steps * BATCH], steps):
            batch_BHW3 = image_NHW3[chosen]
            flip = rng.uniform(size=len(chosen)) < 0.5
            batch_BHW3[flip] = batch_BHW3[flip, :, ::-1]
            loss = head(network(to_tensor(batch_BHW3)), torch.from_numpy(label_N[chosen])).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}, {time.monotonic() - start:.0f} s", flush=True)
    return network.eval()


@torch.no_grad()
def report(
    network: torch.nn.Module, image_NHW3: np.ndarray, person_N: np.ndarray, arguments: argparse.Namespace
) -> None:
    """Print rank-1 and the mean feature norm of every level."""
    feature_ND = torch.cat(
        [network(to_tensor(batch)) + network(to_tensor(batch[:, :, ::-1]))
         for batch in np.array_split(image_NHW3, len(image_NHW3) // 200 + 1)]
    )  # fmt: skip
    norm_PI = (feature_ND.norm(dim=1) / 2).view(arguments.people, -1)
    embedding_PID = functional.normalize(feature_ND).view(*norm_PI.shape, -1)
    print(f"\ngallery of {len(set(person_N))} people unseen in training; chance {1 / arguments.people:.0%}")
    print("quality  side px  rank-1         feature norm")
    for number, level in enumerate(LEVELS):
        columns = slice(1 + number * arguments.probes, 1 + (number + 1) * arguments.probes)
        score_PIG = embedding_PID[:, columns] @ embedding_PID[:, 0].T
        hits = (score_PIG.argmax(dim=2) == torch.arange(arguments.people)[:, None]).sum().item()
        count = arguments.people * arguments.probes
        norm = norm_PI[:, columns].mean().item()
        print(f"{level:7.2f}  {side_of(level):7.1f}  {hits:4d}/{count} {hits / count:6.1%}  {norm:.2f}")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
