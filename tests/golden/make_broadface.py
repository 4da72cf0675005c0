"""Writes broadface.json from the authors' own code: python tests/golden/make_broadface.py CHECKOUT

CHECKOUT: kakaoenterprise/BroadFace at e6a021d. Four steps, float64, the centres moved between them by plain descent. The
queue holds whole batches: of a batch that half fits, the authors drop the first images and we the last.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch

BATCH, DIM, CLASSES, QUEUE, STEPS, RATE = 5, 6, 9, 10, 4, 0.05


def main(checkout: Path) -> None:
    spec = importlib.util.spec_from_file_location("loss", checkout / "broadface/loss.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    torch.manual_seed(0)
    tree: dict[str, object] = {"queue": QUEUE, "rate": RATE, "margin": 0.5, "scale": 64.0}
    features = 3 * torch.randn(STEPS, BATCH, DIM, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (STEPS, BATCH))
    weight = torch.randn(CLASSES, DIM, dtype=torch.float64)
    tree |= {"features": features.tolist(), "labels": labels.tolist(), "weight": weight.tolist()}
    for compensate in (True, False):
        head = module.BroadFaceArcFace(DIM, CLASSES, queue_size=QUEUE, compensate=compensate).double()
        head.weight.data.copy_(weight)
        steps = []
        for feature, label in zip(features, labels, strict=True):
            feature = feature.clone().requires_grad_()
            head.zero_grad()
            loss = head(feature, label)
            loss.backward()
            steps.append(
                {"loss": float(loss.detach()), "grad_features": feature.grad.tolist(), "grad_weight": head.weight.grad.tolist()}
            )
            head.weight.data.sub_(head.weight.grad, alpha=RATE)
        tree["compensated" if compensate else "plain"] = steps
    (Path(__file__).parent / "broadface.json").write_text(json.dumps(tree))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
