"""Write author_losses.json: twenty steps of the authors' own training programs, in float64 on a CPU.

    python -m tests.golden.make_author_losses FOLDER [NAME ...]

FOLDER has checkouts, called AdaFace (mk-minchul, at c60eaa7), insightface (deepinsight, at 7fadd420), MagFace
(IrvingMeng, at 99bae61), CurricularFace (HuangYG123, at 68c8727), CR-FIQA (fdbtrs, at a8f98da) and QGFace
(IsidoreSong, at 778aa5e; NAME: only these programs are run again). Their networks, heads, losses, groups of parameters, optimisers and schedules run as they are. Changed: numbers in the text of the
networks, which make them narrow and the first stride 2; dropout, which is off; `.cuda()`, which stays on the CPU; and
the least probability in the loss that insightface prints.
Weights and images are those of tests/stages/author_steps.py.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from tests.stages import author_steps
from tests.stages.author_steps import CASES, CLASSES, DIM, GOLDEN, RATE, STEPS

NARROWER = {"64": "4", "128": "8", "256": "12", "512": "16"}
Step = Callable[[Tensor, Tensor, int], Tensor]


def narrow(text: str) -> str:
    """Return the source of a network with widths of 4 to 16, one block a stage, and a first stride of 2."""
    text = re.sub(r"\b(64|128|256|512)\b", lambda found: NARROWER[found[0]], text)
    text = re.sub(r"num_units=\d+", "num_units=1", text).replace("7 * 7", "4 * 4")
    text = text.replace("Conv2d(3, 4, (3, 3), 1, 1", "Conv2d(3, 4, (3, 3), 2, 1")
    return text.replace("self.inplanes, kernel_size=3, stride=1", "self.inplanes, kernel_size=3, stride=2")


def load(path: Path, name: str, change: Callable[[str], str] = str, **stand_ins: Any) -> types.ModuleType:
    """Return a file of theirs as a module; ``stand_ins`` are modules that it imports and does not need here."""
    for other, module in stand_ins.items():
        sys.modules[other.replace("__", ".")] = module
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(compile(change(path.read_text(encoding="utf-8")), str(path), "exec"), made.__dict__)
    return made


def function(path: Path, name: str, **known: Any) -> Any:
    """Return one function of a file whose imports are not needed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    exec(compile(ast.Module([found], []), str(path), "exec"), known)
    return known[name]


def start(network: nn.Module) -> nn.Module:
    """Fill a network, switch dropout off, and set it to training."""
    author_steps.fill(network)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return network.train()


def set_centres(weight: nn.Parameter) -> None:
    """Set class centres, (C, D) or (D, C) as the program has them."""
    centre_CD = author_steps.centres()
    weight.data.copy_(centre_CD if weight.shape == centre_CD.shape else centre_CD.T)


def descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Clear the gradients, compute them and make one step."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def adaface(home: Path) -> Step:
    """Their Lightning module's own steps, without Lightning."""
    core = types.ModuleType("core")
    core.LightningModule = nn.Module  # type: ignore[attr-defined]
    net, head = load(home / "net.py", "net", narrow), load(home / "head.py", "head")
    empty = types.ModuleType("empty")
    program = load(home / "train_val.py", "train_val", pytorch_lightning=empty, pytorch_lightning__core=core,
                   evaluate_utils=empty, utils=empty, net=net, head=head)  # fmt: skip
    trainer = program.Trainer.__new__(program.Trainer)
    nn.Module.__init__(trainer)
    trainer.hparams = types.SimpleNamespace(lr=RATE, momentum=0.9, lr_milestones=[1], lr_gamma=0.1)
    trainer.model = start(net.build_model("ir_18"))
    trainer.head = head.build_head("adaface", DIM, CLASSES, m=0.4, t_alpha=0.01, h=0.333, s=64.0)
    set_centres(trainer.head.kernel)
    trainer.cross_entropy_loss = nn.CrossEntropyLoss()
    trainer.get_current_lr, trainer.log = lambda: 0.0, lambda *given, **options: None
    (optimiser,), (schedule,) = trainer.configure_optimizers()

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        loss: Tensor = trainer.training_step((image, label), number)
        descend(loss, optimiser)
        if number % 10 == 9:
            schedule.step()
        return loss

    return step


def insightface(home: Path, margins: tuple[float, float, float]) -> Step:
    """train_v2.py without mixed precision, with partial_fc_v2.py in a group of one process."""
    home = home / "recognition/arcface_torch"
    backbone = load(home / "backbones/iresnet.py", "backbones.iresnet", narrow)
    network = start(backbone.IResNet(backbone.IBasicBlock, [1, 1, 1, 1], num_features=DIM))
    margin = load(home / "losses.py", "losses").CombinedMarginLoss(64, *margins, 0)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    # a probability counts as 1e-30 at least in the loss that is printed, in no gradient: in float64 it need not
    uncapped = load(home / "partial_fc_v2.py", "partial_fc_v2", lambda text: text.replace("1e-30", "1e-300"))
    partial = uncapped.PartialFC_V2(margin, DIM, CLASSES, 1.0, False).train()
    set_centres(partial.weight)
    groups = [{"params": network.parameters()}, {"params": partial.parameters()}]
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=0.9, weight_decay=5e-4)
    # an argument that torch has removed since
    scheduler = load(home / "lr_scheduler.py", "lr_scheduler", lambda text: text.replace(", verbose=verbose", ""))
    schedule = scheduler.PolynomialLRWarmup(optimiser, warmup_iters=0, total_iters=STEPS)

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        loss: Tensor = partial(network(image), label)
        loss.backward()
        clip_grad_norm_(network.parameters(), 5)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        return loss

    return step


def magface(home: Path) -> Step:
    """run/trainer.py on one device."""
    models, empty = types.ModuleType("models"), types.ModuleType("termcolor")
    empty.cprint = print  # type: ignore[attr-defined]
    models.iresnet = load(home / "models/iresnet.py", "models.iresnet", narrow)  # type: ignore[attr-defined]
    program = load(home / "models/magface.py", "magface", models=models, termcolor=empty)
    given = types.SimpleNamespace(arch="iresnet18", embedding_size=DIM, last_fc_size=CLASSES, arc_scale=64, l_a=1.0, u_a=10.0,
                                  l_margin=0.45, u_margin=0.8, lambda_g=35.0, lr=RATE, lr_drop_epoch=[1], lr_drop_ratio=0.1)  # fmt: skip
    models.iresnet.iresnet18 = lambda pretrained, num_classes: models.iresnet.IResNet(  # type: ignore[attr-defined]
        models.iresnet.IBasicBlock, [1, 1, 1, 1], num_classes=num_classes
    )
    network = program.builder(given)
    start(network.features)
    set_centres(network.fc.weight)
    criterion = program.MagLoss(given.l_a, given.u_a, given.l_margin, given.u_margin)
    optimiser = torch.optim.SGD(network.parameters(), given.lr, momentum=0.9, weight_decay=5e-4)
    adjust = function(home / "utils/utils.py", "adjust_learning_rate")

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        if number % 10 == 0:
            adjust(optimiser, number // 10, given)
        output, x_norm = network(image, label)
        loss_id, loss_g, _ = criterion(output, label, x_norm)
        loss: Tensor = loss_id + given.lambda_g * loss_g
        descend(loss, optimiser)
        return loss

    return step


def curricularface(home: Path) -> Step:
    """train.py on one device."""
    program = load(home / "backbone/model_irse.py", "backbone.model_irse", narrow)
    network, head = start(program.Backbone([112, 112], 50, "ir")), load(home / "head/metrics.py", "metrics").CurricularFace(DIM, CLASSES)
    set_centres(head.kernel)
    separate = function(home / "util/utils.py", "separate_irse_bn_paras")
    norms, others = separate(network)
    groups = [{"params": others + list(head.parameters()), "weight_decay": 5e-4}, {"params": norms}]
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=0.9)
    adjust = function(home / "train.py", "adjust_learning_rate")

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        if number % 10 == 0:
            adjust(optimiser, number // 10, {"STAGES": [1], "LR": RATE})
        features, _ = network(image)
        outputs, _ = head(features, label)
        loss: Tensor = nn.functional.cross_entropy(outputs, label)
        descend(loss, optimiser)
        return loss

    return step


def cr_fiqa(home: Path) -> Step:
    """train_cr_fiqa.py on one device."""
    program = load(home / "backbones/iresnet.py", "cr_fiqa.iresnet", narrow)
    network = start(program.IResNet(program.IBasicBlock, [1, 1, 1, 1], num_features=DIM, use_se=False, qs=1))
    head = load(home / "losses.py", "cr_fiqa.losses").CR_FIQA_LOSS(DIM, CLASSES).double()  # a FloatTensor
    set_centres(head.kernel)
    optimisers = [torch.optim.SGD(one.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4) for one in (network, head)]
    falls = [torch.optim.lr_scheduler.LambdaLR(one, lambda epoch: 0.1**epoch) for one in optimisers]
    smooth = nn.SmoothL1Loss(beta=0.5)

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        features, quality = network(image)
        thetas, _, ccs, nnccs = head(features, label)
        loss: Tensor = nn.functional.cross_entropy(thetas, label) + 10.0 * smooth(ccs / nnccs, quality)
        loss.backward()
        clip_grad_norm_(network.parameters(), max_norm=5, norm_type=2)
        for one in optimisers:
            one.step()
            one.zero_grad()
        if number % 10 == 9:
            for one in falls:
                one.step()
        return loss

    return step


def qgface(home: Path) -> Step:
    """Their Lightning module's own steps, without Lightning, with its copy of AdaFace and a queue of earlier batches."""
    core, empty, utilities = (types.ModuleType(name) for name in ("core", "empty", "utilities"))
    core.LightningModule, utilities.rank_zero_only = nn.Module, lambda given: given  # type: ignore[attr-defined]
    utilities.PossibleUserWarning = UserWarning  # type: ignore[attr-defined]
    empty.EasyDict = dict  # type: ignore[attr-defined]
    for name in ("evaluate_utils", "validate_tinyface", "tinyface_helper", "scface_helper", "validate_IJB_BC"):
        setattr(empty, name, None)
    others = ("wandb", "hydra", "easydict", "validation", "validation__evaluate_utils", "validation__validation_lq",
              "validation__validation_mixed", "utils", "pytorch_lightning")  # fmt: skip
    net, head = load(home / "net.py", "net", narrow), load(home / "head.py", "head")
    program = load(home / "framework.py", "framework", **dict.fromkeys(others, empty), pytorch_lightning__core=core,
                   pytorch_lightning__utilities=utilities, pytorch_lightning__utilities__warnings=utilities, net=net)  # fmt: skip
    model = program.FaceModel.__new__(program.FaceModel)
    nn.Module.__init__(model)
    spaces = types.SimpleNamespace
    queue = spaces(name="plain", sync_GPU=False, queue_size=author_steps.QUEUE)
    model.hparams = spaces(contrast=spaces(queue=queue, later_aug=False), data=spaces(contrast_view=True), lr=RATE,
                           momentum=0.9, lr_milestones=[1], lr_gamma=0.1)  # fmt: skip
    model.backbone = start(net.build_model(model_name="ir18"))
    known = {"embedding_size": DIM, "classnum": CLASSES, "s": 64.0, "quality_scale": 0.2}
    model.head, model.c_head = head.AdaFace(**known), head.QGFace(mask_same_class=True, **known)
    set_centres(model.head.kernel)
    model.contrast_weight, model.contrast_queue_size = 1.0, author_steps.QUEUE
    model.queue_embeds, model.queue_labels, model.queue_proxies = torch.empty(0), torch.empty(0, dtype=torch.long), torch.empty(0)
    model.log_training_step = lambda *given: None
    (optimiser,), (schedule,) = model.configure_optimizers()

    def step(image: Tensor, label: Tensor, number: int) -> Tensor:
        # a batch of theirs has the low view first
        both = torch.stack([author_steps.pixels("QGFace", number, 1), image], 1)
        loss: Tensor = model.training_step((both, label), number)
        descend(loss, optimiser)
        if number % 10 == 9:
            schedule.step()
        return loss

    return step


def main(folder: str, *names: str) -> None:
    home = Path(folder)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.cuda = lambda self, *given, **options: self  # type: ignore[method-assign,assignment]
    warnings.simplefilter("ignore")
    programs: dict[str, Callable[[], Step]] = {
        "AdaFace": lambda: adaface(home / "AdaFace"),
        "insightface ArcFace": lambda: insightface(home / "insightface", (1.0, 0.5, 0.0)),
        "insightface CosFace": lambda: insightface(home / "insightface", (1.0, 0.0, 0.4)),
        "MagFace": lambda: magface(home / "MagFace"),
        "CurricularFace": lambda: curricularface(home / "CurricularFace"),
        "CR-FIQA": lambda: cr_fiqa(home / "CR-FIQA"),
        "QGFace": lambda: qgface(home / "QGFace"),
    }
    found: dict[str, list[float]] = json.loads(GOLDEN.read_text()) if names else {}
    for name in names or CASES:
        step, found[name] = programs[name](), []
        for number in range(STEPS):
            _, label = author_steps.batch(name, number)
            found[name].append(float(step(author_steps.pixels(name, number), label, number).detach()))
    lines = [f"  {json.dumps(name)}: {json.dumps(found[name])}" for name in CASES]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
