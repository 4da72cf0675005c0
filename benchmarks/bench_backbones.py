"""Images per CPU second through a backbone, official and ours, by memory order, folded batch norms and compilation.

    python benchmarks/bench_backbones.py --adaface CHECKOUT [--quick] [--compiled] [--nets IR-18 IR-50]

CHECKOUT is one of mk-minchul/AdaFace at c60eaa78: its net.py is run as it is, with our weights in it, in the memory
order it is published with (its ``view`` refuses channels-last). All ways run by turns in one process on the same
images, float32, one thread; medians of the rounds, ratios are medians of the rounds' ratios. Inference gives features
of images; training is forward and backward of the features' sum, without optimiser: bench_training_step.py has whole
steps, compiled ones too.
"""

from __future__ import annotations

import argparse
import copy
import os
import runpy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from stages.core.networks.fold_batch_norm import fold
from stages.runtime import plugins

Step = Callable[[], object]
DEPTHS = {"IR-18": (2, 2, 2, 2), "IR-50": (3, 4, 14, 3), "demo net": (1, 1, 1, 1)}
OFFICIAL = {"IR-18": "ir_18", "IR-50": "ir_50"}
OURS = "ours, channels_last"


def build(name: str) -> nn.Module:
    demo = name == "demo net"
    module = plugins.load("backbones", "iresnet")
    torch.manual_seed(0)
    network: nn.Module = module.build(
        module.Config(
            name="iresnet",
            style="adaface",
            units=DEPTHS[name],
            widths=(8, 16, 32, 64) if demo else (64, 128, 256, 512),
            stem_stride=2 if demo else 1,
            feature_dim=128 if demo else 512,
            dropout=0.0,
        )
    )
    return network


def official(checkout: Path, name: str, state: dict[str, Tensor]) -> nn.Module:
    network: nn.Module = runpy.run_path(str(checkout / "net.py"))["build_model"](OFFICIAL[name])
    network.load_state_dict(state)
    return network


def last(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def inference(name: str, batch: int, checkout: Path | None, compiled: bool) -> dict[str, Step]:
    network = build(name).eval()
    image = torch.randn(batch, 3, 112, 112)
    image_last = image.contiguous(memory_format=torch.channels_last)
    folded = fold(network)
    ways: dict[str, Step] = {}
    if checkout and name in OFFICIAL:
        theirs = official(checkout, name, network.state_dict()).eval()
        assert torch.allclose(torch.mul(*theirs(image)), network(image), rtol=1e-3, atol=1e-3)
        ways["official, NCHW"] = lambda: theirs(image)
    ways["ours, NCHW"] = lambda: network(image)
    ours_last, folded_last = last(network), last(folded)
    ways[OURS] = lambda: ours_last(image_last)
    ways["ours, channels_last, batch norms folded"] = lambda: folded_last(image_last)
    if compiled:
        made = torch.compile(folded_last)
        ways["ours, channels_last, folded and compiled"] = lambda: made(image_last)
    return ways


def training(name: str, batch: int, checkout: Path | None) -> dict[str, Step]:
    network = build(name).train()
    image = torch.randn(batch, 3, 112, 112)
    image_last = image.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Step] = {}

    def step(module: nn.Module, given: Tensor) -> Step:
        def run() -> None:
            made = module(given)
            (made[0] if isinstance(made, tuple) else made).sum().backward()

        return run

    if checkout and name in OFFICIAL:
        ways["official, NCHW"] = step(official(checkout, name, network.state_dict()).train(), image)
    ways["ours, NCHW"] = step(network, image)
    ways[OURS] = step(last(network), image_last)
    return ways


def measure(ways: dict[str, Step], rounds: int, grad: bool) -> dict[str, list[tuple[float, float]]]:
    """Return CPU and wall seconds of each way by round; every way is warmed up first."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with torch.set_grad_enabled(grad):
        for run in ways.values():
            run()
        for number in range(rounds):
            order = list(ways.items())
            for name, run in order if number % 2 == 0 else reversed(order):
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return seconds


def report(title: str, batch: int, seconds: dict[str, list[tuple[float, float]]]) -> None:
    base = next(iter(seconds))
    print(f"\n{title}, batch {batch}\n")
    print(f"| way | images per CPU second | times {base} | in wall time |\n|---|---|---|---|")
    for name, measured in seconds.items():
        cpu, wall = (
            statistics.median(first[place] / own[place] for first, own in zip(seconds[base], measured, strict=True))
            for place in (0, 1)
        )
        rate = batch / statistics.median(own for own, _ in measured)
        print(f"| {name} | {rate:.1f} | {cpu:.2f} | {wall:.2f} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--adaface", type=Path, help="checkout of mk-minchul/AdaFace; without it ours alone")
    options.add_argument("--nets", nargs="+", choices=list(DEPTHS), default=list(DEPTHS))
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--quick", action="store_true", help="IR-18 and the demo net, three rounds, nothing compiled")
    options.add_argument("--compiled", action="store_true", help="torch.compile for inference too, a minute a net")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds = 3 if arguments.quick else arguments.rounds
    compiled = arguments.compiled and not arguments.quick
    load = os.getloadavg()[0]
    for name, batch in (("IR-18", 8), ("IR-50", 4), ("demo net", 64)):
        if name not in arguments.nets or (arguments.quick and name == "IR-50"):
            continue
        ways = inference(name, batch, arguments.adaface, compiled)
        report(f"{name}, inference", batch, measure(ways, rounds, grad=False))
        ways = training(name, batch, arguments.adaface)
        report(f"{name}, training", batch, measure(ways, rounds, grad=True))
    print(f"\n{rounds} rounds; one thread; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
