"""Heads of every kind and variant, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from stages.runtime import plugins

HEADS = plugins.names("heads")
# fields that a head wants beyond `name` and `margin`
EXTRA: dict[str, dict[str, Any]] = {
    "adaface": {"h": 0.333},
    "mv_softmax": {"kind": "arc"},
    "sphereface": {"margin": 1.7},
    "combined": {"m1": 1.0, "m2": 0.3, "m3": 0.2},
    "elasticface": {"margin_kind": "arc"},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in HEADS],
    *[("arcface", {"beyond_pi": end}) for end in ("shift", "easy", "wrap")],
    ("arcface", {"gradient": "straight_through", "beyond_pi": "wrap"}),
    ("arcface", {"interclass_filter": 0.4}),
    ("cosface", {"interclass_filter": 0.2}),
    ("magface", {"easy_margin": False}),
    ("magface", {"margin_kind": "cosine"}),
    ("adaface", {"initial_mean": 0.0, "initial_std": 0.0}),
    ("adaface", {"t_alpha": 1.0}),
    ("adaface", {"program": "cvlface"}),
    ("adaface", {"proxy": "p_true_class", "t_alpha": 0.3}),
    ("adaface", {"proxy": "one_minus_brisque", "t_alpha": 0.3}),
    ("mv_softmax", {"kind": "am"}),
    *[("sphereface", {"variant": variant, "loss_weight": 0.5}) for variant in ("v1", "v2")],
    ("combined", {"m1": 1.35, "m2": 0.1, "m3": 0.05}), ("combined", {"m2": 0.0}),
    ("elasticface", {"margin_kind": "cosine"}), ("elasticface", {"plus": True}),
    ("uniface", {"negatives_weight": 0.3, "sample_rate": 0.5}),
    ("subcenter_arcface", {"centres": 1}),
]  # fmt: skip

# heads that stand on margin_head.py; others hold all classes in one process
SHARDABLE = [name for name in HEADS if plugins.load("heads", name).Head.shardable]
SHARDABLE_VARIANTS = [variant for variant in VARIANTS if variant[0] in SHARDABLE]


def build(name: str, feature_dim: int = 8, num_classes: int = 5, shard: Any = None, **overrides: Any) -> Any:
    """Return a head with weights that depend only on its shape."""
    torch.manual_seed(0)
    module = plugins.load("heads", name)
    fields = {"name": name} | ({"margin": 0.4} if "margin" in module.Config.model_fields else {})
    config = module.Config(**fields | EXTRA.get(name, {}) | overrides)
    return module.Head(config, feature_dim, num_classes, **({} if shard is None else {"shard": shard}))


def cosines(feature_BD: torch.Tensor, weight_CX: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each feature with the nearest of the centres in each class's row."""
    centre_CKD = weight_CX.unflatten(1, (-1, feature_BD.shape[1]))
    return functional.cosine_similarity(feature_BD[:, None, None], centre_CKD[None], dim=3).amax(dim=2)


def loss_of(head: Any, logits_BC: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    """Return the plain loss of logits: cross-entropy over the classes, or with UniFace with each of them."""
    if type(head).__module__.endswith("uniface"):
        is_own_BC = functional.one_hot(label_B, logits_BC.shape[1]).bool()
        exponent_BC = torch.where(is_own_BC, head.bias - logits_BC, logits_BC - head.bias)
        loss_BC = functional.softplus(exponent_BC.clamp(-head.scale, head.scale), threshold=100)
        return torch.where(is_own_BC, loss_BC, head.config.negatives_weight * loss_BC).sum(dim=1).mean()
    factor = getattr(head.config, "loss_weight", 1.0)
    return factor * functional.cross_entropy(logits_BC, label_B)


def quality_for(head: Any, size: int) -> torch.Tensor | None:
    """Return a quality for each image if the head needs one."""
    return torch.linspace(0.1, 0.9, size).to(head.weight.dtype) if head.wants_quality else None
