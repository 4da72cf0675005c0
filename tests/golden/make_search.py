"""Makes search.npz with AdaFace's own code (c60eaa78): results of 1:N, IJB-S searches and the four fusions.

    python tests/golden/make_search.py ADAFACE_CHECKOUT

Only inputs and results are stored; nothing of the code is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).parents[2]
DIM = 24


def unit(feature_ND):
    return feature_ND / np.linalg.norm(feature_ND, axis=-1, keepdims=True)


def one_to_many(module, published, rng) -> dict[str, np.ndarray]:
    center_SD = rng.normal(size=(120, DIM))
    gallery_GD = unit(center_SD + 0.5 * rng.normal(size=center_SD.shape))
    subject_P = rng.integers(0, 120, 400)
    probe_PD = unit(center_SD[subject_P] + 0.9 * rng.normal(size=(400, DIM)))
    with published.quiet() as printed:
        top = module.evaluation(probe_PD, gallery_GD, module.gen_mask(subject_P, np.arange(120)))
    read = re.findall(r"far = (\S+) pr = (\S+) th = (\S+)", printed.getvalue())
    return {
        "n_probe": probe_PD, "n_subject": subject_P, "n_gallery": gallery_GD,
        "n_top": np.array([top["top1"], top["top5"], top["top10"]]), "n_read": np.array(read, dtype=np.float64),
    }  # fmt: skip


def ijbs(module, rng) -> dict[str, np.ndarray]:
    center_SD = rng.normal(size=(60, DIM))
    subject_1, subject_2 = np.arange(0, 25), np.arange(25, 50)
    gallery_1, gallery_2 = (unit(center_SD[who] + 0.4 * rng.normal(size=(25, DIM))) for who in (subject_1, subject_2))
    subject_P = rng.integers(0, 60, 500)
    probe_PD = unit(center_SD[subject_P] + 0.9 * rng.normal(size=(500, DIM)))
    tester = module.IJBSTest()
    tester.compare_func = lambda x1, x2: np.dot(np.array(x1), np.array(x2).T)
    sides = [
        [SimpleNamespace(feature=feature_D, subject_id=int(subject)) for feature_D, subject in zip(*side, strict=True)]
        for side in ((probe_PD, subject_P), (gallery_1, subject_1), (gallery_2, subject_2))
    ]
    closed, opened = tester.identification(*(np.array(side, dtype=object) for side in sides))
    return {
        "s_probe": probe_PD, "s_subject": subject_P, "s_gallery": np.concatenate([gallery_1, gallery_2]),
        "s_closed": closed, "s_open": opened,
    }  # fmt: skip


def fusions(module, rng) -> dict[str, np.ndarray]:
    import torch

    feature_2ND = torch.from_numpy(rng.normal(size=(2, 50, DIM)).astype(np.float32) * 5)
    norm_2N1 = feature_2ND.norm(dim=2, keepdim=True)
    stored = {"f_features": feature_2ND.numpy()}
    for method in ("pre_norm_vector_add", "norm_weighted_avg", "average", "concat"):
        fused, norm = module.fuse_features_with_norm(feature_2ND / norm_2N1, norm_2N1, method)
        stored |= {f"f_{method}": fused.numpy(), f"f_{method}_norm": norm.numpy()}
    return stored


def main() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import published

    mixed, low = Path(sys.argv[1]) / "validation_mixed", Path(sys.argv[1]) / "validation_lq"
    rng = np.random.default_rng(7)
    helper = published.load(mixed / "insightface_ijb_helper/eval_helper_identification.py")
    stand_in = published.StandIn
    script = published.load(
        mixed / "validate_IJB_BC.py",
        net=stand_in("net"),
        validation_mixed__insightface_ijb_helper__dataloader=stand_in("dataloader"),
        validation_mixed__insightface_ijb_helper=stand_in("insightface_ijb_helper"),
    )
    arrays = {
        **one_to_many(helper, published, rng),
        **ijbs(published.load(low / "PFE/ijbs.py"), rng),
        **fusions(script, rng),
    }
    np.savez_compressed(Path(__file__).with_name("search.npz"), **arrays)


if __name__ == "__main__":
    main()
