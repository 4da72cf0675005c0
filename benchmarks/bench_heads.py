"""What a head costs, forward and backward, against the official heads with CrossEntropyLoss, and three bare products.

The official code is run from checkouts of it, given by path (none is copied here):

    python benchmarks/bench_heads.py --adaface PATH --curricularface PATH --magface PATH [--quick] [--rounds N]

where AdaFace (ArcFace and CosFace too) is mk-minchul/AdaFace at c60eaa78, CurricularFace HuangYG123/CurricularFace at
68c8727f, MagFace IrvingMeng/MagFace at 99bae614. All ways run by turns in one process on the same numbers, float32,
512 feature dimensions, gradients for features and weights; times are CPU seconds of one thread (wall beside them),
ratios are medians of the rounds' ratios. "3 products" is what nobody can do without, cosines and the two gradients, by
torch.mm; "3 best products" the same by what the heads use (stages/core/losses/matmul.py).

Memory is what a step adds to the process at its worst (VmHWM, reset before it, minus VmRSS), gradients included.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.util
import io
import os
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.core.losses import matmul
from stages.runtime import plugins

DIM = 512
SIZES = [(128, 10_575), (512, 10_575), (128, 70_722), (512, 70_722), (128, 205_990), (512, 205_990)]
MANY = 100_000
"""From so many classes on, only heads that differ in cost, and one round without one to warm up."""
FEW = ("adaface", "cosface", "curricularface")
Step = Callable[[Tensor, Tensor], None]
Ways = dict[str, tuple[nn.Module, Step]]


def official_module(path: Path, name: str) -> types.ModuleType:
    """Import one file of a checkout; what it imports and does not need here is stood in for."""
    for missing in ("termcolor",):
        sys.modules.setdefault(missing, types.SimpleNamespace(cprint=print))  # type: ignore[arg-type]
    sys.modules.setdefault("models", types.SimpleNamespace(iresnet=None))  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adaface_step(module: types.ModuleType, name: str, num_classes: int) -> tuple[nn.Module, Step]:
    kind = {"adaface": "AdaFace", "arcface": "ArcFace", "cosface": "CosFace"}[name]
    options: dict[str, Any] = {"embedding_size": DIM, "classnum": num_classes, "s": 64.0}
    options |= {"AdaFace": {"m": 0.4, "h": 0.333, "t_alpha": 0.01}, "ArcFace": {"m": 0.5}, "CosFace": {"m": 0.35}}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        head = getattr(module, kind)(**options)
    criterion = nn.CrossEntropyLoss()

    def step(feature_BD: Tensor, label_B: Tensor) -> None:
        # the backbone divides in the official code, net.py
        norm_B1 = torch.norm(feature_BD, 2, 1, True)
        criterion(head(torch.div(feature_BD, norm_B1), norm_B1, label_B), label_B).backward()

    return head, step


def curricularface_step(module: types.ModuleType, num_classes: int) -> tuple[nn.Module, Step]:
    head = module.CurricularFace(DIM, num_classes)
    criterion = nn.CrossEntropyLoss()

    def step(feature_BD: Tensor, label_B: Tensor) -> None:
        criterion(head(feature_BD, label_B)[0], label_B).backward()

    return head, step


def magface_step(module: types.ModuleType, num_classes: int) -> tuple[nn.Module, Step]:
    head = module.MagLinear(DIM, num_classes)
    criterion = module.MagLoss(10, 110, 0.45, 0.8)

    def margin(norm_B1: Tensor) -> Tensor:
        return (0.8 - 0.45) / (110 - 10) * (norm_B1 - 10) + 0.45

    def step(feature_BD: Tensor, label_B: Tensor) -> None:
        logits, norm_B1 = head(feature_BD, margin, 10, 110)
        loss, loss_g, _ = criterion(logits, label_B, norm_B1)
        (loss + 35 * loss_g).backward()

    return head, step


def official(arguments: argparse.Namespace) -> dict[str, Callable[[int], tuple[nn.Module, Step]]]:
    """Return the official heads of the checkouts that were given."""
    found: dict[str, Callable[[int], tuple[nn.Module, Step]]] = {}
    if arguments.adaface:
        module = official_module(arguments.adaface / "head.py", "official_adaface_head")
        for name in ("adaface", "arcface", "cosface"):
            found[name] = lambda classes, name=name, module=module: adaface_step(module, name, classes)  # type: ignore[misc]
    if arguments.magface:
        magface = official_module(arguments.magface / "models/magface.py", "official_magface")
        found["magface"] = lambda classes: magface_step(magface, classes)
    if arguments.curricularface:
        metrics = official_module(arguments.curricularface / "head/metrics.py", "official_curricularface")
        found["curricularface"] = lambda classes: curricularface_step(metrics, classes)
    return found


FIELDS: dict[str, dict[str, Any]] = {
    "adaface": {"margin": 0.4, "h": 0.333},
    "arcface": {"margin": 0.5},
    "cosface": {"margin": 0.35},
    "magface": {},
    "curricularface": {"margin": 0.5},
    "mv_softmax": {"kind": "arc", "margin": 0.35},
}


def our_step(name: str, num_classes: int, mode: str) -> tuple[nn.Module, Step]:
    module = plugins.load("heads", name)
    head = module.Head(module.Config(name=name, **FIELDS[name]), DIM, num_classes)
    head.mode = mode

    def step(feature_BD: Tensor, label_B: Tensor) -> None:
        head(feature_BD, label_B).loss.backward()

    return head, step


def mm(left_MK: Tensor, right_NK: Tensor) -> Tensor:
    return torch.mm(left_MK, right_NK.T)


def three_products(num_classes: int, product: Callable[[Tensor, Tensor], Tensor]) -> tuple[nn.Module, Step]:
    head = nn.Linear(DIM, num_classes, bias=False)
    weight_CD = head.weight.detach()

    def step(feature_BD: Tensor, label_B: Tensor) -> None:
        embedding_BD = functional.normalize(feature_BD.detach(), dim=1)
        cosine_BC = product(embedding_BD, weight_CD)
        product(cosine_BC, weight_CD.T)
        product(cosine_BC.T, embedding_BD.T)

    return head, step


def centres(head: nn.Module, given_CD: Tensor) -> None:
    """Give a head its weights, whichever way round it holds them."""
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(given_CD if weight.shape == given_CD.shape else given_CD.T)


def memory(key: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Measure CPU and wall seconds, and the bytes added at worst."""
    gc.collect()
    # what was freed is given back, so that a step's memory is all its own
    ctypes.CDLL(None).malloc_trim(0)
    took: dict[str, float] = {}
    Path("/proc/self/clear_refs").write_text("5")
    resident = memory("VmRSS")
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield took
    took["cpu_s"], took["wall_s"] = time.process_time() - cpu_s, time.perf_counter() - wall_s
    took["bytes"] = memory("VmHWM") - resident


def measure(ways: Ways, size: int, num_classes: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Run all ways by turns; the first round warms up and does not count, where classes are not many."""
    generator = torch.Generator().manual_seed(1)
    # like a training's: the own centre is near, others are not
    centre_CD = functional.normalize(torch.randn(num_classes, DIM, generator=generator), dim=1)
    label_B = torch.randint(0, num_classes, (size,), generator=generator)
    noise_BD = torch.randn(size, DIM, generator=generator) / DIM**0.5
    given_BD = 22 * functional.normalize(centre_CD[label_B] + noise_BD, dim=1)
    for head, _ in ways.values():
        centres(head, centre_CD)
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    warm_up = num_classes < MANY
    for round_ in range(rounds + warm_up):
        for way, (head, step) in ways.items():
            for parameter in head.parameters():
                parameter.grad = None
            feature_BD = given_BD.clone().requires_grad_()
            with timed() as took:
                step(feature_BD, label_B)
            for parameter in head.parameters():
                parameter.grad = None
            if round_ >= warm_up:
                taken[way].append(took)
    return taken


def ratio(above: list[dict[str, float]], below: list[dict[str, float]], key: str) -> float:
    return statistics.median(a[key] / b[key] for a, b in zip(above, below, strict=True))


def table(arguments: argparse.Namespace) -> Iterator[str]:
    columns = (
        "head", "B, C", "official, CPU s", "ours, CPU s", "official / ours: CPU", "wall", "memory",
        "ours / 3 products: CPU", "/ 3 best products", "recompute / 3 products: CPU", "/ 3 best products",
        "official / recompute: memory", "ours, MB", "recompute, MB",
    )  # fmt: skip
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    known = official(arguments)
    for size, num_classes in arguments.sizes:
        rounds = arguments.rounds or (3 if num_classes < 20_000 else 1)
        for name in arguments.heads or (FIELDS if num_classes < MANY else FEW):
            ways: Ways = {"ours": our_step(name, num_classes, "store")}
            ways["again"] = our_step(name, num_classes, "recompute")
            ways["floor"] = three_products(num_classes, mm)
            ways["best floor"] = three_products(num_classes, matmul.product)
            if name in known:
                ways["official"] = known[name](num_classes)
            taken = measure(ways, size, num_classes, rounds)
            yield row(name, size, num_classes, taken)
            del ways


def row(name: str, size: int, num_classes: int, taken: dict[str, list[dict[str, float]]]) -> str:
    def seconds(way: str) -> str:
        return f"{statistics.median(took['cpu_s'] for took in taken[way]):.3f}" if way in taken else "-"

    def gain(key: str, way: str = "ours") -> str:
        return f"{ratio(taken['official'], taken[way], key):.1f}" if "official" in taken else "-"

    def above(way: str, floor: str) -> str:
        return f"{ratio(taken[way], taken[floor], 'cpu_s'):.2f}"

    def megabytes(way: str) -> str:
        return f"{statistics.median(took['bytes'] for took in taken[way]) / 1e6:.0f}"

    cells = [
        name, f"{size}, {num_classes}", seconds("official"), seconds("ours"), gain("cpu_s"), gain("wall_s"),
        gain("bytes"), above("ours", "floor"), above("ours", "best floor"), above("again", "floor"),
        above("again", "best floor"), gain("bytes", "again"), megabytes("ours"), megabytes("again"),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def pair(text: str) -> tuple[int, int]:
    size, num_classes = text.split(",")
    return int(size), int(num_classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("adaface", "curricularface", "magface"):
        parser.add_argument(f"--{name}", type=Path, help="a checkout of the official code")
    parser.add_argument("--quick", action="store_true", help="the smallest two sizes, two rounds")
    parser.add_argument("--sizes", type=pair, nargs="+", default=SIZES, metavar="B,C")
    parser.add_argument("--heads", nargs="+", choices=list(FIELDS), help="default: all, or few where classes are many")
    parser.add_argument("--rounds", type=int, help="that count; default 3, or 1 where classes are many")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.rounds = SIZES[:2], 2
    torch.set_num_threads(arguments.threads)
    load = f"load average {os.getloadavg()[0]:.1f} at the start"
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {load}\n")
    for line in table(arguments):
        print(line, flush=True)
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
